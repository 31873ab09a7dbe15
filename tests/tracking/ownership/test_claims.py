"""Claims over the store alone: several real processes, each with a work folder of its own."""

import itertools
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
from mlflow.tracking import MlflowClient
from servers import MlflowServer

from bench.tracking.ownership import claims
from bench.tracking.ownership.claims import PREFIX, BusyError, read_claims, take_claim
from bench.tracking.ownership.heartbeat import SignWatch, make_beat

PROCESSES, CELLS = 4, 8
# Does every piece of work that nobody else has, until all is done, as on machines that share
# nothing but the store.
WORK = """
import pathlib, sys, time
from bench.tracking.ownership.claims import BusyError
from bench.tracking.opening import open_run
from bench.tracking.runs import Identity
from bench.tracking.store import Store, open_store

folder, number, cells = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
Store.work_folder = lambda self, fingerprint: folder / f"machine{number}" / fingerprint[:20]
store = open_store()
open_run(store, Identity("warm", {"number": number}, {})).finish("FINISHED")
(folder / f"ready{number}").touch()
while not (folder / "go").exists():
    time.sleep(0.01)
pending = list(range(cells))
while pending:
    for cell in list(pending):
        try:
            run = open_run(store, Identity("cell", {"number": cell}, {}))
        except BusyError:
            continue
        pending.remove(cell)
        if run.reused:
            continue
        with run:
            with (folder / "done").open("a") as file:
                file.write(f"{cell} {number} {run.state}\\n")
            time.sleep(0.2)
            if len(sys.argv) > 4:
                time.sleep(600)
    time.sleep(0.05)
"""


@pytest.fixture(params=["SQLite", "PostgreSQL", "a server on PostgreSQL"])
def shared_store(request, tmp_path):
    """A store that several machines write to, in one of the ways that there are."""
    if request.param == "SQLite":
        yield request.getfixturevalue("store")
        return
    store = request.getfixturevalue("postgres_store")
    if request.param == "PostgreSQL":
        yield store
        return
    server = MlflowServer(tmp_path / "server", store.uri)
    client = MlflowClient(tracking_uri=server.start().uri)
    yield replace(store, client=client, uri=server.uri)
    server.kill()


@pytest.fixture
def start(shared_store, start_process, python_environment, tmp_path):
    """Starts a process that works."""
    store = shared_store
    environment = python_environment | {
        "MLFLOW_TRACKING_URI": store.uri,
        "MLFLOW_EXPERIMENT_ID": store.experiment_id,
    }
    started = []

    def start(number, cells=CELLS, *more):
        command = [sys.executable, "-c", WORK, str(tmp_path), str(number), str(cells), *more]
        started.append(start_process(command, env=environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_for(condition):
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it never came")


def test_every_cell_is_done_once_by_several_processes(shared_store, start, tmp_path):
    processes = [start(number) for number in range(PROCESSES)]
    wait_for(lambda: len(list(tmp_path.glob("ready*"))) == PROCESSES)
    (tmp_path / "go").touch()
    assert [process.wait() for process in processes] == [0] * PROCESSES
    done = [line.split() for line in (tmp_path / "done").read_text().splitlines()]
    assert sorted(int(cell) for cell, _, _ in done) == list(range(CELLS))
    assert len({number for _, number, _ in done}) > 1, "they shared the work"
    runs = shared_store.client.search_runs(
        [shared_store.experiment_id], "tags.`bench.step` = 'cell'"
    )
    assert [run.info.status for run in runs] == ["FINISHED"] * CELLS
    assert read_claims(shared_store) == {}


def test_what_a_killed_process_held_is_taken_over_and_resumed(shared_store, start, tmp_path):
    (tmp_path / "go").touch()
    holder = start("holder", 1, "and hold it")
    wait_for((tmp_path / "done").exists)
    other = start("other", 1)
    wait_for((tmp_path / "readyother").exists)
    time.sleep(0.5)
    assert other.poll() is None, "it waits"
    holder.kill()
    holder.wait()
    assert other.wait() == 0
    assert (tmp_path / "done").read_text() == "0 holder new\n0 other resumed\n"
    (run,) = shared_store.client.search_runs(
        [shared_store.experiment_id], "tags.`bench.step` = 'cell'"
    )
    assert run.info.status == "FINISHED"


def put(store, key, beat):
    store.client.set_experiment_tag(store.experiment_id, f"{PREFIX}work.{key}", beat.text())


@pytest.fixture
def far():
    beat = make_beat(1)
    return replace(beat, holder=replace(beat.holder, host="far", boot="far", machine="far"))


def test_a_claim_from_afar_expires_when_it_was_seen_silent(store, far):
    clock = itertools.count(0, 40)
    store.watch.clock, store.watch.expiry_s = clock.__next__, 100
    put(store, "x", far)
    for _ in range(3):
        with pytest.raises(
            BusyError, match=r"doing this finetune now \(process \d+ on far\): wait"
        ):
            take_claim(store, "work", "finetune")
    claim = take_claim(store, "work", "finetune")
    assert list(read_claims(store)) == [claim.key]
    claim.release()


def test_who_draws_a_ticket_for_too_long_is_left_the_work(store, far, monkeypatch):
    monkeypatch.setattr(claims, "DRAWING_S", 0.2)
    put(store, "x", replace(far, ticket=0))
    with pytest.raises(BusyError):
        take_claim(store, "work", "finetune")
    assert list(read_claims(store)) == [f"{PREFIX}work.x"]


class SlowStore:
    """Tags of an experiment in memory; every call takes a random moment, before and after."""

    experiment_id, watch = "0", SignWatch()

    def __init__(self, seed):
        self.tags, self.client, self.random = {}, self, random.Random(seed)

    def pause(self):
        # Now and then one is overtaken by everything that another does.
        time.sleep(self.random.choice([0, 0, 0, 0.001, 0.01]))

    def get_experiment(self, _):
        self.pause()
        tags = dict(self.tags)
        self.pause()
        return SimpleNamespace(tags=tags)

    def set_experiment_tag(self, _, key, text):
        self.pause()
        self.tags[key] = text
        self.pause()

    def delete_experiment_tag(self, _, key):
        self.pause()
        del self.tags[key]


def test_however_their_calls_fall_together_no_two_have_it(monkeypatch):
    monkeypatch.setattr(claims, "CLAIM_POLL_S", 0.001)

    def contend(store, holders):
        for _ in range(3):
            try:
                claim = take_claim(store, "work", "finetune")
            except BusyError:
                continue
            holders.append(1)
            time.sleep(0.03)
            assert len(holders) == 1
            holders.pop()
            claim.release()
            return 1
        return 0

    won = 0
    with ThreadPoolExecutor(4) as threads:
        for seed in range(80):
            holders = []
            store = SlowStore(seed)
            rounds = [threads.submit(contend, store, holders) for _ in range(4)]
            won += sum(one.result() for one in rounds)
    assert won >= 80


def test_a_released_claim_is_not_written_again(store):
    claim = take_claim(store, "work", "finetune")
    assert list(read_claims(store)) == [claim.key]
    claim.release()
    claim.beat()
    assert read_claims(store) == {}
