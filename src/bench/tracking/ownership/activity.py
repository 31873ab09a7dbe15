"""Whether anything happens in an experiment, asked without reading its runs."""

from dataclasses import dataclass

from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT

from bench.tracking.queries import search_pages
from bench.tracking.store import Store

# The step that looks at runs, and makes none that are looked at.
LOOKER = "compare"


@dataclass(frozen=True)
class Activity:
    """What changes whenever a run starts or ends.

    Attributes:
        running: Names of the runs that are going on, by id; those of compare do not count.
        last_ended: The run that ended last, and when in ms; empty where none has.
    """

    running: dict[str, str]
    last_ended: list[tuple[str, int]]


def observe(store: Store, experiment_id: str) -> Activity:
    """What goes on in an experiment."""
    running = {
        run.info.run_id: run.info.run_name
        for run in search_pages(store, experiment_id, "attributes.status = 'RUNNING'")
        if LOOKER
        not in (run.data.tags.get("bench.step"), run.data.tags.get(MLFLOW_PROJECT_ENTRY_POINT))
    }
    ended = store.client.search_runs(
        [experiment_id],
        f"attributes.status != 'RUNNING' AND tags.`bench.step` != '{LOOKER}'",
        max_results=1,
        order_by=["attributes.end_time DESC"],
    )
    return Activity(running, [(run.info.run_id, run.info.end_time) for run in ended])
