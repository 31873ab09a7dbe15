"""Kills of the processes of a command, at random moments; and what they fell into."""

import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import psutil

from bench.tracking.ownership.heartbeat import HEARTBEAT_TAG, is_running, read_beat
from bench.tracking.searching import search_pages

# A kill as a person or a cluster does it is rarer than the ones that nobody announces.
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)
# After the last kill, until something must hang.
LONGEST_S = 900.0
LOOK_S = 0.05


@dataclass(frozen=True)
class Pace:
    """How soon something is killed.

    Attributes:
        longest_s: Between two kills at most; on average half of it.
        in_a_step: Share of kills that wait for a step to begin, as most of the time of a short
            grid goes into starting processes.
        step_s: How long such a kill then waits at most.
    """

    longest_s: float
    in_a_step: float = 0.6
    step_s: float = 4.0


ON_MANY_PROCESSES = (Pace(20.0),)


@dataclass
class Killer:
    """Kills, and counts.

    Attributes:
        rng: Chooses moments, victims and signals.
        left: How many kills are to come.
        killed: How many there were of each kind: victim, signal, and the step it fell into.
    """

    rng: Random
    left: int
    killed: Counter = field(default_factory=Counter)

    def strike(self, process, victims, store, pace, mend):
        """Kills something some time from now, if the process is still there then.

        Args:
            process: What is waited for meanwhile.
            victims: Called for what can be killed then, by name.
            store: Where runs say which process is at them.
            pace: How long to wait.
            mend: Called meanwhile: without workers no step would ever begin.
        """
        wait_s = self.rng.uniform(0, pace.longest_s)
        if self.rng.random() < pace.in_a_step:
            while process.poll() is None and set(running_steps(store).values()) <= {"benchmark"}:
                mend()
                time.sleep(LOOK_S)
            wait_s = self.rng.uniform(0, pace.step_s)
        until = time.monotonic() + wait_s
        while time.monotonic() < until and process.poll() is None:
            time.sleep(LOOK_S)
        found = victims() if process.poll() is None else []
        if found:
            name = self.rng.choice(sorted({name for name, _ in found}))
            victim = self.rng.choice([one for other, one in found if other == name])
            self.kill(name, victim, self.rng.choice(SIGNALS), store)

    def kill(self, name, victim, number, store):
        """Kills a process, and counts it."""
        step = step_of(victim, store)
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.send_signal(number)
            kind = name, signal.Signals(number).name, step
            self.killed[kind] += 1
            self.left -= 1
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {' '.join(kind)}\n")

    def table(self):
        """What was killed, a line each."""
        lines = [f"{count:4}  {' '.join(kind)}" for kind, count in sorted(self.killed.items())]
        return "\n".join([*lines, f"{self.killed.total():4}  kills"])


def step_of(victim, store):
    """The step that a process is at, or the processes that it started are."""
    with contextlib.suppress(psutil.NoSuchProcess):
        steps = running_steps(store)
        family = [victim, *victim.children(recursive=True)]
        found = [steps[one.pid] for one in family if one.pid in steps]
        # A benchmark is at what it has begun last.
        return next((step for step in found if step != "benchmark"), (*found, "no run")[0])
    return "no run"


def running_steps(store):
    """The step of every process that is at one; the last one begun where it has several."""
    found = {}
    for run in search_pages(store, store.experiment_id, "attributes.status = 'RUNNING'"):
        beat = read_beat(run.data.tags.get(HEARTBEAT_TAG, ""))
        if beat and is_running(beat.holder):
            found.setdefault(beat.holder.pid, run.data.tags["bench.step"])
    return found


def find_victims(*roots):
    """What can be killed of commands and of a cluster, each with the name of its kind.

    Args:
        roots: Their names and processes.
    """
    found = []
    for name, process in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            main = psutil.Process(process.pid)
            found.append((name, main))
            found += [(kind_of(child), child) for child in main.children(recursive=True)]
    return [(kind, victim) for kind, victim in found if kind]


def kind_of(process):
    """What a process of a command is; empty where it is only a helper."""
    with contextlib.suppress(psutil.Error):
        line = " ".join(process.cmdline())
        if "bench.steps.grid.task" in line:
            return "step"
        if "spawn_main" in line:
            return "worker"
    return ""


def run_to_the_end(
    start, killer, victims, store, said, *, paces=ON_MANY_PROCESSES, mend=bool, is_done=bool
):
    """Starts a command until it succeeds, while its processes are killed.

    Args:
        start: Starts it.
        killer: Kills them.
        victims: Called with the command for what can be killed.
        store: Its store.
        said: Called for what it said, where something is wrong.
        paces: How soon it is killed for the first time, the second, and so on; the last for all
            further times.
        mend: Called again and again: starts what was killed beside the command.
        is_done: Whether a command that was killed had done all before.
    """
    status, first = -1, killer.killed.total()
    while status != 0:
        kills = killer.killed.total()
        pace = paces[min(kills - first, len(paces) - 1)]
        mend()
        process = start()
        try:
            while killer.left > 0 and process.poll() is None:
                killer.strike(process, functools.partial(victims, process), store, pace, mend)
                mend()
            status = wait(process, mend)
            assert status is not None, f"it hangs:\n{said()}"
            disturbed = killer.killed.total() > kills
            assert status == 0 or disturbed, f"{status} without a kill:\n{said()}"
            if is_done():
                return
        except BaseException:
            end_group(process)
            raise


def wait(process, mend):
    """The status of a process that is let alone now; None if it does not end."""
    until = time.monotonic() + LONGEST_S
    while time.monotonic() < until:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(1)
        mend()
    return None


def end_group(process):
    """Ends a process and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
