"""One process at a time does a piece of work, on whatever machine, and how it holds a run.

The store can neither lock nor compare and swap. Lamport's bakery algorithm needs neither, only
that everyone reads what was written: a contender says that it draws a ticket, draws a higher one
than it sees, waits for those who are drawing, and has the work if no ticket is lower. Claims are
tags of the experiment: ``bench.claim.<work>.<contender>``.

Source: L. Lamport, A new solution of Dijkstra's concurrent programming problem, CACM 17 (1974).
"""

import contextlib
import fcntl
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from bench.errors import BenchError
from bench.tracking.ownership.heartbeat import HEARTBEAT_TAG, Beat, Heart, make_beat, read_beat
from bench.tracking.store import Store

PREFIX = "bench.claim."
# Drawing a ticket takes two calls of the store.
DRAWING_S = 10.0
CLAIM_POLL_S = 0.1


class BusyError(BenchError):
    """Another process does this work at this moment; its result can be had when it is done."""


class _Claim:
    """What this process does alone, until it lets go or dies."""

    def __init__(self, store: Store, work: str) -> None:
        self.store, self.prefix = store, f"{PREFIX}{work[:32]}."
        self.key = f"{self.prefix}{uuid.uuid4().hex[:12]}"
        self.ticket = 0
        self._released = False

    def beat(self) -> None:
        if not self._released:
            text = make_beat(self.ticket).text()
            self.store.client.set_experiment_tag(self.store.experiment_id, self.key, text)
        if self._released:
            # Another thread let go meanwhile, and this one has just claimed it again.
            remove_claim(self.store, self.key)

    def others(self) -> dict[str, Beat]:
        """The claims of others on the same work; those of processes that are gone are removed."""
        found = read_claims(self.store, self.prefix)
        found.pop(self.key, None)
        stale = [key for key, beat in found.items() if self.store.watch.is_stale(key, beat)]
        for key in stale:
            remove_claim(self.store, key)
            del found[key]
        return found

    def release(self) -> None:
        self._released = True
        remove_claim(self.store, self.key)


def take_claim(store: Store, work: str, name: str) -> _Claim:
    """Claims a piece of work.

    Args:
        store: The tracking store.
        work: What names it to all: a fingerprint.
        name: What names it to people.

    Raises:
        BusyError: If another process has it.
    """
    claim = _Claim(store, work)
    others = claim.others()
    for beat in others.values():
        if beat.ticket:
            raise busy(name, str(beat.holder))
    claim.beat()
    try:
        claim.ticket = 1 + max((beat.ticket for beat in claim.others().values()), default=0)
        claim.beat()
        for key, beat in _all_drawn(claim):
            if (beat.ticket, key) < (claim.ticket, claim.key):
                raise busy(name, str(beat.holder))
    except BaseException:
        claim.release()
        raise
    return claim


def _all_drawn(claim: _Claim) -> Iterator[tuple[str, Beat]]:
    """The claims of others once each has its ticket, or has had the time to draw one."""
    until = time.monotonic() + DRAWING_S
    others = claim.others()
    while not all(beat.ticket for beat in others.values()) and time.monotonic() < until:
        time.sleep(CLAIM_POLL_S)
        others = claim.others()
    # Whoever still draws then has ticket 0, before all others: to leave it the work is safe.
    yield from others.items()


def read_claims(store: Store, prefix: str = PREFIX) -> dict[str, Beat]:
    """All claims whose key begins so."""
    tags = store.client.get_experiment(store.experiment_id).tags
    beats = {key: read_beat(text) for key, text in tags.items() if key.startswith(prefix)}
    return {key: beat for key, beat in beats.items() if beat}


def remove_claim(store: Store, key: str) -> None:
    """Removes a claim; where the store is away it expires."""
    with contextlib.suppress(Exception):
        store.client.delete_experiment_tag(store.experiment_id, key)


def busy(name: str, holder: str = "") -> BusyError:
    """The error of a claim that another process has."""
    who = f" ({holder})" if holder else ""
    return BusyError(
        f"only one process at a time may do the same work, another is doing this {name} now{who}: "
        "wait for it, the same command then reuses its result"
    )


class Hold:
    """What a process has of a run, until it closes it or dies."""

    def __init__(self, store: Store, lock: TextIO | None = None) -> None:
        """Made by take_hold, or without a lock where every run is new."""
        self.store, self._lock = store, lock
        self._claim: _Claim | None = None
        self._heart: Heart | None = None

    def claim(self, work: str, name: str) -> None:
        """Claims the work in the store, where other machines see it.

        Raises:
            BusyError: If another process has it.
        """
        self._claim = take_claim(self.store, work, name)

    def start(self, run_id: str) -> None:
        """Gives signs of life of a run from now on."""

        def beat() -> None:
            self.store.client.set_tag(run_id, HEARTBEAT_TAG, make_beat().text())
            if self._claim:
                self._claim.beat()

        self._heart = Heart(beat)

    def close(self) -> None:
        """Lets go of everything."""
        if self._heart:
            self._heart.stop()
            self._heart = None
        if self._claim:
            self._claim.release()
            self._claim = None
        if self._lock:
            self._lock.close()
            self._lock = None


def take_hold(store: Store, work: Path, name: str) -> Hold:
    """Takes the lock of a work folder; the system frees it when we die.

    Raises:
        BusyError: If another process has it.
    """
    work.mkdir(parents=True, exist_ok=True)
    try:
        lock = (work / "lock").open("a")
    except FileNotFoundError:
        # Another process finished this very moment and removed the folder.
        return take_hold(store, work, name)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise busy(name) from error
    return Hold(store, lock)
