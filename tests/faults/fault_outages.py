"""Faults that come and go while a command runs, which is started until it succeeds."""

import time
from dataclasses import dataclass
from random import Random
from typing import Any

from fault_kills import LONGEST_S, end_group

LOOK_S = 0.2


@dataclass
class Outages:
    """A fault that comes and goes.

    Attributes:
        begin: Makes it.
        end: Ends it.
        rng: Chooses moments.
        good_s: Seconds without the fault, at least and at most; longer after every failure, so
            that a machine that is slow, or busy, gets somewhere.
        bad_s: Seconds with it, at least and at most.
        count: How often it was made.
    """

    begin: Any
    end: Any
    rng: Random
    good_s: tuple[float, float]
    bad_s: tuple[float, float]
    count: int = 0

    def disturb(self, start, said):
        """Starts a command until it succeeds; returns how often it failed.

        Args:
            start: Starts it. At that moment there is no fault.
            said: Called for what it said, where something is wrong.
        """
        failures = 0
        while True:
            count, process = self.count, start()
            try:
                self._accompany(process, said, 1 + failures)
            except BaseException:
                end_group(process)
                raise
            finally:
                self.end()
            if process.returncode == 0:
                return failures
            assert self.count > count, f"{process.returncode} without a fault:\n{said()}"
            failures += 1

    def _accompany(self, process, said, patience):
        """Makes and ends the fault until a process has ended."""
        good_s = [patience * seconds for seconds in self.good_s]
        longest = time.monotonic() + LONGEST_S
        bad = False
        until = time.monotonic() + self.rng.uniform(*good_s)
        while process.poll() is None:
            assert time.monotonic() < longest, f"it hangs:\n{said()}"
            time.sleep(LOOK_S)
            if time.monotonic() < until:
                continue
            bad = not bad
            if bad:
                self.begin()
                self.count += 1
            else:
                self.end()
            until = time.monotonic() + self.rng.uniform(*(self.bad_s if bad else good_s))
