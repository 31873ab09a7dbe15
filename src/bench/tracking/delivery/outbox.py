"""The way of a run's writes to the store: at once, or later where the store does not take them."""

import logging
import re
import time
from pathlib import Path
from typing import Any

from mlflow.entities import FileInfo, RunData, RunInfo, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.tracking import MlflowClient

from bench.errors import BenchError
from bench.tracking.delivery.spool import END, Spool, Write, artifact, batch, may_pass, send
from bench.tracking.store import Store, check_server, is_server, without_password

log = logging.getLogger(__name__)

LATE_TAG = "bench.sent_late"
# Seconds until a store that failed is asked again: at first, and at most.
FIRST_PAUSE_S = 2.0
_LONGEST_PAUSE_S = 60.0
_PROBE_S = 5.0


class Outbox:
    """Sends the writes of one run in their order, and loses none.

    Attributes:
        spool: What waits.
    """

    def __init__(self, store: Store, run_id: str, work: Path, late: str = "") -> None:
        """Takes over what an earlier process of the run left.

        Args:
            store: The tracking store.
            run_id: The run.
            work: Its work folder.
            late: Its tag LATE_TAG, empty where it has none.
        """
        self.store, self.run_id, self.spool = store, run_id, Spool(work)
        self.spool.repair()
        counts = [int(number) for number in re.findall(r"\d+", late)] or [0, 0]
        self._sent_late, self._longest_s = counts
        self._pause = FIRST_PAUSE_S
        self._next_attempt = 0.0
        self._error: Exception | None = None

    def deliver(self, write: Write) -> None:
        """Sends a write, or keeps it behind others where the store does not take it now."""
        if not self.spool.waiting:
            if self._attempt(write):
                return
            log.warning(
                "the tracking store does not take what this run logs (%s): it is kept in %s and "
                "sent later",
                _one_line(self._error),
                self.spool.file,
            )
        store = without_password(self.store.uri)
        self.spool.append(write, run_id=self.run_id, store=store)
        if time.monotonic() >= self._next_attempt:
            self.flush()

    def flush(self) -> bool:
        """Sends what waits, as far as the store takes it; returns whether nothing is left."""
        if not self.spool.waiting:
            return True
        if not self._probe():
            return False
        write: Write = {}
        for write in self.spool.pending():
            # The end of a run comes last, for those who wait for it.
            if write["kind"] == END and not self._attempt(self._late_tag()):
                return False
            if not self._attempt(write):
                return False
        tag = self._late_tag()
        if write.get("kind") != END and not self._attempt(tag):
            return False
        self._sent_late, self._longest_s = self._late()
        self.spool.clear()
        log.info("the tracking store has all that was kept for it: %s", tag["tags"][0][1])
        return True

    def wait(self, patience_s: float) -> None:
        """Sends what waits, and waits for the store where it must.

        Raises:
            BenchError: If the store did not take all of it in this time.
        """
        until = time.monotonic() + patience_s
        while not self.flush():
            left = until - time.monotonic()
            if left <= 0:
                address = without_password(self.store.uri)
                raise BenchError(
                    f"the tracking store must take what a run logs, {address} does not "
                    f"({_one_line(self._error)}; waited {patience_s:.0f} s): nothing is lost; "
                    f"{self.describe_left()}"
                )
            log.warning(
                "the tracking store does not answer (%s): waiting for it, at most %.0f s more",
                _one_line(self._error),
                left,
            )
            time.sleep(min(self._pause, left))

    def _attempt(self, write: Write) -> bool:
        """Sends a write; returns False, and sets the time of the next attempt, where it failed."""
        try:
            send(self.store.client, self.run_id, write)
        except Exception as error:
            if not may_pass(error):
                raise
            self._postpone(error)
            return False
        self._pause = FIRST_PAUSE_S
        return True

    def _probe(self) -> bool:
        """Whether a server answers at all: one that is silent must not hold up a training."""
        if is_server(self.store.uri):
            try:
                check_server(self.store.uri, _PROBE_S)
            except BenchError as error:
                self._postpone(error)
                return False
        return True

    def _postpone(self, error: Exception) -> None:
        self._error = error
        self._next_attempt = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_S)

    def _late(self) -> tuple[int, int]:
        number, first = self.spool.summary()
        # A clock may have been set back meanwhile.
        waited = max(0, round(time.time() - first / 1000))
        return self._sent_late + number, max(self._longest_s, waited)

    def _late_tag(self) -> Write:
        number, seconds = self._late()
        return batch(tags=[RunTag(LATE_TAG, f"{number} writes, at most {seconds} s late")])

    def describe_left(self) -> str:
        """Where the writes are that wait, and what sends them."""
        number, _ = self.spool.summary()
        return (
            f"{number} writes are kept in {self.spool.file}; once the store is back, the same "
            "command sends them, or 'PYTHONPATH=src python -m bench.tracking.delivery.send'"
        )


def _one_line(error: Exception | None) -> str:
    """What went wrong, in a line that can be read, without a password in the server's address."""
    shown = re.sub(r"//[^/@\s]*@", "//", " ".join(str(error).split()))
    return shown[:200] or type(error).__name__


class Renderer(MlflowClient):
    """A client whose files and tags go to an outbox, and which asks the store nothing.

    mlflow names an image by the time and a random number: drawn once, sent as often as need be.
    """

    def __init__(self, outbox: Outbox) -> None:
        """Renders for the run of an outbox."""
        super().__init__(tracking_uri=outbox.store.uri)
        self.outbox = outbox

    def log_artifact(self, run_id: str, local_path: str, artifact_path: str | None = None) -> None:
        """Takes a file that was drawn."""
        self.outbox.deliver(artifact(local_path, artifact_path))

    def set_tag(self, run_id: str, key: str, value: Any, synchronous: bool | None = None) -> None:
        """Takes the tag by which the UI knows that a run has images or tables."""
        self.outbox.deliver(batch(tags=[RunTag(key, str(value))]))

    def list_artifacts(self, run_id: str, path: str | None = None) -> list[FileInfo]:
        """Nothing: a table that is logged again replaces the one before."""
        return []

    def get_run(self, run_id: str) -> MlflowRun:
        """The run without its tags, of which those of a table would be kept."""
        info = RunInfo(run_id, "", "", "RUNNING", 0, None, "active")
        return MlflowRun(info, RunData())
