"""The grid on a cluster: real cells on two workers of this machine, with a process per task."""

import os
import signal
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from bench.config.running import BenchmarkConfig
from bench.dataset.prepared import PreparedDataset
from bench.steps.benchmark import benchmark
from bench.steps.grid.graph import grid_tasks
from bench.steps.grid.grid import make_grid

PROJECT = Path(__file__).parents[3]
ENTRY = PROJECT / "entrypoints" / "benchmark.py"


@pytest.fixture
def config(pipeline, tiny, tmp_path):
    short = tiny | {"iterations": 2, "epoch_iterations": 2, "features": 2}
    return BenchmarkConfig(
        dataset=str(pipeline.dataset), output=str(tmp_path / "here"), split="val", **short
    )


def states(store, *steps):
    """How often every step ended how."""
    runs = store.client.search_runs([store.experiment_id])
    found = [(run.data.tags["bench.step"], run.info.status) for run in runs]
    return Counter(pair for pair in found if pair[0] in steps)


def test_the_graph_of_a_grid(store, config):
    grid = replace(config, methods="unadapted,domain_adapted,da_finetuned,scratch", seeds="0")
    grid = replace(grid, structures="mito", labelled="1,all")
    cells = make_grid(grid, PreparedDataset.open(grid.dataset))
    tasks = {task.name: task for task in grid_tasks(cells, grid, store, "parent")}
    adapt = "train domain_adapted mitochondria seed 0"
    needs = {name: task.needs for name, task in tasks.items()}
    assert needs["evaluate unadapted mitochondria seed 0"] == ()
    assert needs[adapt] == ()
    assert needs["train da_finetuned mitochondria seed 0"] == (adapt,)
    assert needs["train da_finetuned mitochondria labelled 1 seed 0"] == (adapt,)
    assert needs["evaluate da_finetuned mitochondria seed 0"] == (
        "train da_finetuned mitochondria seed 0",
    )
    assert needs["train scratch mitochondria labelled 1 seed 0"] == ()
    assert sorted(tasks["optimize mitochondria"].wants) == [
        f"evaluate {name} mitochondria seed 0"
        for name in ("da_finetuned", "domain_adapted", "scratch", "unadapted")
    ]
    assert len(tasks) == 5 + 6 + 1


@pytest.fixture
def start(store, config, start_process, python_environment, tmp_path):
    """Starts a benchmark on two workers, in a process group of its own."""
    pytest.importorskip("distributed")
    environment = python_environment | {
        "MLFLOW_TRACKING_URI": store.uri,
        "MLFLOW_EXPERIMENT_ID": store.experiment_id,
    }
    started = []

    def start(name, **settings):
        cluster = {"cluster": "local", "workers": 2, "output": tmp_path / name}
        given = vars(config) | cluster | settings
        values = {key: "auto" if value is None else value for key, value in given.items()}
        options = [f"--{key}={value}" for key, value in values.items()]
        log = (tmp_path / f"{name}.log").open("w")
        started.append(
            start_process(
                [sys.executable, str(ENTRY), *options],
                env=environment,
                stderr=log,
                start_new_session=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(condition, process, log):
    while not condition():
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)


def test_a_grid_on_two_workers_has_the_table_of_one_after_the_other(
    store, config, start, tmp_path, broken_source
):
    grid = {"methods": "scratch,finetuned", "structures": "mito", "source": broken_source}
    log = tmp_path / "two.log"
    assert start("two", **grid).wait() == 2, log.read_text()
    (error,) = [line for line in log.read_text().splitlines() if line.startswith("error: ")]
    start_of = "error: 1 of 2 cells failed (finetuned mitochondria seed 0: the source must be the"
    assert error.startswith(start_of)
    done = states(store, "finetune", "evaluate", "optimize")
    assert done == {
        ("finetune", "FINISHED"): 1,
        ("finetune", "FAILED"): 1,
        ("evaluate", "FINISHED"): 1,
        ("optimize", "FINISHED"): 1,
    }
    (parent,) = store.client.search_runs([store.experiment_id], "tags.`bench.step` = 'benchmark'")
    metrics = parent.data.metrics
    assert (metrics["work/cells_done"], metrics["work/cells_failed"]) == (2, 1)
    # Here, and now: everything is there already, and the table is the same.
    benchmark(replace(config, methods="scratch", structures="mito"))
    assert states(store, "finetune", "evaluate", "optimize") == done
    tables = [(tmp_path / name / "benchmark.csv").read_text() for name in ("two", "here")]
    rows = [[row for row in table.splitlines() if "scratch" in row] for table in tables]
    assert rows[0] == rows[1]


LONG = {
    "methods": "scratch",
    "structures": "mito",
    "optimize": "false",
    "iterations": 200,
    "epoch_iterations": 100,
    "checkpoint_iterations": 5,
}


def saved(store):
    folder = Path(store.uri.removeprefix("sqlite:///")).parent / "work"
    return list(folder.glob("*/state.safetensors"))


def test_killed_grids_and_workers_lose_nothing(store, start, tasks_of, tmp_path):
    """The next command goes on with a killed grid, another worker with a killed one's training."""
    log = tmp_path / "long.log"
    process = start("long", **LONG)
    wait_for(lambda: saved(store), process, log)
    inside = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    assert process.wait() == 1, log.read_text()
    assert states(store, "finetune", "benchmark") == {
        ("finetune", "KILLED"): 1,
        ("benchmark", "KILLED"): 1,
    }
    _, alive = psutil.wait_procs(inside, timeout=20)
    assert alive == []

    log = tmp_path / "again.log"
    process = start("again", **LONG)
    wait_for(lambda: "resuming run" in log.read_text(), process, log)
    # The worker's warm process, and the task that it forked.
    tasks = tasks_of(process, "bench.steps.grid.task")
    (worker,) = {each.parent() for each in tasks} - set(tasks)
    worker.kill()
    assert process.wait() == 0, log.read_text()
    assert states(store, "finetune", "evaluate") == {
        ("finetune", "FINISHED"): 1,
        ("evaluate", "FINISHED"): 1,
    }
    assert log.read_text().count("resuming run") == 2
