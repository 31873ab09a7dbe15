"""A dask cluster as somebody runs it beside our commands: what dies of it is started again."""

import contextlib
import os
import subprocess
import sys
import time

import psutil
from servers import free_port

START_S = 60.0


class DaskCluster:
    """A scheduler and workers with nannies, each a process of its own.

    Attributes:
        address: For ``cluster=``.
    """

    def __init__(self, folder, environment, workers=2):
        """Describes it; ``mend`` starts it."""
        self.folder, self.environment, self.count = folder, environment, workers
        port = free_port()
        self.address = f"tcp://127.0.0.1:{port}"
        self.scheduler = None
        self.nannies = {}
        self.command = ["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]

    def mend(self):
        """Starts what is not there."""
        if self.scheduler is None or self.scheduler.poll() is not None:
            self.scheduler = self._start("scheduler", self.command)
            self._wait_for_scheduler()
        for number in range(self.count):
            nanny = self.nannies.get(number)
            if nanny is None or nanny.poll() is not None:
                own = ["--resources", "GPU=1", "--nthreads", "1", "--no-dashboard"]
                own += ["--local-directory", str(self.folder / "dask"), self.address]
                self.nannies[number] = self._start("worker", ["worker", *own], number)

    def _start(self, name, command, core=None):
        """Starts a program of dask; a worker on a core of its own, so that it has one thread."""
        cores = sorted(os.sched_getaffinity(0))
        pinned = [] if core is None else ["taskset", "-c", str(cores[core % len(cores)])]
        with (self.folder / f"{name}.log").open("a") as log:
            return subprocess.Popen(
                [*pinned, sys.executable, "-m", "dask", *command],
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def _wait_for_scheduler(self):
        """Waits until it listens: workers that find none give up."""
        until = time.monotonic() + START_S
        while not psutil.Process(self.scheduler.pid).net_connections("tcp"):
            assert self.scheduler.poll() is None, (self.folder / "scheduler.log").read_text()
            assert time.monotonic() < until
            time.sleep(0.1)

    def processes(self):
        """Its processes, each with the name of its kind."""
        return [("scheduler", self.scheduler), *(("nanny", one) for one in self.nannies.values())]

    def close(self):
        """Ends it."""
        for _, process in self.processes():
            if process is None or process.poll() is not None:
                continue
            family = psutil.Process(process.pid)
            for one in [*family.children(recursive=True), family]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            process.wait()
