import hashlib

import pytest

from bench.core.hashing import file_sha256, json_sha256


def test_file(tmp_path):
    content = b"synapse" * 100_000
    (tmp_path / "a").write_bytes(content)
    assert file_sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_json_is_canonical():
    assert json_sha256({"b": 1, "a": [1, "é"]}) == json_sha256({"a": (1, "é"), "b": 1})
    assert json_sha256([1, 2]) != json_sha256([2, 1])
    assert json_sha256({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_sha256(float("nan"))
