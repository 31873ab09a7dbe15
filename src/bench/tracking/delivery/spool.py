"""What a run writes to the store, as data: so that it can be kept in a file and sent later.

Every write may be sent again without harm: mlflow takes a metric of the same name, step, time and
value, a parameter of the same value, and a dataset that a run has already, only once.
"""

import contextlib
import errno
import logging
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import requests
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

# A kind, when it was written (ms), and what belongs to the kind.
Write = dict[str, Any]

BATCH, ARTIFACT, INPUTS, END = "batch", "artifact", "inputs", "end"
# mlflow itself would try for four minutes, in which a training stands still. One attempt more is
# for a connection that the server closed while nobody used it.
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
# A large artifact may take long to arrive and keeps mlflow's own limit.
QUICK = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
# What mlflow says where no server answers, one answers 5xx, or a database is locked, full or gone.
PASSING = {
    "INTERNAL_ERROR",
    "TEMPORARILY_UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "REQUEST_LIMIT_EXCEEDED",
    "RESOURCE_EXHAUSTED",
}
PASSING_STATUS = 500
PASSING_ERRNO = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.EROFS,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
}
OBJECT_STORES = ("boto3", "botocore")


def batch(
    metrics: Iterable[Metric] = (), params: Iterable[Param] = (), tags: Iterable[RunTag] = ()
) -> Write:
    """Metrics, parameters and tags of one call."""
    return stamp(
        BATCH,
        metrics=[(metric.key, metric.value, metric.timestamp, metric.step) for metric in metrics],
        params=[(param.key, param.value) for param in params],
        tags=[(tag.key, tag.value) for tag in tags],
    )


def artifact(path: Path | str, folder: str | None) -> Write:
    """A file that becomes an artifact."""
    return stamp(ARTIFACT, file=str(path), folder=folder)


def inputs(datasets: Iterable[Dataset], context: str) -> Write:
    """Datasets that a run reads."""
    return stamp(INPUTS, datasets=[dict(dataset) for dataset in datasets], context=context)


def end(status: str, not_before: int = 0) -> Write:
    """The end of a run; not before its start (ms), wherever its clock was set meanwhile."""
    write = stamp(END, status=status)
    return write | {"at": max(write["at"], not_before)}


def stamp(kind: str, **content: Any) -> Write:
    """A write of this moment."""
    return {"kind": kind, "at": int(time.time() * 1000), **content}


def send(client: MlflowClient, run_id: str, write: Write) -> None:
    """Sends a write to the store, without patience."""
    kind = write["kind"]
    with impatient({} if kind == ARTIFACT else QUICK):
        if kind == BATCH:
            client.log_batch(
                run_id,
                metrics=[Metric(*metric) for metric in write["metrics"]],
                params=[Param(*param) for param in write["params"]],
                tags=[RunTag(*tag) for tag in write["tags"]],
            )
        elif kind == ARTIFACT:
            client.log_artifact(run_id, write["file"], write["folder"])
        elif kind == INPUTS:
            tag = InputTag("mlflow.data.context", write["context"])
            datasets = [DatasetInput(Dataset(**one), [tag]) for one in write["datasets"]]
            client.log_inputs(run_id, datasets)
        else:
            client.set_terminated(run_id, write["status"], write["at"])


def may_pass(error: Exception) -> bool:
    """Whether the same write may succeed later: the store is away, busy or full."""
    if isinstance(error, MlflowException):
        return error.error_code in PASSING
    if isinstance(error, requests.RequestException):
        return error.response is None or error.response.status_code >= PASSING_STATUS
    if isinstance(error, OSError):
        return error.errno in PASSING_ERRNO
    return type(error).__module__.partition(".")[0] in OBJECT_STORES


@contextlib.contextmanager
def impatient(more: dict[str, str]) -> Iterator[None]:
    """Makes mlflow give up soon; it reads its limits from the environment at every call."""
    limits = IMPATIENT | more
    before = {name: os.environ.get(name) for name in limits}
    # A database that is away would be a page of traceback at every attempt.
    chatty = logging.getLogger("mlflow.store.db.utils")
    level = chatty.level
    chatty.setLevel(logging.CRITICAL)
    os.environ.update(limits)
    try:
        yield
    finally:
        chatty.setLevel(level)
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value
