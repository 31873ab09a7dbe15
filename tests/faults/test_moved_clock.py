"""The clock is moved by hours, back and forth, while steps run and die: all ends as undisturbed."""

import os
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random

import pytest
from fault_chain import grid_runs
from fault_grid import check_undisturbed, scores
from fault_kills import Killer, find_victims, run_to_the_end

from bench.core.files import write_text

KILLS = 4
FARTHEST_S = 12 * 3600
# Between two moves.
PERIOD_S = (2.0, 8.0)


@dataclass
class Clock:
    """The clock of processes that are started with its environment.

    Attributes:
        file: Says by how many seconds it is off.
        rng: Chooses how far it is moved, and when.
        moves: How often it was.
        due: When it is moved next.
    """

    file: Path
    rng: Random
    moves: int = 0
    due: float = 0.0

    def move(self):
        """Moves it, if it is time."""
        if time.monotonic() >= self.due:
            write_text(self.file, f"{self.rng.randint(-FARTHEST_S, FARTHEST_S):+d}\n")
            self.moves += 1
            self.due = time.monotonic() + self.rng.uniform(*PERIOD_S)

    def environment(self, environment):
        """The environment of a process whose clock it is."""
        found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        if not found:
            pytest.skip("libfaketime is not installed (Debian: faketime)")
        path = os.pathsep.join([str(Path(__file__).parent / "clock"), environment["PYTHONPATH"]])
        return environment | {
            "LD_PRELOAD": str(found[0]),
            "PYTHONPATH": path,
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_CACHE_DURATION": "1",
            "NO_FAKE_STAT": "1",
        }


@pytest.mark.timeout(0)
@pytest.mark.parametrize("cluster", [{"cluster": "none"}, {"cluster": "local", "workers": 2}])
def test_a_clock_that_is_moved(kills, calm, grid, commands, make_store, tmp_path, cluster):
    clock = Clock(tmp_path / "clock", Random(0))
    commands = replace(commands, environment=clock.environment(commands.environment))
    store, killer = make_store(tmp_path / "store"), Killer(Random(0), KILLS)
    settings = grid | cluster | {"output": tmp_path / "table"}
    run_to_the_end(
        partial(commands.start, "benchmark", store, settings),
        killer,
        lambda process: find_victims(("benchmark", process)),
        store,
        commands.said,
        mend=clock.move,
    )
    sys.stderr.write(f"{clock.moves} moves of the clock\n{killer.table()}\n")
    assert clock.moves > KILLS
    assert scores(settings["output"]) == calm.scores()
    check_undisturbed(store, grid_runs(calm))
