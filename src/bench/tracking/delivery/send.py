"""Sends what runs could not: ``PYTHONPATH=src python -m bench.tracking.delivery.send``.

The store is the one that MLFLOW_TRACKING_URI names. Runs that go on send what is theirs.
"""

import contextlib
import fcntl
import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.errors import BenchError
from bench.tracking.delivery.outbox import LATE_TAG, Outbox
from bench.tracking.delivery.spool import Spool
from bench.tracking.store import Store, open_store, without_password

log = logging.getLogger(__name__)


def send_all(store: Store) -> int:
    """Sends what is left of all runs of a store that no process works at; returns how many."""
    runs = 0
    for folder in sorted(store.work.iterdir()) if store.work.exists() else []:
        with _held(folder) as mine:
            if mine and (run_id := waiting_run(store, folder)):
                _send_run(store, folder, run_id)
                runs += 1
    return runs


def waiting_run(store: Store, work: Path) -> str:
    """Id of the run of this store that has something left in a work folder, else empty."""
    spool = Spool(work)
    spool.repair()
    owner = spool.owner() if spool.waiting else {}
    return owner["run_id"] if owner.get("store") == without_password(store.uri) else ""


def _send_run(store: Store, work: Path, run_id: str) -> None:
    found = store.client.get_run(run_id)
    Outbox(store, run_id, work, found.data.tags.get(LATE_TAG, "")).wait(store.patience_s)
    status = store.client.get_run(run_id).info.status
    log.info("run %s: sent, %s", run_id, status)
    if status == "FINISHED":
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Holds the lock of a work folder; yields whether no other process does."""
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        log.info("runs that had something left to send: %d", send_all(open_store()))
    except BenchError as error:
        sys.exit(f"error: {error}")
