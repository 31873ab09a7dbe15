"""The sign of life of a process at work, and what others conclude where it stays away."""

import dataclasses
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.config.settings import STALE_MIN
from bench.tracking.ownership.holder import Holder, is_running, this_process

log = logging.getLogger(__name__)

HEARTBEAT_TAG = "bench.heartbeat"
INTERVAL_S = 30.0
# Of the time between two looks, only this much counts as silence: while a server is away neither
# can the one write, nor the other see that it would.
LONGEST_GAP_S = 2 * INTERVAL_S


@dataclass(frozen=True)
class Beat:
    """A sign of life.

    Attributes:
        holder: The process.
        time: When, by its clock, in seconds since 1970. Only people compare it with other clocks.
        ticket: Its place in the queue of a claim; 0 before it has drawn one.
    """

    holder: Holder
    time: float
    ticket: int = 0

    def text(self) -> str:
        """As it is kept in a tag."""
        return json.dumps(dataclasses.asdict(self))

    def last_alive(self) -> str:
        """When, as people say it."""
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.time))


def make_beat(ticket: int = 0) -> Beat:
    """A sign of life of this process."""
    return Beat(this_process(), time.time(), ticket)


def read_beat(text: str) -> Beat | None:
    """A sign of life from its tag; None where it is none of ours."""
    try:
        values = json.loads(text)
        holder = Holder(**values.pop("holder"))
        return Beat(holder, float(values["time"]), int(values["ticket"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


@dataclass
class Watch:
    """Looks at signs of life, and tells those that stay away.

    A process of this machine is looked up. That of another machine counts as gone once its sign
    was seen unchanged for the expiry by our own clock, so that clocks may differ.

    Attributes:
        expiry_s: How long that is.
        clock: Our clock, in seconds.
    """

    expiry_s: float = STALE_MIN * 60
    clock: Callable[[], float] = time.monotonic
    _seen: dict[str, tuple[str, float, float]] = field(default_factory=dict)

    def is_stale(self, key: str, beat: Beat) -> bool:
        """Whether the process of a sign of life is gone.

        Args:
            key: What the sign is kept at.
            beat: The sign, as it is now.
        """
        running = is_running(beat.holder)
        if running is not None:
            return not running
        now, text = self.clock(), beat.text()
        before, looked, silent_s = self._seen.get(key, (text, now, 0.0))
        silent_s = silent_s + min(now - looked, LONGEST_GAP_S) if text == before else 0.0
        self._seen[key] = (text, now, silent_s)
        return silent_s >= self.expiry_s


class Heart:
    """A thread that gives signs of life until it is stopped, or its process ends.

    What fails in it is not worth a training: the next beat may succeed.
    """

    def __init__(self, beat: Callable[[], None]) -> None:
        self._beat, self._stopped = beat, threading.Event()
        self._try()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(INTERVAL_S):
            self._try()

    def _try(self) -> None:
        try:
            self._beat()
        except Exception as error:
            log.debug("no sign of life could be given: %s", error)

    def stop(self) -> None:
        """Ends it; a beat that hangs is not waited for."""
        self._stopped.set()
        self._thread.join(timeout=1)
