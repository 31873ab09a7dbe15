"""A process that has imported what a worker's tasks need, and forks a child for each of them.

Importing torch and MLflow takes a task's process more seconds than many a task. This one imports
once; a child begins where that ends, and shares its memory until it writes to it.
multiprocessing's forkserver would do the same, but workers of dask are daemons, which
multiprocessing lets start nothing, and it hands on no output, folder or exit status.

What libraries read when they are imported (threads, GPUs, allocators) is as the worker's
environment says, and sources are as they were: another environment or source starts another
process. It ends with its worker, and when it had nothing to do for a while.
"""

import contextlib
import importlib
import json
import logging
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from bench.core.process import importing, set_up_process

log = logging.getLogger(__name__)

_SOURCE = Path(__file__).resolve().parents[2]
# Its memory is for others after that: the next task waits for the imports once more.
_IDLE_S = 60.0
# How often it is looked whether the worker is still there, when no order can come any more.
_LOOK_S = 0.5
_ORDER_BYTES = 1 << 16
# Of an order: what the child has as stdin, stdout and stderr, and where its end is told.
_FILES = 4
# Where a process of these is open, a GPU is in use: what CUDA has then is lost by forking.
_GPU_FILES = "/dev/nvidia"
_IGNORED = (signal.SIGINT, signal.SIGTERM)


class WarmChild:
    """A task's process as its worker sees it."""

    def __init__(self, parent: int, pid: int, files: tuple[int, int, TextIO]) -> None:
        """Takes the process, its stdin and stdout, and where its end is told."""
        self.parent, self.pid = parent, pid
        self.returncode: int | None = None
        self._stdin, self._stdout, self._told = files
        self._ended = threading.Event()

    def communicate(self, given: str) -> str:
        """Gives it its stdin and waits for its end; returns what it wrote on stdout."""
        # One that died early reads nothing.
        with contextlib.suppress(BrokenPipeError), os.fdopen(self._stdin, "w") as stdin:
            stdin.write(given)
        with os.fdopen(self._stdout) as stdout:
            said = stdout.read()
        with self._told:
            line = self._told.readline()
        # Where the one that would have said so is gone, so is the child.
        self.returncode = int(line) if line else -signal.SIGKILL
        self._ended.set()
        return said

    def wait(self, timeout: float) -> None:
        """Waits until ``communicate`` is done, which another thread does.

        Raises:
            TimeoutExpired: If it is not after so many seconds.
        """
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(str(self.pid), timeout)

    def terminate(self) -> None:
        """Tells it to end, if it has not."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it, if it has not."""
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


@dataclass(frozen=True)
class _Ground:
    """What a warm process is started with, and what it is good for."""

    module: str
    preload: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    sources: tuple[int, int]


class _WarmParent:
    """A warm process as the worker sees it."""

    def __init__(self, ground: _Ground) -> None:
        self.ground = ground
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", __name__, str(theirs.fileno()), str(os.getpid())),
                    *(str(_IDLE_S), ground.module, *ground.preload),
                ],
                env=dict(ground.environment),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def start(self) -> WarmChild | None:
        """Starts a child; None where the process is gone."""
        stdin, stdin_ours = os.pipe()
        stdout_ours, stdout = os.pipe()
        told_ours, told = os.pipe()
        order = json.dumps({"folder": str(Path.cwd())}).encode()
        sent = False
        with contextlib.suppress(BrokenPipeError, ConnectionError):
            socket.send_fds(self._orders, [order], [stdin, stdout, 2, told])
            sent = True
        for file in (stdin, stdout, told):
            os.close(file)
        listened = os.fdopen(told_ours)
        if sent and (line := listened.readline()):
            return WarmChild(self._process.pid, int(line), (stdin_ours, stdout_ours, listened))
        listened.close()
        os.close(stdin_ours)
        os.close(stdout_ours)
        return None

    def close(self) -> None:
        """Orders no more: it ends when its children have."""
        self._orders.close()

    def wait(self) -> int:
        """Its exit status, once it is gone."""
        return self._process.wait()


# The one of this worker.
_WARM: list[_WarmParent] = []
_LOCK = threading.Lock()


