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


def supervise(command: Sequence[str]) -> int:
    """Runs a command; SIGTERM, Ctrl-C and SIGHUP reach all its processes as SIGTERM.

    Told to end, it returns when the last of them has ended; else when the command has.

    Returns:
        The command's exit status; 128 + n where signal n killed it.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child: subprocess.Popen[bytes] | None = None
    told = False

    def end_all(_number: int = 0, _frame: FrameType | None = None) -> None:
        nonlocal told
        told = True
        if child:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end_all)
    child = subprocess.Popen(command, start_new_session=True)
    if told:
        end_all()
    status = 0
    with suppress(ChildProcessError):
        while True:
            pid, how = os.wait()
            if pid == child.pid:
                status = os.waitstatus_to_exitcode(how)
                child.returncode = status
                if not told:
                    break
    return status if status >= 0 else KILLED - status
