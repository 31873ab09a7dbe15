import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import dask
import distributed  # noqa: F401  (has the settings that are read)
import pytest

from bench.cluster import warm
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
    facts = {"own": os.getpid(), "from": os.getppid(), "modules": sorted(sys.modules)}
    kept = {name: facts[name] for name in payload.get("facts", ())}
    return Outcome("done", kept | {name: os.environ.get(name) for name in payload.get("names", ())})

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


def wait_for_end(pid: int) -> None:
    """Waits until a process is gone, or nobody has asked yet how it ended."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.05)
    raise AssertionError(f"process {pid} lives on")


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
    wait_for_end(child)


def ask(tmp_path: Path, preload: tuple[str, ...] = ()) -> dict[str, Any]:
    facts = {"pid": str(tmp_path / "pid"), "facts": ["own", "from", "modules"]}
    outcome = run_child("a_child", facts, preload=preload)
    assert outcome.state == "done", outcome
    return outcome.value


def test_children_are_forked_of_one_process_that_has_imported_what_they_need(environment, tmp_path):
    first, second = (ask(tmp_path, ("colorsys",)) for _ in range(2))
    assert first["own"] != second["own"]
    assert first["from"] == second["from"] != os.getpid()
    assert "colorsys" in first["modules"]


@pytest.mark.parametrize("changed", ["environment", "sources"])
def test_what_was_imported_is_not_of_another_environment_or_source(
    changed, environment, monkeypatch, tmp_path
):
    first = ask(tmp_path)
    if changed == "environment":
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    else:
        monkeypatch.setattr(warm, "_SOURCE", tmp_path)
        (tmp_path / "bench").mkdir()
        (tmp_path / "bench" / "new.py").touch()
    assert ask(tmp_path)["from"] != first["from"]
    wait_for_end(first["from"])


def test_where_threads_would_be_lost_each_imports_anew_and_that_is_said(
    environment, tmp_path, capfd
):
    """The answer is a fresh Python's: it knows nothing of what was imported before."""
    (tmp_path / "threaded.py").write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(600,), name='sends', daemon=True).start()\n"
    )
    assert "threaded" not in ask(tmp_path, ("threaded",))["modules"]
    said = capfd.readouterr().err
    assert "each task imports everything anew: threads that would be lost" in said
    assert "(sends)" in said


def test_a_child_is_killed_with_what_it_was_forked_of_and_the_next_has_another(
    environment, tmp_path
):
    outcomes, payload = [], {"pid": str(tmp_path / "pid"), "sleep": 600}
    thread = threading.Thread(target=lambda: outcomes.append(run_child("a_child", payload)))
    thread.start()
    child = wait_for(tmp_path / "pid")
    (of,) = [each.parent for each in RUNNING]
    os.kill(of, signal.SIGKILL)
    thread.join(10)
    assert outcomes[0].state == "killed"
    wait_for_end(child)
    assert ask(tmp_path)["from"] != of


def test_its_memory_is_given_back_when_there_is_nothing_to_do(environment, monkeypatch, tmp_path):
    monkeypatch.setattr(warm, "_IDLE_S", 0.1)
    # Another than an earlier test left, which waits for longer.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "8")
    first = ask(tmp_path)["from"]
    wait_for_end(first)
    assert ask(tmp_path)["from"] != first


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
