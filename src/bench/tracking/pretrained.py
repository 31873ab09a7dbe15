"""Finding models: to start from, or to ask what they say; and what is no row of a table."""

from collections.abc import Iterable

from mlflow.entities import Run as MlflowRun

from bench.errors import BenchError
from bench.structures import split_structures
from bench.tracking.queries import PRETRAINING_STEP, TRAINING_STEPS, Cell, get_finished, read_run
from bench.tracking.searching import search
from bench.tracking.store import Store

_BEST = "best/dice"
_FOLD_STEP = "fold"


def get_with_weights(store: Store, run_id: str) -> MlflowRun:
    """Returns a run that has weights to start from: a training, or a pretraining.

    Raises:
        BenchError: If the run does not exist, is not finished, or trained nothing.
    """
    return get_finished(store, run_id, (*TRAINING_STEPS, PRETRAINING_STEP), "have trained a model")


def find_pretrained(store: Store, *, method: str, dataset: str, seed: int) -> str:
    """Returns the id of the newest finished pretraining on a dataset; empty if there is none.

    Args:
        store: The tracking store.
        method: Its name, ``pretrained_`` and the network.
        dataset: Content hash of the dataset.
        seed: Its seed.
    """
    wanted = {
        "bench.step": PRETRAINING_STEP,
        "bench.method": method,
        "bench.dataset": dataset,
        "bench.seed": str(seed),
    }
    found = search(store, store.experiment_id, wanted, finished=True)
    return next((str(run.info.run_id) for run in found), "")


def rank_trained(store: Store, structure: str, dataset: str) -> list[str]:
    """Ids of the newest training of every method, seed and number of sections of a dataset.

    Args:
        store: The tracking store.
        structure: What was learned, alone.
        dataset: Content hash of the dataset.
    """
    wanted = {"bench.structure": structure, "bench.dataset": dataset}
    newest: dict[Cell, MlflowRun] = {}
    for run in search(store, store.experiment_id, wanted, finished=True):
        if run.data.tags.get("bench.step") in TRAINING_STEPS:
            newest.setdefault(read_run(run).cell, run)
    return _rank(newest.values())


def rank_named(store: Store, ids: Iterable[str], structure: str) -> list[str]:
    """The same of trainings that are named, of any dataset, those of folds among them.

    Raises:
        BenchError: If one does not exist, is not finished, or learned something else.
    """
    steps = (*TRAINING_STEPS, _FOLD_STEP)
    runs = [get_finished(store, each, steps, "have trained a model") for each in ids]
    for run in runs:
        learned = read_run(run).cell.structure
        if structure not in split_structures(learned):
            raise BenchError(
                f"models must have learned {structure}, run {run.info.run_id} learned {learned}: "
                "leave it out"
            )
    return _rank(runs)


def _rank(runs: Iterable[MlflowRun]) -> list[str]:
    ranked = sorted(runs, key=lambda run: -run.data.metrics.get(_BEST, 0.0))
    return [str(run.info.run_id) for run in ranked]


def leave_out_of_tables(store: Store, run_id: str) -> None:
    """Says of a training that it is of a fold, so that no table has a row of it.

    It is found again by its fingerprint, and resumed or reused as before.
    """
    store.client.set_tag(run_id, "bench.step", _FOLD_STEP)
