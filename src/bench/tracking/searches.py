"""Finished searches for the best combination, by which a champion is chosen."""

from bench.errors import BenchError
from bench.tracking.queries import get_finished, search
from bench.tracking.store import Store

SEARCH_STEP = "optimize"


def find_search(store: Store, experiment_id: str, structure: str) -> str:
    """Returns the id of the newest finished search of a structure.

    Raises:
        BenchError: If there is none.
    """
    wanted = {"bench.step": SEARCH_STEP, "bench.structure": structure}
    found = next(search(store, experiment_id, wanted, finished=True), None)
    if found is None:
        raise BenchError(
            f"a champion comes from a finished search, there is none of {structure} in this "
            f"experiment: run optimize with structure={structure} first, or give run_id or "
            "experiment"
        )
    return str(found.info.run_id)


def get_search(store: Store, run_id: str) -> str:
    """Returns the id of a finished search; that of another run that a pointer names.

    Raises:
        BenchError: If the run does not exist, is not finished, or is of another step.
    """
    return str(get_finished(store, run_id, (SEARCH_STEP,), "hold a recipe").info.run_id)
