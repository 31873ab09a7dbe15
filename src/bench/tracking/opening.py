"""Opens the run of an identity: a new one, one to go on with, or one that is finished."""

import contextlib
import logging
import os
import shutil
import time
from pathlib import Path

from mlflow.entities import Run as MlflowRun
from mlflow.entities import RunTag
from mlflow.exceptions import MlflowException

from bench.errors import BenchError
from bench.tracking.delivery.outbox import LATE_TAG, Outbox
from bench.tracking.descriptions import MADE_BY_MLFLOW, NOTE_TAG, RUNS, describe_experiment
from bench.tracking.ownership.claims import Hold, take_hold
from bench.tracking.runs import STALE_TAG, Identity, Run
from bench.tracking.store import Store, open_store, tracking_uri, without_password
from bench.tracking.upgrade import describe_failure

log = logging.getLogger(__name__)
_MISTYPED_TAG = "bench.mistyped"


def open_run(
    store: Store, identity: Identity, *, parent: str | None = None, reuse: bool = True
) -> Run:
    """Opens the run of an identity.

    A FINISHED run of the same fingerprint is reused; an unfinished one, whose process is gone, is
    resumed under its id; else the run that `mlflow run` made is taken, or a new one made.

    Args:
        store: The tracking store.
        identity: What the run is.
        parent: Id of the run that it is a child of.
        reuse: Whether a finished run may serve; if not, the run is always new.

    Raises:
        BusyError: If another process is doing the same at this moment.
    """
    fingerprint = identity.fingerprint()
    adopted = None if parent else store.take_adopted()
    work = store.work_folder(fingerprint if reuse else f"{fingerprint} {time.time_ns()}")
    hold = take_hold(store, work, identity.name())
    try:
        if not reuse:
            return _new_run(store, identity, adopted, parent, work, hold)
        found = _find_same(store, fingerprint)
        if found is None or found.info.status != "FINISHED":
            hold.claim(fingerprint, identity.name())
            # Whoever had the claim before may have finished it.
            found = _find_same(store, fingerprint)
        if found is not None:
            found = _send_left(store, found, work)
        if found is None or (found.info.status != "FINISHED" and not store.resume):
            _clear_work(work)
            return _new_run(store, identity, adopted, parent, work, hold)
        return _same_run(store, identity, found, adopted, work, hold)
    except BaseException:
        hold.close()
        raise


def _same_run(
    store: Store, identity: Identity, found: MlflowRun, adopted: str | None, work: Path, hold: Hold
) -> Run:
    run_id = str(found.info.run_id)
    if adopted and adopted != run_id:
        _point_to(store, adopted, run_id, identity)
    if found.info.status == "FINISHED":
        hold.close()
        shutil.rmtree(work, ignore_errors=True)
        log.info("%s: reusing finished run %s (same fingerprint)", identity.name(), run_id)
        return Run(store, run_id, "reused", work, None)
    run = Run(store, run_id, "resumed", work, hold, found)
    store.client.update_run(run_id, status="RUNNING")
    for tag in {"bench.reason", STALE_TAG} & found.data.tags.keys():
        store.client.delete_tag(run_id, tag)
    log.info("%s: resuming run %s, which was %s", identity.name(), run_id, found.info.status)
    return run


def _send_left(store: Store, found: MlflowRun, work: Path) -> MlflowRun:
    """Sends what an earlier process of a run could not; returns the run as it is then."""
    run_id = str(found.info.run_id)
    outbox = Outbox(store, run_id, work, found.data.tags.get(LATE_TAG, ""))
    if not outbox.spool.waiting:
        return found
    if outbox.spool.owner()["run_id"] != run_id:
        log.warning("what was kept for a run that is gone is removed: %s", outbox.spool.folder)
        outbox.spool.clear()
        return found
    outbox.wait(0)
    return store.client.get_run(run_id)


