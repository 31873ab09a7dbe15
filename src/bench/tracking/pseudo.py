"""Finding the pseudo-masks that a run made."""

from pathlib import Path

from bench.tracking.queries import get_finished, get_run
from bench.tracking.store import Store

_STEP = "pseudo"
PSEUDO_FOLDER_TAG, PSEUDO_CONTENT_TAG = "bench.pseudo_folder", "bench.pseudo_content"


def find_pseudo(store: Store, run_id: str) -> tuple[Path, str]:
    """The folder of the pseudo-masks of a run, and the content hash that they had.

    Raises:
        BenchError: If the run does not exist, is not finished, or made none.
    """
    found = get_finished(store, run_id, (_STEP,), "have made pseudo-masks")
    return written_pseudo(store, found.info.run_id)


def written_pseudo(store: Store, run_id: str) -> tuple[Path, str]:
    """The same of a run that may not be finished; of one that wrote none, no hash."""
    tags = get_run(store, run_id).data.tags
    return Path(tags.get(PSEUDO_FOLDER_TAG, "")), str(tags.get(PSEUDO_CONTENT_TAG, ""))
