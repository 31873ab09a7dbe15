import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import dask
import distributed  # noqa: F401  (has the settings that are read)
import pytest

from bench.cluster.child import RUNNING, THREADS, attempt, run_child, stop_children
from bench.cluster.graph import Outcome
from bench.errors import BenchError

# What a child may be told; it says much on stdout first.
CHILD = """
import os, sys, time
from bench.cluster.child import answer_parent
from bench.cluster.graph import Outcome

def do(payload):
    print("noise", flush=True)
    open(payload["pid"], "w").write(str(os.getpid()))
    time.sleep(payload.get("sleep", 0))
    if payload.get("die"):
        os._exit(3)
    if payload.get("be killed"):
        os.kill(os.getpid(), 9)
    return Outcome("done", {name: os.environ.get(name) for name in payload.get("names", ())})

if __name__ == "__main__":
    answer_parent(do)
"""
# A worker, which has a child.
WORKER = """
import sys
from bench.cluster.child import run_child
run_child("a_child", {"pid": sys.argv[1], "sleep": 600})
"""


@pytest.fixture
def environment(monkeypatch, python_environment, tmp_path):
    (tmp_path / "a_child.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("MLFLOW_RUN_ID", "of the benchmark")
    source = python_environment["PYTHONPATH"]
    return python_environment | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{source}"}


def wait_for(path: Path) -> int:
    for _ in range(600):
        if path.exists() and path.read_text():
            return int(path.read_text())
        time.sleep(0.05)
    raise AssertionError("no child")


def test_the_answer_is_the_last_line_and_nothing_is_inherited_that_is_the_workers(
    environment, monkeypatch, tmp_path
):
    of_dask = dask.config.get("distributed.nanny.pre-spawn-environ")
    for name, value in of_dask.items():
        monkeypatch.setenv(name, str(value))
    names = ["MLFLOW_RUN_ID", *of_dask]
    outcome = run_child("a_child", {"pid": str(tmp_path / "pid"), "names": names}, 3)
    expected = dict.fromkeys(names) | dict.fromkeys(THREADS, "3")
    assert (outcome.state, outcome.value) == ("done", expected)
    assert not RUNNING


def test_a_child_that_dies_is_a_failure(environment, tmp_path):
    outcome = run_child("a_child", {"pid": str(tmp_path / "pid"), "die": True})
    assert (outcome.state, outcome.reason) == ("failed", "its process ended with status 3")


def test_a_child_that_is_killed_says_so(environment, tmp_path):
    outcome = run_child("a_child", {"pid": str(tmp_path / "pid"), "be killed": True})
    assert (outcome.state, outcome.reason) == (
        "killed",
        "its process was killed, as it is without memory",
    )


def test_children_are_told_to_end_by_their_owner(environment, tmp_path):
    outcomes, payload = [], {"pid": str(tmp_path / "pid"), "sleep": 600}
    thread = threading.Thread(
        target=lambda: outcomes.append(run_child("a_child", payload, owner="one"))
    )
    thread.start()
    wait_for(tmp_path / "pid")
    assert stop_children("another") == 0
    assert stop_children("one") == 1
    thread.join(10)
    assert outcomes[0].reason == f"its process ended with status {-signal.SIGTERM}"
    assert stop_children("one") == 0


def test_a_child_ends_with_its_worker(environment, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path / "pid")], env=environment
    ) as worker:
        child = wait_for(tmp_path / "pid")
        worker.kill()
    for _ in range(200):
        if not Path(f"/proc/{child}").exists():
            return
        time.sleep(0.05)
    raise AssertionError("the child lives on")


class TakenError(BenchError):
    """Somebody else does it."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TakenError("later"), Outcome("busy", reason="later")),
        (BenchError("no such file"), Outcome("failed", reason="no such file")),
        (ZeroDivisionError("by zero"), Outcome("failed", reason="ZeroDivisionError: by zero")),
    ],
)
def test_what_goes_wrong_is_the_outcome(error, expected):
    def fail():
        raise error

    assert attempt(fail, "it", (TakenError,)) == expected
    assert attempt(lambda: 7, "it") == Outcome("done", 7)
