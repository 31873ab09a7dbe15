"""Two benchmarks of the same grid, as processes, on one store."""

import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from bench.steps.grid import cells as sharing
from bench.tracking.ownership.claims import busy

ENTRY = Path(__file__).parents[3] / "entrypoints" / "benchmark.py"


@pytest.fixture
def start(store, pipeline, tiny, start_process, python_environment, tmp_path):
    """Starts a benchmark of 3 trainings; its tables go to a folder of its own."""
    environment = python_environment | {
        "MLFLOW_TRACKING_URI": store.uri,
        "MLFLOW_EXPERIMENT_ID": store.experiment_id,
        "OMP_NUM_THREADS": "1",
    }
    started = []

    def start(name, **settings):
        grid = {"methods": "scratch", "structures": "mito", "seeds": "0,1,2", "split": "val"}
        short = {"iterations": 4, "epoch_iterations": 2, "features": 2, "optimize": "false"}
        given = {"dataset": pipeline.dataset, "output": tmp_path / name, **tiny, **grid, **short}
        options = [f"--{key}={value}" for key, value in (given | settings).items()]
        log = (tmp_path / f"{name}.log").open("w")
        started.append(
            start_process([sys.executable, str(ENTRY), *options], env=environment, stderr=log)
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def runs_of(store, *steps):
    found = store.client.search_runs([store.experiment_id])
    return [run for run in found if run.data.tags["bench.step"] in steps]


def test_two_benchmarks_share_the_work_and_show_one_table(store, start, tmp_path):
    both = start("first"), start("second")
    assert [process.wait() for process in both] == [0, 0], (tmp_path / "first.log").read_text()
    done = runs_of(store, "finetune", "evaluate")
    assert Counter((run.data.tags["bench.step"], run.info.status) for run in done) == {
        ("finetune", "FINISHED"): 3,
        ("evaluate", "FINISHED"): 3,
    }
    tables = [(tmp_path / name / "benchmark.csv").read_text() for name in ("first", "second")]
    assert tables[0] == tables[1]
    assert len(tables[0].splitlines()) == 2


def test_the_cell_of_a_killed_benchmark_is_taken_over_and_resumed(store, start, tmp_path):
    long = {"iterations": 400, "epoch_iterations": 100, "checkpoint_iterations": 5}
    long["seeds"] = "0"
    first = start("first", **long)
    states = (Path(store.uri.removeprefix("sqlite:///")).parent / "work").glob
    while not list(states("*/state.safetensors")):
        assert first.poll() is None, (tmp_path / "first.log").read_text()
        time.sleep(0.05)
    second = start("second", **long)
    log = tmp_path / "second.log"
    while "later: only one process" not in log.read_text():
        assert second.poll() is None, log.read_text()
        time.sleep(0.05)
    first.kill()
    first.wait()
    assert second.wait() == 0
    (trained,) = runs_of(store, "finetune")
    assert trained.info.status == "FINISHED"
    assert f"resuming run {trained.info.run_id}" in log.read_text()
    # What has no result to resume, the first benchmark itself, is named by the next command.
    third = start("third", **long)
    assert third.wait() == 0
    lines = (tmp_path / "third.log").read_text().splitlines()
    assert [line.split()[1] for line in lines if line.startswith("stale: ")] == ["benchmark"]
    statuses = Counter(run.info.status for run in runs_of(store, "benchmark"))
    assert statuses == {"KILLED": 1, "FINISHED": 2}


def test_what_is_busy_comes_last_and_is_waited_for(monkeypatch):
    pauses, seen = [], []
    monkeypatch.setattr(sharing.time, "sleep", pauses.append)

    def attempt(item):
        seen.append(item)
        if item == "b" and seen.count("b") < 4:
            raise busy("finetune")

    sharing.take_turns(["a", "b", "c"], attempt)
    assert seen == ["a", "b", "c", "b", "b", "b"]
    assert pauses == [sharing.POLL_S] * 2
