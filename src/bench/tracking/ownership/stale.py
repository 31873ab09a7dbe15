"""Runs whose process is gone (killed, no power): found, marked, and resumed by the same command."""

import logging
from dataclasses import dataclass

from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT

from bench.tracking.ownership.claims import read_claims, remove_claim
from bench.tracking.ownership.heartbeat import last_beat
from bench.tracking.runs import STALE_TAG
from bench.tracking.searching import search_pages
from bench.tracking.store import Store

log = logging.getLogger(__name__)

# The step that looks at runs, and makes none that are looked at.
_LOOKER = "compare"


def reap(store: Store, experiment_id: str | None = None) -> list[str]:
    """Ends the RUNNING runs of an experiment that nobody runs, as KILLED; names each in a line.

    Runs without a sign of life (of other tools) are left alone.

    Returns:
        Their ids.
    """
    experiment_id = experiment_id or store.experiment_id
    stale = [
        str(run.info.run_id)
        for run in search_pages(store, experiment_id, "attributes.status = 'RUNNING'")
        if _is_stale(store, run.info.run_id, run.data.tags)
    ]
    reaped = [run_id for run_id in stale if _end_stale(store, run_id)]
    if experiment_id == store.experiment_id:
        for key, beat in read_claims(store).items():
            if store.watch.is_stale(key, beat):
                remove_claim(store, key)
    return reaped


def _is_stale(store: Store, run_id: str, tags: dict[str, str]) -> bool:
    beat = last_beat(tags)
    return beat is not None and store.watch.is_stale(run_id, beat)


def _end_stale(store: Store, run_id: str) -> bool:
    """Marks a run as KILLED, unless somebody has gone on with it meanwhile."""
    run = store.client.get_run(run_id)
    beat = last_beat(run.data.tags)
    if run.info.status != "RUNNING" or not beat or not store.watch.is_stale(run_id, beat):
        return False
    gone = f"its {beat.holder} is gone, last sign of life {beat.last_alive()}"
    reason = f"{gone}; the same command resumes it"
    for tag in ("bench.reason", STALE_TAG):
        store.client.set_tag(run_id, tag, reason)
    # Its clock may have been set back before its last sign of life.
    ended = max(int(beat.time * 1000), run.info.start_time)
    store.client.set_terminated(run_id, "KILLED", end_time=ended)
    log.info("stale: %s (run %s): %s", run.info.run_name, run_id, reason)
    return True


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
        if _LOOKER
        not in (run.data.tags.get("bench.step"), run.data.tags.get(MLFLOW_PROJECT_ENTRY_POINT))
    }
    ended = store.client.search_runs(
        [experiment_id],
        f"attributes.status != 'RUNNING' AND tags.`bench.step` != '{_LOOKER}'",
        max_results=1,
        order_by=["attributes.end_time DESC"],
    )
    return Activity(running, [(run.info.run_id, run.info.end_time) for run in ended])
