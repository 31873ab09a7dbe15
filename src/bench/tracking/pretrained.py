"""Finding what was pretrained: a source of trainings, and no row of a table."""

from mlflow.entities import Run as MlflowRun

from bench.tracking.queries import PRETRAINING_STEP, TRAINING_STEPS, get_finished, search
from bench.tracking.store import Store


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
