"""Everything by which a process holds a run: lock of its folder, claim, and sign of life."""

import fcntl
from pathlib import Path
from typing import TextIO

from bench.tracking.ownership.claims import Claim, busy, take_claim
from bench.tracking.ownership.heartbeat import HEARTBEAT_TAG, Heart, make_beat
from bench.tracking.store import Store


class Hold:
    """What a process has of a run, until it closes it or dies."""

    def __init__(self, store: Store, lock: TextIO | None = None) -> None:
        """Made by take_hold, or without a lock where every run is new."""
        self.store, self._lock = store, lock
        self._claim: Claim | None = None
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
