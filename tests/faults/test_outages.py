"""The server restarted, the disk full: the grid ends as if undisturbed."""

import contextlib
import subprocess
import sys
from functools import partial
from random import Random

import pytest
from fault_chain import grid_runs
from fault_grid import check_undisturbed, scores
from fault_outages import Outages
from servers import MlflowServer

from bench.tracking.store import open_store

CLUSTERS = ({"cluster": "none"}, {"cluster": "local", "workers": 2})


def run_grid(outages, commands, store, settings, calm):
    """A grid while a fault comes and goes, and what must be true in the end."""
    start = partial(commands.start, "benchmark", store, settings)
    failures = outages.disturb(start, commands.said)
    sys.stderr.write(f"{outages.count} outages, {failures} benchmarks failed meanwhile\n")
    assert outages.count >= 2
    assert scores(settings["output"]) == calm.scores()
    check_undisturbed(store, grid_runs(calm))


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "server"
    made = MlflowServer(folder, f"sqlite:///{folder}/mlflow.db")
    yield made.start()
    made.kill()


@pytest.mark.timeout(0)
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_a_server_that_is_killed_and_started_again(
    kills, calm, grid, commands, server, monkeypatch, tmp_path, cluster
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "restarted")
    store = open_store()

    def start_again():
        if server.process is None:
            server.start()

    outages = Outages(server.kill, start_again, Random(0), (4, 15), (1, 6))
    settings = grid | cluster | {"output": tmp_path / "table"}
    run_grid(outages, commands, store, settings, calm)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 512 MB: weights of the SAM are 37 MB, its state 52 MB, each kept twice."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small file system needs the right to mount one")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(ballast):
    """Leaves nothing of a disk."""
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(2**16))


@pytest.mark.timeout(0)
@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("what", ["artifacts", "everything"])
def test_a_disk_that_is_full(
    kills, calm, grid, commands, small_disk, make_store, tmp_path, what, cluster
):
    folder = small_disk if what == "everything" else tmp_path / "store"
    if what == "artifacts":
        folder.mkdir()
        (folder / "artifacts").symlink_to(small_disk)
    store = make_store(folder)
    ballast = small_disk / "ballast"
    outages = Outages(
        partial(fill, ballast),
        partial(ballast.unlink, missing_ok=True),
        Random(0),
        (3, 10),
        (2, 8),
    )
    settings = grid | cluster | {"output": folder / "table"}
    run_grid(outages, commands, store, settings, calm)
