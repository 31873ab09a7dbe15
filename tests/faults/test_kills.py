"""Random kills over all steps, workers and schedulers: everything ends as if undisturbed.

All of it takes half an hour: ``pytest tests/faults --kills 100 -s``, or ``make faults``.
"""

import signal
import sys
import time
from functools import partial
from random import Random

import pytest
from fault_chain import ALONE, Chain, grid_runs
from fault_cluster import DaskCluster
from fault_grid import check_undisturbed, scores, step_runs
from fault_kills import Killer, Pace, end_group, find_victims, run_to_the_end, running_steps

from bench.config.running import BenchmarkConfig
from bench.steps.benchmark import benchmark

PATHS = ("dataset", "source")
# So that there are several grids, each of which is complete in the end.
KILLS_OF_A_GRID = 20
# Of the steps that are commands of their own.
KILLS_OF_A_STEP = dict.fromkeys(ALONE, 2) | {"benchmark": 8}
# In one process a grid is over sooner, and a command of one step at once: its first kill is at any
# moment, so that there is one.
AT_ANY_MOMENT = Pace(4.0, in_a_step=0.0)
PACES = (
    dict.fromkeys(ALONE, (AT_ANY_MOMENT, Pace(4.0, in_a_step=1.0, step_s=0.6)))
    | dict.fromkeys(("phantom", "prepare"), (AT_ANY_MOMENT,))
    | {"benchmark": (Pace(8.0),)}
)
# From so many kills on, every kind must be among them.
MANY = 100
VICTIMS = {"benchmark", "worker", "step", "nanny", "scheduler", *ALONE}
# The others are over in a second, so that chance may spare them; the table says which.
STEPS = {"finetune", "domain_adapt", "microsam", "evaluate"}


@pytest.mark.timeout(600)
def test_a_grid_that_is_killed_in_a_training_and_in_an_evaluation(
    commands, grid, make_store, use_store, tmp_path
):
    short = grid | {"methods": "scratch", "iterations": 60, "optimize": False}
    calm = use_store(make_store(tmp_path / "calm"))
    given = {name: str(value) if name in PATHS else value for name, value in short.items()}
    benchmark(BenchmarkConfig(**given, output=str(tmp_path / "expected")))
    store = make_store(tmp_path / "killed")
    start = partial(commands.start, "benchmark", store, short | {"output": tmp_path / "table"})
    for step in ("finetune", "evaluate"):
        process = start()
        while step not in running_steps(store).values():
            assert process.poll() is None, commands.said()
            time.sleep(0.02)
        end_group(process)
        assert process.returncode == -signal.SIGKILL
    assert start().wait() == 0, commands.said()
    check_undisturbed(store, step_runs(calm))
    assert scores(tmp_path / "table") == scores(tmp_path / "expected")
    assert "resuming run" in commands.said()


@pytest.mark.timeout(0)
def test_whatever_is_killed_at_random_ends_as_if_undisturbed(
    commands, grid, calm, kills, make_store, tiny_tree, tmp_path
):
    killer = Killer(Random(kills), 0)
    rounds = 0
    while (done := killer.killed.total()) < kills:
        killer.left = min(KILLS_OF_A_GRID, kills - done)
        folder = tmp_path / f"round{rounds}"
        store = make_store(folder)
        scenario = (one_by_one, on_a_cluster, on_workers_of_its_own)[rounds % 3]
        sys.stderr.write(f"{scenario.__name__}: {done} kills so far\n")
        if scenario is one_by_one:
            one_by_one(Chain(store, folder, tiny_tree, grid), calm, commands, killer, kills)
        else:
            scenario(store, folder, grid, commands, killer)
            check_undisturbed(store, grid_runs(calm))
            assert scores(folder / "table") == calm.scores()
        rounds += 1
    sys.stderr.write(f"{killer.table()}\nin {rounds} grids\n")
    if kills >= MANY:
        assert {name for name, _, _ in killer.killed} >= VICTIMS
        assert {step for _, _, step in killer.killed} >= STEPS


def on_workers_of_its_own(store, folder, grid, commands, killer):
    """A benchmark that starts two workers."""
    settings = grid | {"output": folder / "table", "cluster": "local", "workers": 2}
    run_to_the_end(
        partial(commands.start, "benchmark", store, settings),
        killer,
        lambda process: find_victims(("benchmark", process)),
        store,
        commands.said,
    )


def on_a_cluster(store, folder, grid, commands, killer):
    """A benchmark on a scheduler and two workers that somebody else looks after."""
    cluster = DaskCluster(folder, commands.environment)
    settings = grid | {"output": folder / "table", "cluster": cluster.address}
    try:
        run_to_the_end(
            partial(commands.start, "benchmark", store, settings),
            killer,
            lambda process: find_victims(("benchmark", process), *cluster.processes()),
            store,
            commands.said,
            mend=cluster.mend,
        )
    finally:
        cluster.close()


def one_by_one(chain, calm, commands, killer, kills):
    """All steps, each in one process."""
    for step, settings in chain.steps():
        killer.left = min(KILLS_OF_A_STEP[step], kills - killer.killed.total())
        run_to_the_end(
            partial(commands.start, step, chain.store, settings),
            killer,
            lambda process, step=step: find_victims((step, process)),
            chain.store,
            commands.said,
            paces=PACES[step],
            is_done=partial(chain.is_done, step),
        )
    chain.check_like(calm)
