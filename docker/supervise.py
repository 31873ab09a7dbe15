"""Runs a command as the first process of a container should: tells it to end, and waits for all.

`mlflow run` dies of a SIGTERM at once and leaves its step behind. A container ends with its first
process, so the step would be killed before it wrote its checkpoint and the status of its run.
"""

import ctypes
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

# From linux/prctl.h: processes whose parent died become children of this one.
PR_SET_CHILD_SUBREAPER = 36
# Shells report a death by a signal as this much more than the signal.
KILLED = 128


class Family:
    """A command and the processes that come of it.

    Attributes:
        told: Whether it was told to end.
    """

    def __init__(self, *, interrupt: bool) -> None:
        """Starts nothing yet: a signal may come before the command."""
        self.told = False
        self._interrupt = interrupt
        # Kept: an object that is let go of waits for its process, whose status would be lost.
        self._leader: subprocess.Popen[bytes] | None = None

    def start(self, command: Sequence[str]) -> int:
        """Starts the command in a process group of its own; returns its process id."""
        self._leader = subprocess.Popen(command, start_new_session=True)
        if self.told:
            self._tell(self._leader.pid, signal.SIGTERM)
        return self._leader.pid

    def end(self, _number: int, _frame: FrameType | None) -> None:
        """Handles a signal: at first politely, from the second on all of them get SIGTERM."""
        polite, self.told = self._interrupt and not self.told, True
        if self._leader:
            self._tell(self._leader.pid, signal.SIGINT if polite else signal.SIGTERM)

    @staticmethod
    def _tell(leader: int, number: signal.Signals) -> None:
        tell = os.kill if number == signal.SIGINT else os.killpg
        with suppress(ProcessLookupError):
            tell(leader, number)


def supervise(command: Sequence[str], *, interrupt: bool = False) -> int:
    """Runs a command; SIGTERM, Ctrl-C and SIGHUP reach all its processes as SIGTERM.

    Told to end, it returns when the last of them has ended; else when the command has.

    Args:
        command: The program and its arguments.
        interrupt: The first signal reaches the command alone, as a Ctrl-C. `mlflow run` then ends
            its step, waits for it and closes the run.

    Returns:
        The command's exit status; 128 + n where signal n killed it, 143 where it was interrupted.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    family = Family(interrupt=interrupt)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, family.end)
    leader = family.start(command)
    status = 0
    with suppress(ChildProcessError):
        while True:
            pid, how = os.wait()
            if pid == leader:
                status = os.waitstatus_to_exitcode(how)
                if not family.told:
                    break
    if status and interrupt and family.told:
        return KILLED + signal.SIGTERM
    return status if status >= 0 else KILLED - status
