"""Where the pseudo-masks of a run are."""

from pathlib import Path

from bench.tracking.queries import get_finished
from bench.tracking.store import Store

_STEP = "pseudo"


def find_pseudo(store: Store, run_id: str) -> tuple[Path, str]:
    """Finds the dataset that a run wrote.

    Returns:
        Its folder, and its content hash when it was written.

    Raises:
        BenchError: If the run does not exist, is not finished, or made no pseudo-masks.
    """
    tags = get_finished(store, run_id, (_STEP,), "have made pseudo-masks").data.tags
    return Path(tags["bench.pseudo_folder"]), tags["bench.pseudo_content"]
