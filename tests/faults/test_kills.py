"""Random kills over steps, workers and the benchmark itself: the grid ends as if undisturbed.

A grid takes minutes, so CI makes none: ``pytest tests/faults --kills 10``.
"""

import csv
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from bench.config import PrepareConfig
from bench.steps.prepare import prepare

ENTRY = Path(__file__).parents[2] / "entrypoints" / "benchmark.py"
SETTINGS = {
    "methods": "scratch,scratch_dice",
    "structures": "mito",
    "seeds": "0,1",
    "split": "val",
    "iterations": 200,
    "epoch_iterations": 20,
    "checkpoint_iterations": 10,
    "batch_size": 4,
    "patch_px": 32,
    "tile_px": 32,
    "halo_px": 16,
    "features": 2,
    "lr": 0.01,
    "device": "cpu",
    "precision": "fp32",
    "cluster": "local",
    "workers": 2,
}
SCORES = ("method", "structure", "dice", "iou", "precision", "recall", "instance_f1", "seeds")
# Of a benchmark that is let alone here; kills fall anywhere in it.
LONGEST_S = 60.0


@pytest.fixture
def dataset(tiny_tree, store, tmp_path):
    folder = tmp_path / "prepared"
    prepare(PrepareConfig(input=str(tiny_tree), output=str(folder), pixel_size_nm=5.0))
    return folder


@pytest.fixture
def start(dataset, python_environment, tmp_path):
    """Starts a benchmark on two workers, on a store."""
    pytest.importorskip("distributed")

    def start(store, output):
        given = SETTINGS | {"dataset": dataset, "output": output}
        environment = python_environment | {
            "MLFLOW_TRACKING_URI": store.uri,
            "MLFLOW_EXPERIMENT_ID": store.experiment_id,
        }
        with (tmp_path / "log").open("a") as log:
            return subprocess.Popen(
                [sys.executable, str(ENTRY), *(f"--{k}={v}" for k, v in given.items())],
                env=environment,
                stderr=log,
                stdout=log,
            )

    return start


def kill_one(process, rng):
    """Kills the benchmark, a worker, or a step, at some moment; returns which, if it was there."""
    until = time.monotonic() + rng.uniform(0, LONGEST_S)
    while time.monotonic() < until and process.poll() is None:
        time.sleep(0.05)
    if process.poll() is not None:
        return None
    main = psutil.Process(process.pid)
    steps = [each for each in main.children(recursive=True) if is_step(each)]
    victims = {"benchmark": main}
    if steps:
        step = rng.choice(steps)
        victims |= {"step": step, "worker": step.parent()}
    kind = rng.choice(sorted(victims))
    try:
        victims[kind].send_signal(rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
    except (psutil.NoSuchProcess, AttributeError):
        return None
    return kind


def is_step(process):
    try:
        return "bench.steps.grid_task" in process.cmdline()
    except psutil.Error:
        return False


def scores(folder):
    with (folder / "benchmark.csv").open() as file:
        return [[row[name] for name in SCORES] for row in csv.DictReader(file)]


@pytest.mark.timeout(0)
def test_a_grid_that_is_killed_at_random_has_the_table_of_one_that_is_not(
    start, store, make_store, tmp_path, request
):
    kills, rng = request.config.getoption("--kills"), random.Random(0)
    if not kills:
        pytest.skip("a grid takes minutes: give --kills")
    calm = make_store(tmp_path / "calm")
    assert start(calm, tmp_path / "expected").wait() == 0, (tmp_path / "log").read_text()
    killed = Counter()
    rounds = 0
    while killed.total() < kills:
        # Once the grid is complete, the next one begins: in a store of its own.
        disturbed = make_store(tmp_path / f"round{rounds}")
        output = tmp_path / f"disturbed{rounds}"
        status = None
        while status != 0:
            process = start(disturbed, output)
            while killed.total() < kills and process.poll() is None:
                killed.update(filter(None, [kill_one(process, rng)]))
            status = process.wait()
        assert scores(output) == scores(tmp_path / "expected")
        runs = disturbed.client.search_runs([disturbed.experiment_id])
        ended = Counter(r.info.status for r in runs if r.data.tags["bench.step"] == "finetune")
        assert ended == {"FINISHED": 4}
        rounds += 1
    sys.stderr.write(f"{dict(killed)} in {rounds} grids\n")