def _new_run(
    store: Store,
    identity: Identity,
    adopted: str | None,
    parent: str | None,
    work: Path,
    hold: Hold,
) -> Run:
    describe_experiment(store.client, store.experiment_id)
    tags = identity.tags() | ({"mlflow.parentRunId": parent} if parent else {})
    if identity.step in RUNS:
        tags[NOTE_TAG] = RUNS[identity.step]
    if adopted:
        remove_mistyped(store, store.experiment_id)
        run_id = adopted
        store.client.update_run(run_id, status="RUNNING", name=identity.name())
        store.client.log_batch(run_id, tags=[RunTag(k, v) for k, v in tags.items()])
        # What the user typed is among its parameters.
        return Run(store, run_id, "new", work, hold, store.client.get_run(run_id))
    made = store.client.create_run(store.experiment_id, tags=tags, run_name=identity.name())
    return Run(store, str(made.info.run_id), "new", work, hold)


def _clear_work(work: Path) -> None:
    for path in work.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()


def finished_run(store: Store, identity: Identity) -> str:
    """Id of the run of an identity that open_run would reuse; empty if there is none."""
    found = _find_same(store, identity.fingerprint())
    return str(found.info.run_id) if found and found.info.status == "FINISHED" else ""


def _find_same(store: Store, fingerprint: str) -> MlflowRun | None:
    """The finished run of a fingerprint, else the newest unfinished one, else None."""
    runs = store.client.search_runs(
        [store.experiment_id],
        f"tags.`bench.fingerprint` = '{fingerprint}'",
        order_by=["attributes.start_time DESC"],
    )
    finished = [run for run in runs if run.info.status == "FINISHED"]
    return next(iter(finished + list(runs)), None)


def _point_to(store: Store, adopted: str, run_id: str, identity: Identity) -> None:
    store.client.update_run(adopted, name=f"see {identity.name()}")
    note = f"The same {identity.step} is kept as run {run_id}."
    tags = {"bench.see": run_id, NOTE_TAG: note}
    store.client.log_batch(adopted, tags=[RunTag(k, v) for k, v in tags.items()])


def name_adopted(step: str) -> None:
    """Names and describes the run that `mlflow run` made for a step which keeps none of its own.

    Such a step needs no store, so none that does not answer makes it fail.
    """
    if run_id := os.environ.get("MLFLOW_RUN_ID"):
        with contextlib.suppress(BenchError, MlflowException):
            store = open_store()
            store.client.update_run(run_id, name=step)
            tags = {"bench.step": step, NOTE_TAG: MADE_BY_MLFLOW[step]}
            store.client.log_batch(run_id, tags=[RunTag(k, v) for k, v in tags.items()])


def explain_failure(error: BaseException) -> str | None:
    """Says in a sentence what is wrong with the store; None for an error of anything else."""
    return describe_failure(error, without_password(tracking_uri()))


def report_failure(step: str, reason: str, *, mistyped: bool = False) -> None:
    """Says on the run that `mlflow run` made which step failed before taking it, and why.

    The UI shows its description whole, a tag only in part. mlflow cannot end a run that is gone
    already, so that of a mistyped command is removed by the next one, or by `make ui`.
    """
    with contextlib.suppress(Exception):
        store = open_store()
        if not store.adopted:
            return
        tags = {"bench.reason": reason} | ({_MISTYPED_TAG: "true"} if mistyped else {})
        run = store.client.get_run(store.adopted)
        if "bench.step" not in run.data.tags:
            store.client.update_run(store.adopted, name=f"{step} failed")
            tags[NOTE_TAG] = f"**{step} failed before it began:** {reason}"
        store.client.log_batch(store.adopted, tags=[RunTag(k, v[:8000]) for k, v in tags.items()])


def remove_mistyped(store: Store, experiment_id: str) -> None:
    """Removes the runs that `mlflow run` made for commands that no step could follow."""
    condition = f"tags.`{_MISTYPED_TAG}` = 'true' AND attributes.status = 'FAILED'"
    # Another process may do it at this moment.
    with contextlib.suppress(MlflowException):
        for run in store.client.search_runs([experiment_id], condition):
            store.client.delete_run(run.info.run_id)
