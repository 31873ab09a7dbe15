"""The newest run of every cell, however many older ones there are."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from mlflow.entities import Run as MlflowRun

from bench.tracking.queries import (
    RUN_METRICS,
    RUN_PARAMS,
    RUN_TAGS,
    TRAINING_STEPS,
    Cell,
    FoundRun,
    read_run,
    search,
    search_pages,
)
from bench.tracking.sql_reader import engine_of, list_runs, read_runs
from bench.tracking.store import Store

# Ids in one search: mlflow takes long to read a long condition.
IDS_PER_SEARCH = 200
# The tags by which cells, and scores of a cell that stand for themselves, are told apart.
KEY_TAGS = (
    "bench.method",
    "bench.structure",
    "bench.dataset",
    "bench.seed",
    "bench.labelled",
    "bench.augmentations",
)


def newest_evaluations(
    store: Store, experiment_id: str, split: str, protocol: str
) -> list[FoundRun]:
    """The newest finished evaluation of every cell and choice of augmentations, newest first."""
    wanted = {"bench.step": "evaluate", "bench.split": split, "bench.protocol": protocol}
    return find_newest(store, experiment_id, wanted, finished=True)


def newest_combinations(store: Store, experiment_id: str, split: str) -> list[FoundRun]:
    """The newest finished search of every structure, dataset and metric that is scored so."""
    wanted = {"bench.step": "optimize", "bench.split": split}
    return find_newest(store, experiment_id, wanted, finished=True)


def newest_trainings(store: Store, experiment_id: str) -> list[FoundRun]:
    """The newest training of every cell, finished or not."""
    return [
        run
        for step in TRAINING_STEPS
        for run in find_newest(store, experiment_id, {"bench.step": step}, finished=False)
    ]


def find_newest(
    store: Store, experiment_id: str, wanted: Mapping[str, str], *, finished: bool
) -> list[FoundRun]:
    """The newest of the runs with these tags, of every cell and choice of augmentations.

    Memory grows with the number of cells, not of runs.
    """
    engine = engine_of(store)
    if engine is None:
        return keep_newest(map(read_run, search(store, experiment_id, wanted, finished=finished)))
    ids: dict[tuple[str | None, ...], str] = {}
    status = "FINISHED" if finished else None
    for run_id, tags in list_runs(engine, experiment_id, wanted, status=status, shown=KEY_TAGS):
        ids.setdefault(tags, run_id)
    return keep_newest(select_runs(store, experiment_id, ids.values()))


def keep_newest(runs: Iterable[FoundRun]) -> list[FoundRun]:
    """The first run of every cell and choice of augmentations."""
    newest: dict[tuple[Cell, str], FoundRun] = {}
    for run in runs:
        newest.setdefault((run.cell, run.augmentations), run)
    return list(newest.values())


def select_runs(store: Store, experiment_id: str, ids: Iterable[str]) -> Iterator[FoundRun]:
    """Yields the runs of these ids that are in the experiment, in any order."""
    wanted = [run_id for run_id in dict.fromkeys(ids) if run_id.isalnum()]
    for run in select_found(store, experiment_id, wanted):
        # What `mlflow run` made for a run that was there already has no seed.
        if "bench.seed" in run.data.tags:
            yield read_run(run)


def select_found(store: Store, experiment_id: str, ids: Sequence[str]) -> Iterator[MlflowRun]:
    """Yields the runs of these ids as mlflow has them."""
    engine = engine_of(store)
    if engine is not None:
        names = {"tags": RUN_TAGS, "metrics": RUN_METRICS, "params": RUN_PARAMS}
        yield from read_runs(engine, experiment_id, ids, **names)
        return
    for start in range(0, len(ids), IDS_PER_SEARCH):
        named = ", ".join(f"'{run_id}'" for run_id in ids[start : start + IDS_PER_SEARCH])
        yield from search_pages(store, experiment_id, f"attributes.run_id IN ({named})")
