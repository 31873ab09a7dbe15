"""A grid that is short and has work of every kind, and what is true of it once it has ended."""

import csv
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bench.tracking.delivery.send import waiting_run
from bench.tracking.ownership.claims import read_claims
from bench.tracking.searching import search_pages

ENTRY_POINTS = Path(__file__).parents[2] / "entrypoints"
# A training, an adaptation with a training on it, a training of a SAM, their evaluations, and the
# search over them.
SETTINGS = {
    "methods": "scratch,da_finetuned,microsam_finetuned",
    "structures": "mito",
    "seeds": "0",
    "split": "val",
    "iterations": 120,
    "epoch_iterations": 20,
    "checkpoint_iterations": 10,
    "batch_size": 4,
    "patch_px": 32,
    "tile_px": 32,
    "halo_px": 16,
    "features": 2,
    "lr": 0.01,
    "domain_adapt": "iterations=60,epoch_iterations=20,checkpoint_iterations=10,batch_size=2,"
    "patch_px=32,lr=0.001",
    "microsam": "iterations=30,epoch_iterations=10,checkpoint_iterations=5,patch_px=48,lr=0.001,"
    "sub_iterations=1,objects_per_batch=2,tile_px=32,halo_px=8",
    "device": "cpu",
    "precision": "fp32",
}
SCORES = ("method", "structure", "dice", "iou", "precision", "recall", "instance_f1", "seeds")
# The steps whose runs are reused; every benchmark and its table is a run of its own.
ALWAYS_NEW = ("benchmark", "compare")
SEARCH = "optimize"
# What tells the runs of a grid apart; their names in lists leave the split out.
CELL = ("step", "method", "structure", "seed", "split")


@dataclass(frozen=True)
class Commands:
    """Starts our entry points, as processes that others may kill.

    Attributes:
        environment: Of the processes.
        log: What they say, one after the other.
    """

    environment: dict[str, str]
    log: Path

    def start(self, name, store, settings):
        """Starts an entry point on a store."""
        own = {"MLFLOW_TRACKING_URI": store.uri, "MLFLOW_EXPERIMENT_ID": store.experiment_id}
        options = [f"--{key}={value}" for key, value in settings.items()]
        with self.log.open("a") as log:
            return subprocess.Popen(
                [sys.executable, str(ENTRY_POINTS / f"{name}.py"), *options],
                env=self.environment | own,
                stderr=log,
                stdout=log,
                start_new_session=True,
            )

    def said(self):
        """The end of what they said."""
        return self.log.read_text()[-20_000:]


def scores(folder):
    """The table of a benchmark, without what is measured in seconds or named by chance."""
    with (folder / "benchmark.csv").open() as file:
        return [[row[name] for name in SCORES] for row in csv.DictReader(file)]


def images_and_tables(folder):
    """The bytes of the images and tables in a folder, of which there are some."""
    paths = [path for path in folder.rglob("*") if path.suffix in (".csv", ".tif", ".png")]
    assert paths, folder
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def step_runs(store):
    """How often every cell and step ended how, in all runs that may be reused.

    Of searches the newest counts: a grid that lacks a cell searches what it has, and once more
    when it is complete.
    """
    found = Counter()
    for run in search_pages(store, store.experiment_id, ""):
        tags = run.data.tags
        step = tags["bench.step"]
        cell = tuple(tags.get(f"bench.{name}", "") for name in CELL)
        searched = step == SEARCH and any(key[: len(cell)] == cell for key in found)
        if step not in ALWAYS_NEW and not searched:
            found[(*cell, run.info.status)] += 1
    return found


def check_undisturbed(store, expected):
    """Asserts that a store is as if nothing had happened.

    Args:
        store: The store.
        expected: ``step_runs`` of one that nothing happened to.
    """
    assert step_runs(store) == expected
    assert set(expected.values()) == {1}
    assert {key[-1] for key in expected} == {"FINISHED"}
    running = search_pages(store, store.experiment_id, "attributes.status = 'RUNNING'")
    assert [run.info.run_name for run in running] == []
    assert read_claims(store) == {}
    kept = store.work.iterdir() if store.work.exists() else ()
    assert [folder for folder in kept if waiting_run(store, folder)] == []
    for run in search_pages(store, store.experiment_id, ""):
        check_times(run)


def check_times(run):
    """Asserts that a run that has ended has a duration that can be one."""
    assert run.info.start_time <= run.info.end_time, run.data.tags["mlflow.runName"]
    seconds = float(run.data.tags.get("bench.train_seconds", 0))
    assert 0 <= seconds < 600, run.data.tags["mlflow.runName"]
