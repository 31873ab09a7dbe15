import datetime

import pytest

pytest.importorskip("distributed")

from cryptography import x509

from bench.cluster.certificate import make_security


def test_a_certificate_is_valid_wherever_the_clock_is_set():
    (certificate,) = x509.load_pem_x509_certificates(make_security().tls_ca_file.encode())
    now = datetime.datetime.now(datetime.UTC)
    decades = datetime.timedelta(days=3650)
    assert certificate.not_valid_before_utc < now - 4 * decades
    assert certificate.not_valid_after_utc > now + 4 * decades


def test_every_cluster_has_a_key_of_its_own():
    one, other = make_security(), make_security()
    assert one.require_encryption
    assert one.tls_worker_key == one.tls_scheduler_key == one.tls_client_key
    assert one.tls_worker_key != other.tls_worker_key
