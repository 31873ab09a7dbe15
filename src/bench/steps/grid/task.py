"""One task of the grid, in a process of its own on a worker of the cluster."""

import os
import sys
from pathlib import Path
from typing import Any

from bench.cluster.child import answer_parent, attempt
from bench.cluster.graph import Outcome
from bench.config.running import BenchmarkConfig
from bench.core.process import set_up_process
from bench.models.plugins import require_plugins
from bench.steps.grid.cells import GridCell, evaluate_cell, make_model, search_structure
from bench.tracking.ownership.claims import BusyError
from bench.tracking.store import Store, open_store


def _do_task(payload: dict[str, Any]) -> Outcome:
    task, results = payload["payload"], payload["results"]

    def work() -> Any:
        require_plugins(task["plugins"])
        return _call_step(task, results, _open_same_store(task))

    return attempt(work, task, (BusyError,))


def _open_same_store(task: dict[str, Any]) -> Store:
    """Opens the store of the benchmark, in its folder where there is one here."""
    if Path(task["folder"]).is_dir():
        os.chdir(task["folder"])
    os.environ["MLFLOW_TRACKING_URI"] = task["uri"]
    os.environ["MLFLOW_EXPERIMENT_ID"] = task["experiment"]
    # Cells that begin while a server restarts would otherwise all fail, one after the other.
    store, config = open_store(patient=True), task["config"]
    store.resume, store.watch.expiry_s = config["resume"], config["stale_min"] * 60
    return store


def _call_step(task: dict[str, Any], results: dict[str, Any], store: Store) -> Any:
    config, parent = BenchmarkConfig(**task["config"]), task["parent"]
    if task["kind"] == "search":
        found = [splits["val"] for splits in results.values()]
        return search_structure(task["structure"], found, config, store, parent) if found else None
    cell = GridCell.named(**task["cell"])
    if task["kind"] == "model":
        return make_model(cell, config, store, parent)
    # Of other data, the evaluation of the model's own is among them.
    model = next((found for found in results.values() if isinstance(found, str)), None)
    return evaluate_cell(cell, config, store, parent, model)


if __name__ == "__main__":
    set_up_process()
    try:
        answer_parent(_do_task)
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command goes on where it stopped")
