"""Finding what has runs and is no row of a table: detectors and pseudo-masks."""

from pathlib import Path

from bench.errors import BenchError
from bench.tracking.queries import get_finished, get_run
from bench.tracking.searching import search
from bench.tracking.store import Store

_DETECTION_STEP, _PSEUDO_STEP = "detect", "pseudo"
PSEUDO_FOLDER_TAG, PSEUDO_CONTENT_TAG = "bench.pseudo_folder", "bench.pseudo_content"


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


def find_pseudo(store: Store, run_id: str) -> tuple[Path, str]:
    """The folder of the pseudo-masks of a run, and the content hash that they had.

    Raises:
        BenchError: If the run does not exist, is not finished, or made none.
    """
    found = get_finished(store, run_id, (_PSEUDO_STEP,), "have made pseudo-masks")
    return written_pseudo(store, found.info.run_id)


def written_pseudo(store: Store, run_id: str) -> tuple[Path, str]:
    """The same of a run that may not be finished; of one that wrote none, no hash."""
    tags = get_run(store, run_id).data.tags
    return Path(tags.get(PSEUDO_FOLDER_TAG, "")), str(tags.get(PSEUDO_CONTENT_TAG, ""))
