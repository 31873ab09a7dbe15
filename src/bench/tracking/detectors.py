"""Finding detectors: what prompts a SAM, and no row of a table."""

from bench.errors import BenchError
from bench.tracking.queries import get_finished, search
from bench.tracking.store import Store

_DETECTION_STEP = "detect"


def get_detection(store: Store, run_id: str) -> str:
    """Returns the id of a finished run that trained a detector.

    Raises:
        BenchError: If the run does not exist, is not finished, or is of another step.
    """
    found = get_finished(store, run_id, (_DETECTION_STEP,), "have trained a detector")
    return str(found.info.run_id)


def find_detection(
    store: Store, *, structure: str, dataset: str, seed: int, labelled: int | None
) -> str:
    """Returns the id of the newest finished detector of a structure.

    Args:
        store: The tracking store.
        structure: What it finds.
        dataset: Content hash of the dataset that it was trained on.
        seed: Its seed.
        labelled: Annotated sections that it was trained on; None for all.

    Raises:
        BenchError: If there is none.
    """
    wanted = {
        "bench.step": _DETECTION_STEP,
        "bench.structure": structure,
        "bench.dataset": dataset,
        "bench.seed": str(seed),
    }
    few = None if labelled is None else str(labelled)
    for run in search(store, store.experiment_id, wanted, finished=True):
        if run.data.tags.get("bench.labelled") == few:
            return str(run.info.run_id)
    raise BenchError(
        f"boxes of {structure} are found by a detector, the store has none of this dataset, seed "
        f"{seed}: run detect with the same dataset, structure and seed first, or give "
        "detector=runs:/ID"
    )
