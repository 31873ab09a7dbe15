"""Processes of our entry points that need not import torch and MLflow anew: five seconds each.

A parent imports them once and forks: a child is a process of its own, with the program, arguments,
environment, folder and output that it is given, and dies by whatever kills it. What a test says of
the start itself (help, early errors, what is imported when) needs a python of its own instead.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

# What nearly every step loads; dask is left out, which reads its environment when it is imported.
PRELOAD = """
from bench.core.process import importing
with importing():
    import mlflow.store.tracking.sqlalchemy_store
    import scipy.ndimage, skimage.measure, skimage.morphology
    import bench.steps.benchmark, bench.steps.segment
"""


class WarmParent:
    """The parent, as a test sees it."""

    def __init__(self, environment):
        """Starts it, with the environment in which it imports."""
        self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ended, self.lock = {}, threading.Lock()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                env=environment,
                pass_fds=[theirs.fileno()],
            )

    def start(self, command, *, env, cwd=None, stdout=None, stderr=None, **settings):
        """Starts ``[sys.executable, script, ...]`` or ``[sys.executable, "-c", ...]``, as Popen."""
        assert command[0] == sys.executable
        read = {}
        files = []
        for name, number, wanted in (("stdout", 1, stdout), ("stderr", 2, stderr)):
            if wanted == subprocess.PIPE:
                inside, wanted = os.pipe()
                read[name] = os.fdopen(inside, "r" if settings.get("text") else "rb")
            files.append(number if wanted is None else wanted)
        order = {
            "command": [str(word) for word in command[1:]],
            "environment": {name: str(value) for name, value in env.items()},
            "folder": str(cwd or Path.cwd()),
            "session": settings.get("start_new_session", False),
        }
        with self.lock:
            socket.send_fds(
                self.ours,
                [b"start"],
                [file if isinstance(file, int) else file.fileno() for file in files],
            )
            self.ours.sendall(json.dumps(order).encode())
            while "started" not in (answer := self._hear()):
                pass
        for name, file in zip(("stdout", "stderr"), files, strict=True):
            if name in read:
                os.close(file)
        return WarmProcess(self, answer["started"], read)

    def _hear(self):
        """The next that the parent says."""
        heard = json.loads(self.ours.recv(1 << 16) or '"it is gone"')
        if "ended" in heard:
            self.ended[heard["ended"]] = heard["status"]
        return heard

    def listen(self, timeout):
        """Takes in which children have ended, and waits so long for the first, in s."""
        with self.lock:
            while select.select([self.ours], [], [], timeout)[0]:
                self._hear()
                timeout = 0

    def close(self):
        """Ends it; children that run are left alone."""
        self.ours.close()
        self.process.wait()


class WarmProcess:
    """A child, with the part of Popen's interface that tests use."""

    def __init__(self, parent, pid, read):
        self.parent, self.pid, self.read = parent, pid, read
        self.stdout, self.stderr = read.get("stdout"), read.get("stderr")

    @property
    def returncode(self):
        return self.parent.ended.get(self.pid)

    def poll(self):
        self.parent.listen(0)
        return self.returncode

    def wait(self, timeout=None):
        waited = 0.0
        while self.poll() is None:
            if timeout is not None and waited >= timeout:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            self.parent.listen(0.05)
            waited += 0.05
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def communicate(self, timeout=None):
        said = {}
        readers = [
            threading.Thread(target=lambda n=name, f=file: said.update({n: f.read()}))
            for name, file in self.read.items()
        ]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join()
        return said.get("stdout"), said.get("stderr")


def serve(orders):
    """Forks a child for every order; returns in the child with its order, else at the end."""
    awake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        readable, _, _ = select.select([orders, awake], [], [])
        if awake in readable:
            os.read(awake, 1 << 10)
            tell_the_ended(orders)
        if orders not in readable:
            continue
        word, files, _, _ = socket.recv_fds(orders, 16, 2)
        if not word:
            return None
        order = json.loads(orders.recv(1 << 20))
        if not (pid := os.fork()):
            signal.set_wakeup_fd(-1)
            orders.close()
            os.close(awake)
            os.close(waker)
            become(order, files)
            return order["command"]
        orders.sendall(json.dumps({"started": pid}).encode())
        for file in files:
            os.close(file)


def tell_the_ended(orders):
    """Says which children have ended, and how."""
    with contextlib.suppress(ChildProcessError, BrokenPipeError):
        while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            status = os.waitstatus_to_exitcode(ended[1])
            orders.sendall(json.dumps({"ended": ended[0], "status": status}).encode())


def become(order, files):
    """Makes of this process, just forked, the one that was ordered."""
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if order["session"]:
        os.setsid()
    for number, file in enumerate(files, start=1):
        os.dup2(file, number)
        os.close(file)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])


def run(command):
    """Runs a script, or the text after ``-c``, as python would."""
    import runpy

    if command[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *command[2:]], ""
        exec(compile(command[1], "<string>", "exec"), {"__name__": "__main__"})
        return
    sys.argv, sys.path[0] = command, str(Path(command[0]).parent)
    runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    exec(PRELOAD)
    # Not a thread may be lost by forking.
    assert threading.active_count() == 1
    if ordered := serve(socket.socket(fileno=int(sys.argv[1]))):
        run(ordered)