def start_child(module: str, preload: tuple[str, ...], environment: Mapping[str, str]) -> WarmChild:
    """Starts ``python -m module`` in this environment, forked where that may be done.

    Args:
        module: Its name; it is imported before, so it does its work where it is ``__main__`` only.
        preload: What it imports later, each time: this is imported before, too.
        environment: Of the process.

    Raises:
        CalledProcessError: If what forks died of its imports: of memory, or a broken environment.
    """
    ground = _Ground(module, preload, tuple(sorted(environment.items())), _date_sources())
    with _LOCK:
        if _WARM and _WARM[0].ground != ground:
            _WARM.pop().close()
        # Twice: the first may have ended for want of work.
        for _ in range(2):
            if not _WARM:
                _WARM.append(_WarmParent(ground))
            if child := _WARM[0].start():
                return child
            gone = _WARM.pop()
            gone.close()
    raise subprocess.CalledProcessError(gone.wait(), module)


def _date_sources() -> tuple[int, int]:
    """How many sources there are, and when the last was changed."""
    dates = [path.stat().st_mtime_ns for path in (_SOURCE / "bench").rglob("*.py")]
    return len(dates), max(dates)


def _serve(orders: socket.socket, module: str, worker: int, idle_s: float) -> None:
    """Starts a child for every order, until there are none; returns in each child."""
    running: dict[int, int] = {}
    alone = _why_alone()
    if alone:
        log.warning("each task imports everything anew: %s", alone)
    awake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    watched, patience = [awake, orders.fileno()], idle_s
    while True:
        readable, _, _ = select.select(watched, [], [], patience)
        if awake in readable:
            os.read(awake, _ORDER_BYTES)
            _tell_ends(running)
        if orders.fileno() in readable:
            order, files, _, _ = socket.recv_fds(orders, _ORDER_BYTES, _FILES)
            if not order:
                # No more will come: the worker has another one now, or is gone.
                watched, patience = [awake], _LOOK_S
            elif not (pid := _fork()):
                signal.set_wakeup_fd(-1)
                orders.close()
                for file in (awake, waker, files[3], *running.values()):
                    os.close(file)
                _become(json.loads(order)["folder"], files[:3], module, anew=bool(alone))
                return
            else:
                running[pid] = files[3]
                os.write(files[3], f"{pid}\n".encode())
                for file in files[:3]:
                    os.close(file)
        if (not running and (not readable or len(watched) == 1)) or os.getppid() != worker:
            sys.exit()


def _fork() -> int:
    """Forks; signals for the child wait until it has its own ways with them (``_become``)."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED)
    if pid := os.fork():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _IGNORED)
    return pid


def _why_alone() -> str:
    """Why a child must not be forked of this process; empty where it may be."""
    if len(threads := threading.enumerate()) > 1:
        names = ", ".join(thread.name for thread in threads[1:])
        return f"threads that would be lost by forking run once the packages are imported ({names})"
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if (opened := str(file.readlink())).startswith(_GPU_FILES):
                return f"{opened} is open once the packages are imported, a GPU cannot be forked"
    return ""


def _tell_ends(running: dict[int, int]) -> None:
    """Says of the children that have ended how they did."""
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        told = running.pop(pid)
        with contextlib.suppress(BrokenPipeError):
            os.write(told, f"{os.waitstatus_to_exitcode(status)}\n".encode())
        os.close(told)


def _become(folder: str, files: list[int], module: str, *, anew: bool) -> None:
    """Makes of this process, just forked, what ``python -m module`` is."""
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _IGNORED)
    for place, file in enumerate(files):
        os.dup2(file, place)
        os.close(file)
    os.chdir(folder)
    if anew:
        os.execv(sys.executable, [sys.executable, "-m", module])  # noqa: S606
    sys.argv = [module]
    if numpy := sys.modules.get("numpy"):
        # Its own numbers would be those of every other child; Python's begin anew by themselves.
        numpy.random.seed()
    # It is imported already, but not as what it is run as.
    sys.modules.pop(module, None)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _main(number: str, worker: str, idle_s: str, module: str, *preload: str) -> None:
    set_up_process()
    # Ctrl-C goes to all processes, and is for those that do something.
    for ignored in _IGNORED:
        signal.signal(ignored, signal.SIG_IGN)
    with importing():
        for name in (module, *preload):
            # The child, which needs it, will say what is wrong with it.
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    _serve(socket.socket(fileno=int(number)), module, int(worker), float(idle_s))


if __name__ == "__main__":
    _main(*sys.argv[1:])
