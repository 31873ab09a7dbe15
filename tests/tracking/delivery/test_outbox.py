"""What a run logs while its store is away: kept in order, sent later, once."""

import errno
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import requests
from matplotlib.figure import Figure
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ErrorCode

from bench.errors import BenchError
from bench.tracking.delivery import outbox, spool
from bench.tracking.delivery.outbox import LATE_TAG
from bench.tracking.delivery.send import send_all
from bench.tracking.delivery.spool import batch, may_pass, send
from bench.tracking.opening import open_run
from bench.tracking.ownership.heartbeat import HEARTBEAT_TAG
from bench.tracking.runs import Identity

IDENTITY = Identity("finetune", {}, {}, method="scratch", seed=0)
AWAY = MlflowException("no answer", ErrorCode.Value("TEMPORARILY_UNAVAILABLE"))

# Logs to a store that is away, until it is killed.
LOG_AND_DIE = """
import os, signal
from mlflow.exceptions import MlflowException
from bench.tracking.delivery import outbox
from bench.tracking.opening import open_run
from bench.tracking.runs import Identity
from bench.tracking.store import open_store
run = open_run(open_store(), Identity("finetune", {}, {}, method="scratch", seed=0))
run.log_metrics({"loss": 1.0}, 1)
def away(*_):
    raise MlflowException("no answer")
outbox.send = away
run.log_metrics({"loss": 0.5}, 2)
run.log_metrics({"loss": 0.25}, 3)
(run.work / "best.json").write_text("{}")
run.log_file(run.work / "best.json", "checkpoint")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def away(monkeypatch):
    """Takes the store away from the runs of this process, and brings it back."""

    def leave(error=AWAY):
        def fail(*_):
            raise error

        monkeypatch.setattr(outbox, "send", fail)

    def come_back():
        monkeypatch.setattr(outbox, "send", send)

    leave.over = come_back
    return leave


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(outbox, "FIRST_PAUSE_S", 0.01)


def log_everything(run, folder):
    """A write of every kind."""
    run.log_params({"lr": 0.1, "name": "ä\nb"})
    run.log_metrics({"loss": 1.0, "odd": math.nan}, 1)
    run.log_series([(step, {"loss": 1 / step}) for step in range(2, 1502)])
    run.set_tags({"bench.note": "x"})
    run.keep_warnings(["first"])
    run.keep_warnings(["second", "first"])
    (folder / "kept.txt").write_text("kept")
    run.log_file(folder / "kept.txt", "files")
    (folder / "kept.txt").write_text("changed since")
    run.log_text("a,b\n", "table.csv")
    run.log_figure(Figure(), "figure.png")
    picture = np.zeros((8, 8, 3), np.uint8)
    run.log_image(picture, key="val/s1", step=25)
    run.log_image_table({"s1": picture}, {"s1": 0.5})
    run.log_dataset(name="tiny", path=folder, digest="d" * 64, context="training")


def content(store, run_id):
    """All that a store has of a run, without what is another in every run."""
    found = store.client.get_run(run_id)
    history = {
        name: sorted((m.step, repr(m.value)) for m in store.client.get_metric_history(run_id, name))
        for name in found.data.metrics
    }
    own = {LATE_TAG, HEARTBEAT_TAG}
    tags = {name: value for name, value in found.data.tags.items() if name not in own}
    folder = Path(found.info.artifact_uri)
    # The names of images are made of the time and a random number.
    files = sorted((p.parent.relative_to(folder), p.stat().st_size) for p in folder.rglob("*.*"))
    assert len(files) > 6
    datasets = [(one.dataset.name, one.tags[0].value) for one in found.inputs.dataset_inputs]
    return found.info.status, history, found.data.params, tags, files, datasets


def test_nothing_is_lost_and_the_run_says_so(store, away, tmp_path, caplog):
    with open_run(store, IDENTITY, reuse=False) as undisturbed:
        log_everything(undisturbed, tmp_path)
    with open_run(store, IDENTITY, reuse=False) as run:
        away()
        log_everything(run, tmp_path)
        assert store.client.get_run(run.id).data.metrics == {}
        assert "it is kept in" in caplog.text
        time.sleep(1.1)
        away.over()
    assert content(store, run.id) == content(store, undisturbed.id)
    (kept,) = (run_file for run_file in store.client.list_artifacts(run.id, "files"))
    assert kept.file_size == len("kept")
    assert store.client.get_run(run.id).data.tags[LATE_TAG].split(", ")[0].split()[1] == "writes"
    assert LATE_TAG not in store.client.get_run(undisturbed.id).data.tags
    assert not run.work.exists()


def count_late(tags: dict[str, str]) -> int:
    """How many writes came late; how many seconds late is a matter of the machine."""
    found = re.fullmatch(r"(\d+) writes, at most \d+ s late", tags[LATE_TAG])
    assert found, tags[LATE_TAG]
    return int(found[1])


def test_a_store_that_comes_back_gets_everything_in_order_while_the_run_goes_on(store, away):
    with open_run(store, IDENTITY) as run:
        run.set_tags({"bench.note": "1"})
        away()
        run.set_tags({"bench.note": "2"})
        run.set_tags({"bench.note": "3"})
        away.over()
        time.sleep(0.1)
        run.set_tags({"bench.note": "4"})
        tags = store.client.get_run(run.id).data.tags
        assert tags["bench.note"] == "4"
        assert count_late(tags) == 3
        assert not run.outbox.spool.waiting
        away()
        run.set_tags({"bench.note": "5"})
        away.over()
    tags = store.client.get_run(run.id).data.tags
    # The end of the run waited as well.
    assert (tags["bench.note"], count_late(tags)) == ("5", 5)


def test_metrics_keep_the_time_at_which_they_were_logged(store, away):
    with open_run(store, IDENTITY) as run:
        away()
        run.log_metrics({"loss": 1.0}, 7)
        logged = time.time() * 1000
        time.sleep(0.5)
        away.over()
    (metric,) = store.client.get_metric_history(run.id, "loss")
    assert (metric.step, metric.value) == (7, 1.0)
    assert logged - 400 < metric.timestamp <= logged


def test_what_is_sent_twice_counts_once(store, away, tmp_path, monkeypatch):
    """A process that dies after it sent a write, and before it noted so, sends it again."""
    with open_run(store, IDENTITY, reuse=False) as undisturbed:
        log_everything(undisturbed, tmp_path)
    with open_run(store, IDENTITY, reuse=False) as run:
        away()
        log_everything(run, tmp_path)
        away.over()
        for write in run.outbox.spool.pending():
            send(store.client, run.id, write)
        run.outbox.spool._position.unlink()
    assert content(store, run.id) == content(store, undisturbed.id)


def test_a_store_that_stays_away_is_one_error_and_the_same_command_finishes(store, away, caplog):
    store.patience_s = 0.2
    run = open_run(store, IDENTITY)
    away()
    run.log_metrics({"loss": 1.0}, 1)
    with pytest.raises(BenchError, match=r"nothing is lost; 2 writes are kept in .*writes\.jsonl"):
        run.finish("FINISHED")
    assert "waiting for it, at most 0 s more" in caplog.text
    assert store.client.get_run(run.id).info.status == "RUNNING"
    with pytest.raises(BenchError, match="nothing is lost"):
        open_run(store, IDENTITY)
    away.over()
    again = open_run(store, IDENTITY)
    assert (again.id, again.state) == (run.id, "reused")
    assert store.client.get_run(run.id).data.metrics == {"loss": 1.0}
    assert not run.work.exists()


def test_a_run_that_fails_meanwhile_does_not_wait(store, away, caplog):
    run = open_run(store, IDENTITY)
    away()
    with pytest.raises(BenchError, match="no more"), run:
        raise BenchError("no more")
    assert "2 writes are kept in" in caplog.text
    away.over()
    with open_run(store, IDENTITY) as again:
        assert (again.id, again.state) == (run.id, "resumed")
        tags = store.client.get_run(run.id).data.tags
        assert "bench.reason" not in tags
        assert tags[LATE_TAG].startswith("2 writes")


def test_a_process_that_is_killed_meanwhile_leaves_everything_it_logged(store, python_environment):
    environment = python_environment | {
        "MLFLOW_TRACKING_URI": store.uri,
        "MLFLOW_EXPERIMENT_ID": store.experiment_id,
    }
    died = subprocess.run([sys.executable, "-c", LOG_AND_DIE], env=environment, check=False)
    assert died.returncode == -signal.SIGKILL
    with open_run(store, IDENTITY) as run:
        assert run.state == "resumed"
        assert run.last_step("loss") == 3
        assert [file.path for file in store.client.list_artifacts(run.id, "checkpoint")]
    steps = [metric.step for metric in store.client.get_metric_history(run.id, "loss")]
    assert sorted(steps) == [1, 2, 3]
    assert store.client.get_run(run.id).data.tags[LATE_TAG].startswith("3 writes")


def test_the_command_sends_what_is_left_of_runs_that_nobody_works_at(
    store, away, python_environment
):
    store.patience_s = 0
    left = open_run(store, IDENTITY, reuse=False)
    busy = open_run(store, replace(IDENTITY, seed=1), reuse=False)
    away()
    busy.log_metrics({"loss": 2.0})
    left.log_metrics({"loss": 1.0})
    with pytest.raises(BenchError, match=r"bench\.tracking\.delivery\.send"):
        left.finish("FINISHED")
    away.over()
    sent = subprocess.run(
        [sys.executable, "-m", "bench.tracking.delivery.send"],
        env=python_environment | {"MLFLOW_TRACKING_URI": store.uri},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"run {left.id}: sent, FINISHED" in sent.stderr
    assert "runs that had something left to send: 1" in sent.stderr
    found = store.client.get_run(left.id)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"loss": 1.0})
    assert not left.work.exists()
    busy.finish("FINISHED")
    assert store.client.get_run(busy.id).data.metrics == {"loss": 2.0}
    assert send_all(store) == 0


def test_what_is_left_of_a_deleted_run_is_removed(store, away):
    run = open_run(store, IDENTITY)
    away()
    run.log_text("x", "x.txt")
    run.close()
    away.over()
    store.client.delete_run(run.id)
    with open_run(store, IDENTITY) as fresh:
        assert (fresh.state, fresh.work) == ("new", run.work)
        assert not fresh.outbox.spool.folder.exists()
    assert store.client.list_artifacts(fresh.id) == []


def test_what_the_store_refuses_is_an_error_at_once(store):
    run = open_run(store, IDENTITY)
    with pytest.raises(MlflowException, match="refused-name"), run:
        run.log_metrics({"refused-name!": 1.0})
    assert not run.outbox.spool.waiting


@pytest.mark.parametrize("torn", [b'{"kind": "ba', b""])
def test_half_a_line_of_a_killed_process_is_cut_off(tmp_path, torn):
    kept = spool.Spool(tmp_path)
    kept.append(batch(), run_id="r", store="s")
    with kept.file.open("ab") as file:
        file.write(torn)
    again = spool.Spool(tmp_path)
    again.repair()
    again.append(batch(), run_id="r", store="s")
    assert len(list(again.pending())) == 2
    kept.file.write_bytes(b'{"run_id": "r"}\n' + torn)
    again.repair()
    assert not again.waiting


def test_a_full_disk_leaves_whole_lines(tmp_path, monkeypatch):
    kept = spool.Spool(tmp_path)
    kept.append(batch(), run_id="r", store="s")
    before = kept.file.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        kept.append(batch(), run_id="r", store="s")
    assert kept.file.read_bytes() == before
    with pytest.raises(OSError, match="No space"):
        spool.Spool(tmp_path / "other").append(batch(), run_id="r", store="s")
    assert not spool.Spool(tmp_path / "other").waiting


def response(status):
    answer = requests.Response()
    answer.status_code = status
    return requests.HTTPError(response=answer)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (MlflowException("API request failed: connection refused"), True),
        (AWAY, True),
        (MlflowException("no such run", ErrorCode.Value("RESOURCE_DOES_NOT_EXIST")), False),
        (MlflowException("log in", ErrorCode.Value("UNAUTHENTICATED")), False),
        (MlflowException("changed", ErrorCode.Value("INVALID_PARAMETER_VALUE")), False),
        (requests.ConnectionError(), True),
        (response(503), True),
        (response(403), False),
        (OSError(errno.ENOSPC, "full"), True),
        (FileNotFoundError(errno.ENOENT, "gone"), False),
        (ValueError("ours"), False),
    ],
)
def test_which_failures_may_pass(error, passes):
    assert may_pass(error) is passes


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a small disk")
def test_a_full_disk_of_artifacts_is_waited_for(store, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no small disk can be made here")
    try:
        store.experiment_id = store.client.create_experiment("small", artifact_location=str(disk))
        large = tmp_path / "large.bin"
        large.write_bytes(bytes(2**21))
        with open_run(store, IDENTITY) as run:
            run.log_file(large)
            run.log_metrics({"loss": 1.0})
            assert run.outbox.spool.waiting
            large.unlink()
            subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        assert store.client.get_run(run.id).data.metrics == {"loss": 1.0}
        (file,) = store.client.list_artifacts(run.id)
        assert file.file_size == 2**21
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_password_is_not_shown(store, away, caplog):
    run = open_run(store, IDENTITY)
    away(MlflowException("API request to https://name:secret@host/api failed"))
    run.log_metrics({"loss": 1.0})
    assert "API request to https://host/api failed" in caplog.text
    assert "secret" not in caplog.text
    away.over()
    run.finish("FINISHED")


def test_every_line_is_json(store, away):
    run = open_run(store, IDENTITY)
    away()
    run.log_metrics({"loss": math.inf})
    lines = [json.loads(line) for line in run.outbox.spool.file.read_text().splitlines()]
    assert lines[0] == {"run_id": run.id, "store": store.uri}
    away.over()
    run.finish("FINISHED")
