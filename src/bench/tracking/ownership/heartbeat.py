"""Which process works on something, its sign of life, and what others conclude without one."""

import dataclasses
import functools
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.config.settings import STALE_MIN

log = logging.getLogger(__name__)

# The UI shows no tag whose name begins as mlflow's own; runs of earlier versions have the other.
HEARTBEAT_TAG = "mlflow.bench.heartbeat"
_EARLIER_TAG = "bench.heartbeat"
SIGN_INTERVAL_S = 30.0
# Of the time between two looks, only this much counts as silence: while a server is away neither
# can the one write, nor the other see that it would.
_LONGEST_GAP_S = 2 * SIGN_INTERVAL_S


@dataclass(frozen=True)
class _Holder:
    """A process, so that it is told from every other one of any machine.

    ``machine`` and ``boot`` are ids of the installation and the start of its machine, empty where
    it has none. Containers of a machine have a namespace of pids each. ``started`` is in the
    system's count: pids are used again.
    """

    host: str
    machine: str
    boot: str
    namespace: str
    pid: int
    started: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def this_process() -> _Holder:
    """The process that asks."""
    pid = os.getpid()
    return _Holder(socket.gethostname(), *this_machine(), pid, start_of(pid))


@functools.cache
def this_machine() -> tuple[str, str, str]:
    """Ids of the machine, of its start, and of the namespace of our pid."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    machine, boot = Path("/etc/machine-id"), Path("/proc/sys/kernel/random/boot_id")
    return _read_line(machine), _read_line(boot), namespace


def _read_line(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def start_of(pid: int) -> str:
    """When a process started; empty where there is no such process, or only its corpse.

    Linux counts from the machine's start, which no change of the clock moves.
    """
    stat = _read_line(Path(f"/proc/{pid}/stat"))
    if stat:
        # The name in brackets may hold blanks and brackets.
        state, *fields = stat.rpartition(")")[2].split()
        return "" if state in "ZX" else fields[18]
    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.Error:
        return ""


def is_running(holder: _Holder) -> bool | None:
    """Whether a process is still there; None where that cannot be seen from this machine."""
    here = this_process()
    within = (here.host, here.boot, here.namespace)
    if within == (holder.host, holder.boot, holder.namespace):
        return start_of(holder.pid) == holder.started
    same_machine = (here.host, here.machine) == (holder.host, holder.machine)
    if holder.machine and holder.boot and same_machine and here.boot != holder.boot:
        return False
    return None


@dataclass(frozen=True)
class Beat:
    """A sign of life.

    Attributes:
        holder: The process.
        time: When, by its clock, in seconds since 1970. Only people compare it with other clocks.
        ticket: Its place in the queue of a claim; 0 before it has drawn one.
    """

    holder: _Holder
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


def last_beat(tags: Mapping[str, str]) -> Beat | None:
    """The last sign of life of a run, from its tags; None where it gives none."""
    return read_beat(tags.get(HEARTBEAT_TAG) or tags.get(_EARLIER_TAG, ""))


def read_beat(text: str) -> Beat | None:
    """A sign of life from its tag; None where it is none of ours."""
    try:
        values = json.loads(text)
        holder = _Holder(**values.pop("holder"))
        return Beat(holder, float(values["time"]), int(values["ticket"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


@dataclass
class SignWatch:
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
        silent_s = silent_s + min(now - looked, _LONGEST_GAP_S) if text == before else 0.0
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
        while not self._stopped.wait(SIGN_INTERVAL_S):
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
