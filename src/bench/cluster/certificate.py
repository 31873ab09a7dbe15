"""The certificate by which the processes of a cluster of this machine know each other."""

from datetime import datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from distributed.security import Security

_NAME = "synapse-bench"
# The key lies in the memory of one benchmark and ends with it. A certificate that begins now, as
# dask's own does, lets no worker in after the clock was set back.
_FIRST, _LAST = datetime(1970, 1, 1), datetime(9999, 12, 31)


def make_security() -> "Security":
    """Makes a new key, and what dask needs to let in only those who have it."""
    from distributed.security import Security

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
    certificate = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_FIRST)
        .not_valid_after(_LAST)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
        .decode()
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    roles = ("client", "scheduler", "worker")
    return Security(
        require_encryption=True,
        tls_ca_file=certificate,
        **{f"tls_{role}_key": secret for role in roles},
        **{f"tls_{role}_cert": certificate for role in roles},
    )
