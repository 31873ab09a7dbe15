import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from bench.tracking.opening import open_run
from bench.tracking.ownership import heartbeat
from bench.tracking.ownership.claims import read_claims
from bench.tracking.ownership.heartbeat import HEARTBEAT_TAG, make_beat, read_beat
from bench.tracking.ownership.stale import reap
from bench.tracking.runs import STALE_TAG, Identity

HOLD_A_RUN = """
import sys, time
from bench.tracking.opening import open_run
from bench.tracking.runs import Identity
from bench.tracking.store import open_store
run = open_run(open_store(), Identity("finetune", {}, {}))
(run.work / "state").write_text("half")
print(run.id, flush=True)
time.sleep(600)
"""


@pytest.fixture
def killed(store, python_environment):
    """Id of a run whose process was killed."""
    environment = python_environment | {
        "MLFLOW_TRACKING_URI": store.uri,
        "MLFLOW_EXPERIMENT_ID": store.experiment_id,
    }
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_A_RUN], env=environment, stdout=subprocess.PIPE, text=True
    ) as other:
        run_id = other.stdout.readline().strip()
        assert reap(store) == []
        other.kill()
    return run_id


def test_a_killed_run_is_found_marked_and_resumed(store, killed, caplog):
    before = store.client.get_run(killed)
    with caplog.at_level("INFO"):
        assert reap(store) == [killed]
    (line,) = [line for line in caplog.messages if line.startswith("stale: ")]
    assert line.startswith(f"stale: finetune (run {killed}): its process ")
    run = store.client.get_run(killed)
    last = read_beat(before.data.tags[HEARTBEAT_TAG])
    assert run.info.status == "KILLED"
    assert run.info.end_time == int(last.time * 1000)
    assert run.data.tags["bench.reason"] == run.data.tags[STALE_TAG]
    assert f"{last.holder.pid} on {last.holder.host} is gone, last sign of life 2" in line
    assert read_claims(store) == {}
    assert reap(store) == []

    with open_run(store, Identity("finetune", {}, {})) as again:
        assert (again.id, again.state) == (killed, "resumed")
        assert (again.work / "state").read_text() == "half"
        tags = store.client.get_run(killed).data.tags
        assert not {STALE_TAG, "bench.reason"} & tags.keys()
        assert reap(store) == []


def test_a_killed_run_whose_clock_was_set_back_does_not_end_before_it_began(store, killed):
    beat = read_beat(store.client.get_run(killed).data.tags[HEARTBEAT_TAG])
    store.client.set_tag(killed, HEARTBEAT_TAG, replace(beat, time=beat.time - 3600).text())
    assert reap(store) == [killed]
    info = store.client.get_run(killed).info
    assert info.end_time == info.start_time


def test_without_resume_it_is_begun_anew(store, killed):
    reap(store)
    store.resume = False
    with open_run(store, Identity("finetune", {}, {})) as run:
        assert (run.state, run.id != killed) == ("new", True)
        assert not (run.work / "state").exists()
    assert store.client.get_run(killed).info.status == "KILLED"
    assert open_run(store, Identity("finetune", {}, {})).id == run.id


def test_a_run_that_gives_no_signs_is_left_alone(store, record):
    record(status="RUNNING")
    record(status="RUNNING", tags={HEARTBEAT_TAG: "of another tool"})
    assert reap(store) == []


def test_signs_of_earlier_versions_are_read(store, record):
    """They were under a name that the UI shows."""
    beat = make_beat()
    dead = replace(beat, holder=replace(beat.holder, started="1"))
    alive = record(status="RUNNING", tags={"bench.heartbeat": beat.text()})
    gone = record(status="RUNNING", tags={"bench.heartbeat": dead.text()})
    assert reap(store) == [gone]
    assert store.client.get_run(alive).info.status == "RUNNING"


def test_one_that_was_taken_up_meanwhile_is_left_alone(store, record, monkeypatch):
    dead = make_beat()
    dead = replace(dead, holder=replace(dead.holder, started="1"))
    run_id = record(status="RUNNING", tags={HEARTBEAT_TAG: dead.text()})

    looks = iter([True, False])
    monkeypatch.setattr(store.watch, "is_stale", lambda *_: next(looks))
    assert reap(store) == []
    assert store.client.get_run(run_id).info.status == "RUNNING"


def test_an_open_run_gives_signs_of_life(store, monkeypatch):
    monkeypatch.setattr(heartbeat, "SIGN_INTERVAL_S", 0.05)
    with open_run(store, Identity("finetune", {}, {})) as run:
        first = store.client.get_run(run.id).data.tags[HEARTBEAT_TAG]
        second, pause = first, threading.Event()
        for _ in range(100):
            pause.wait(0.05)
            second = store.client.get_run(run.id).data.tags[HEARTBEAT_TAG]
            if second != first:
                break
        assert read_beat(second).time > read_beat(first).time
    assert not [t for t in threading.enumerate() if t.name == "heartbeat"]
