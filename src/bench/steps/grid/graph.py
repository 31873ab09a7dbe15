"""The grid on a cluster: adaptation, training, evaluation and search as tasks of a graph."""

import dataclasses
import functools
import logging
import os
from typing import Any

from bench.cluster.child import run_child, stopping
from bench.cluster.clusters import LOCAL, open_cluster, read_profile, threads_each
from bench.cluster.graph import Outcome, Task, run_graph
from bench.config.running import BenchmarkConfig
from bench.models.plugins import plugin_versions
from bench.steps.grid.cells import GridCell
from bench.tracking.ownership.stale import reap
from bench.tracking.runs import Run
from bench.tracking.store import SQLITE, Store

log = logging.getLogger(__name__)

_CHILD = "bench.steps.grid.task"
# What most tasks import late, a second each time.
_PRELOAD = ("scipy.ndimage", "skimage.measure", "skimage.morphology")


def run_on_cluster(
    cells: list[GridCell], config: BenchmarkConfig, store: Store, run: Run
) -> dict[GridCell, str]:
    """Trains, evaluates and searches on the workers of a cluster.

    Returns:
        The reasons of the cells that failed.
    """
    if store.uri.startswith(SQLITE) and config.cluster != LOCAL:
        log.warning("the store is SQLite: workers of other machines cannot share it safely")
    tasks = grid_tasks(cells, config, store, run.id)
    ended = {"done": 0, "failed": 0}

    def report(task: Task, outcome: Outcome) -> None:
        log.info("%s: %s", task.name, outcome.reason or outcome.state)
        kind = task.payload["kind"]
        if kind == "search" and outcome.state == "failed":
            warning = f"no best combination of {task.payload['structure']}: {outcome.reason}"
            run.add_warning(warning)
        elif kind == "evaluate":
            ended["done"] += 1
            ended["failed"] += outcome.state == "failed"
            counts = {f"work/cells_{name}": count for name, count in ended.items()}
            run.log_metrics(counts, ended["done"])

    threads = threads_each(config.cluster, config.workers)
    call = functools.partial(run_child, _CHILD, threads=threads, owner=run.id, preload=_PRELOAD)
    profile = read_profile(config.cluster_profile)
    try:
        with (
            open_cluster(config.cluster, config.workers, profile) as client,
            stopping(client, run.id),
        ):
            outcomes = run_graph(tasks, client, call, report)
    finally:
        reap(store)
    return _reasons(cells, outcomes)


def grid_tasks(
    cells: list[GridCell], config: BenchmarkConfig, store: Store, parent: str
) -> list[Task]:
    """The graph of a grid. Cells that start from the same adaptation share its task."""
    common = {
        "config": dataclasses.asdict(config),
        "uri": store.uri,
        "experiment": store.experiment_id,
        "parent": parent,
        "folder": os.getcwd(),  # noqa: PTH109
        "plugins": plugin_versions(),
    }
    tasks: dict[str, Task] = {}

    def add(name: str, needs: tuple[str, ...] = (), wants: tuple[str, ...] = (), **own: Any) -> str:
        tasks[name] = Task(name, common | own, needs, wants)
        return name

    def add_model(cell: GridCell) -> tuple[str, ...]:
        if not cell.method.step:
            return ()
        needs = add_model(cell.adaptation) if cell.adaptation else ()
        return (add(_model_name(cell), needs, **_described("model", cell.trained)),)

    for cell in cells:
        # Other data follows the recipe of the model's own.
        first = (_evaluation_name(cell.own),) if cell.external else ()
        add(_evaluation_name(cell), (*add_model(cell), *first), **_described("evaluate", cell))
    if config.optimize:
        for structure in dict.fromkeys(cell.structure.name for cell in cells):
            found = [c for c in cells if c.structure.name == structure and c.searched]
            names = tuple(_evaluation_name(cell) for cell in found)
            if names:
                add(f"optimize {structure}", (), names, kind="search", structure=structure)
    return list(tasks.values())


def _described(kind: str, cell: GridCell) -> dict[str, Any]:
    names = {"method": cell.method.name, "structure": cell.structure.name}
    numbers = {"seed": cell.seed, "labelled": cell.labelled}
    others = {"classes": cell.classes, "external": cell.external, "pseudo": cell.pseudo}
    return {"kind": kind, "cell": names | numbers | others}


def _model_name(cell: GridCell) -> str:
    return f"train {cell.describe_training()}"


def _evaluation_name(cell: GridCell) -> str:
    return f"evaluate {cell}"


def _reasons(cells: list[GridCell], outcomes: dict[str, Outcome]) -> dict[GridCell, str]:
    """Why cells failed: by their own training, or evaluation, or what they start from."""
    failures = {}
    for cell in cells:
        for name in (_model_name(cell), _evaluation_name(cell)):
            outcome = outcomes.get(name)
            if outcome and outcome.state == "failed":
                failures[cell] = outcome.reason
                break
    return failures
