"""Which process works on something, and whether it is still there."""

import functools
import os
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Holder:
    """A process, so that it is told from every other one of any machine.

    Attributes:
        host: Name of its machine.
        machine: Id of the installation of its machine; empty where it has none.
        boot: Id of the start of its machine; empty where it has none.
        namespace: Within which its pid counts: containers of a machine have one each.
        pid: Its pid.
        started: When it started, in the system's count: pids are used again.
    """

    host: str
    machine: str
    boot: str
    namespace: str
    pid: int
    started: str

    def __str__(self) -> str:
        """As people say it."""
        return f"process {self.pid} on {self.host}"


def this_process() -> Holder:
    """The process that asks."""
    pid = os.getpid()
    return Holder(socket.gethostname(), *this_machine(), pid, start_of(pid))


@functools.cache
def this_machine() -> tuple[str, str, str]:
    """Ids of the machine, of its start, and of the namespace of our pid."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    machine, boot = Path("/etc/machine-id"), Path("/proc/sys/kernel/random/boot_id")
    return read_line(machine), read_line(boot), namespace


def read_line(path: Path) -> str:
    """What a small file says; empty where there is none."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def start_of(pid: int) -> str:
    """When a process started; empty where there is no such process, or only its corpse.

    Linux counts from the machine's start, which no change of the clock moves.
    """
    stat = read_line(Path(f"/proc/{pid}/stat"))
    if stat:
        # The name in brackets may hold blanks and brackets.
        state, *fields = stat.rpartition(")")[2].split()
        return "" if state in "ZX" else fields[18]
    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.Error:
        return ""


def is_running(holder: Holder) -> bool | None:
    """Whether a process is still there; None where that cannot be seen from this machine."""
    here = this_process()
    within = (here.host, here.boot, here.namespace)
    if within == (holder.host, holder.boot, holder.namespace):
        return start_of(holder.pid) == holder.started
    same_machine = (here.host, here.machine) == (holder.host, holder.machine)
    if holder.machine and holder.boot and same_machine and here.boot != holder.boot:
        return False
    return None
