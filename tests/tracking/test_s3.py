"""Artifacts in an S3-compatible store, behind a tracking server that hands them on."""

from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from servers import MlflowServer, free_port

from bench.tracking.opening import open_run
from bench.tracking.runs import Identity
from bench.tracking.store import open_store

KEYS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture
def bucket():
    """Address of an S3 on loopback, and a client of it."""
    boto3 = pytest.importorskip("boto3", reason="the extra s3 is not installed")
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    listening = moto.ThreadedMotoServer("127.0.0.1", free_port(), verbose=False)
    listening.start()
    address = "http://{}:{}".format(*listening.get_host_and_port())
    client = boto3.client(
        "s3",
        endpoint_url=address,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="bench")
    yield address, client
    listening.stop()


def test_a_server_hands_artifacts_on_and_clients_need_no_keys(bucket, tmp_path, monkeypatch):
    address, s3 = bucket
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    server = MlflowServer(
        tmp_path / "server",
        f"sqlite:///{tmp_path}/mlflow.db",
        environment=KEYS | {"MLFLOW_S3_ENDPOINT_URL": address},
    )
    where = server.command.index("--artifacts-destination") + 1
    server.command[where] = "s3://bench/runs"
    server.start()
    try:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        weights = tmp_path / "weights.bin"
        weights.write_bytes(np.random.default_rng(0).bytes(3 * 2**20))
        with open_run(open_store(), Identity("finetune", {}, {})) as run:
            run.log_file(weights, "checkpoint")
            run.log_text("kept", "kept.txt")
        client = MlflowClient(tracking_uri=server.uri)
        (tmp_path / "back").mkdir()
        path = client.download_artifacts(run.id, "checkpoint/weights.bin", str(tmp_path / "back"))
    finally:
        server.kill()
    assert Path(path).read_bytes() == weights.read_bytes()
    kept = [item["Key"] for item in s3.list_objects_v2(Bucket="bench")["Contents"]]
    assert sorted(key.split("artifacts/")[1] for key in kept) == [
        "checkpoint/weights.bin",
        "kept.txt",
    ]
    assert all(key.startswith("runs/") for key in kept)
