"""What a run writes to the store, as data, and what waits of it in a folder.

Every write may be sent again without harm: mlflow takes a metric of the same name, step, time and
value, a parameter of the same value, and a dataset that a run has already, only once.
"""

import contextlib
import errno
import json
import logging
import os
import shutil
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
_BATCH, _ARTIFACT, _INPUTS, END = "batch", "artifact", "inputs", "end"
# mlflow itself would try for four minutes, in which a training stands still. One attempt more is
# for a connection that the server closed while nobody used it.
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
# A large artifact may take long to arrive and keeps mlflow's own limit.
_QUICK = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
# What mlflow says where no server answers, one answers 5xx, or a database is locked, full or gone.
_PASSING = (
    *("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "DEADLINE_EXCEEDED"),
    *("REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED"),
)
_PASSING_STATUS = 500
# What mlflow makes of a row that is there already.
_REFUSED = "BAD_REQUEST"
_PASSING_ERRNO = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE, errno.ETIMEDOUT),
    *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ENETUNREACH, errno.EHOSTUNREACH),
)
_OBJECT_STORES = ("boto3", "botocore")
# Folder in the work folder of a run.
_OUTBOX = "outbox"


def batch(
    metrics: Iterable[Metric] = (), params: Iterable[Param] = (), tags: Iterable[RunTag] = ()
) -> Write:
    """Metrics, parameters and tags of one call."""
    return _stamp(
        _BATCH,
        metrics=[(metric.key, metric.value, metric.timestamp, metric.step) for metric in metrics],
        params=[(param.key, param.value) for param in params],
        tags=[(tag.key, tag.value) for tag in tags],
    )


def artifact(path: Path | str, folder: str | None) -> Write:
    """A file that becomes an artifact."""
    return _stamp(_ARTIFACT, file=str(path), folder=folder)


def inputs(datasets: Iterable[Dataset], context: str) -> Write:
    """Datasets that a run reads."""
    return _stamp(_INPUTS, datasets=[dict(dataset) for dataset in datasets], context=context)


def end(status: str, not_before: int = 0) -> Write:
    """The end of a run; not before its start (ms), wherever its clock was set meanwhile."""
    write = _stamp(END, status=status)
    return write | {"at": max(write["at"], not_before)}


def _stamp(kind: str, **content: Any) -> Write:
    return {"kind": kind, "at": int(time.time() * 1000), **content}


def send(client: MlflowClient, run_id: str, write: Write) -> None:
    """Sends a write to the store, without patience."""
    kind = write["kind"]
    with _impatient({} if kind == _ARTIFACT else _QUICK):
        if kind == _BATCH:
            client.log_batch(
                run_id,
                metrics=[Metric(*metric) for metric in write["metrics"]],
                params=[Param(*param) for param in write["params"]],
                tags=[RunTag(*tag) for tag in write["tags"]],
            )
        elif kind == _ARTIFACT:
            client.log_artifact(run_id, write["file"], write["folder"])
        elif kind == _INPUTS:
            tag = InputTag("mlflow.data.context", write["context"])
            datasets = [DatasetInput(Dataset(**one), [tag]) for one in write["datasets"]]
            _log_inputs(client, run_id, datasets)
        else:
            client.set_terminated(run_id, write["status"], write["at"])


def _log_inputs(client: MlflowClient, run_id: str, datasets: list[DatasetInput]) -> None:
    """Logs datasets, also where another run logs one of them for the first time just now.

    mlflow looks whether a dataset is known and adds it if not, so that the slower of two gets
    BAD_REQUEST from the database. Each dataset can be new only once: as many attempts fail at most.
    """
    for left in reversed(range(len(datasets) + 1)):
        try:
            client.log_inputs(run_id, datasets)
            return
        except MlflowException as error:
            if not left or error.error_code != _REFUSED:
                raise


def may_pass(error: Exception) -> bool:
    """Whether the same write may succeed later: the store is away, busy or full."""
    if isinstance(error, MlflowException):
        return error.error_code in _PASSING
    if isinstance(error, requests.RequestException):
        return error.response is None or error.response.status_code >= _PASSING_STATUS
    if isinstance(error, OSError):
        return error.errno in _PASSING_ERRNO
    return type(error).__module__.partition(".")[0] in _OBJECT_STORES


@contextlib.contextmanager
def _impatient(more: dict[str, str]) -> Iterator[None]:
    """Makes mlflow give up soon; it reads its limits from the environment at every call."""
    limits = _IMPATIENT | more
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


class Spool:
    """A line of JSON for every write, in a file that a power cut leaves readable.

    Attributes:
        folder: Where all of it is; there is none while nothing waits.
        file: The lines: whose they are, then the writes.
    """

    def __init__(self, work: Path) -> None:
        """Finds what an earlier process left in a run's work folder."""
        self.work, self.folder = work, work / _OUTBOX
        self.file = self.folder / "writes.jsonl"
        self._position = self.folder / "position"

    @property
    def waiting(self) -> bool:
        """Whether writes wait."""
        return self.file.exists()

    def append(self, write: Write, *, run_id: str, store: str) -> None:
        """Adds a write; it is on the disk when this returns, and so is its file."""
        if write["kind"] == _ARTIFACT:
            write = write | {"file": self._keep(Path(write["file"]))}
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [write] if self.waiting else [{"run_id": run_id, "store": store}, write]
        size = self.file.stat().st_size if self.waiting else 0
        try:
            with self.file.open("ab") as file:
                file.writelines(json.dumps(line).encode() + b"\n" for line in lines)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            # A disk that is full takes half of a line, which would spoil the next one.
            with contextlib.suppress(FileNotFoundError):
                os.truncate(self.file, size)
            self.repair()
            raise
        if write["kind"] == _ARTIFACT or len(lines) > 1:
            self._sync_names()

    def _keep(self, path: Path) -> str:
        """Keeps a file that is to become an artifact; returns its name in the folder."""
        kept = self.folder / "files" / str(sum(1 for _ in self.folder.glob("files/*"))) / path.name
        kept.parent.mkdir(parents=True)
        if path.is_relative_to(self.work):
            # Files there are replaced, never changed, so that a second name costs nothing.
            os.link(path, kept)
        else:
            shutil.copyfile(path, kept)
            with kept.open("rb") as file:
                os.fsync(file.fileno())
        return str(kept.relative_to(self.folder))

    def _sync_names(self) -> None:
        """Puts the names of new files on the disk, which a power cut takes otherwise."""
        for folder in (self.work, self.folder, *self.folder.glob("files/**/")):
            names = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(names)
            finally:
                os.close(names)

    def repair(self) -> None:
        """Cuts off the line that a process was killed in; nobody was told that it is there."""
        if self.waiting:
            content = self.file.read_bytes()
            whole = content.rfind(b"\n") + 1
            if content.count(b"\n", 0, whole) < 2:
                self.clear()
            elif whole < len(content):
                os.truncate(self.file, whole)

    def owner(self) -> dict[str, str]:
        """The run and the address of the store that the writes are for."""
        with self.file.open("rb") as file:
            return dict(json.loads(file.readline()))

    def pending(self) -> Iterator[Write]:
        """Yields the writes that were not sent yet; one that is followed by another was sent."""
        sent = int(self._position.read_text()) if self._position.exists() else 0
        with self.file.open("rb") as file:
            file.readline()
            for number, line in enumerate(file):
                if number < sent:
                    continue
                write = json.loads(line)
                if write["kind"] == _ARTIFACT:
                    write["file"] = str(self.folder / write["file"])
                yield write
                # What is sent twice after a kill does no harm, so this need not reach the disk.
                fresh = self._position.with_name("position.new")
                fresh.write_text(str(number + 1))
                fresh.rename(self._position)

    def summary(self) -> tuple[int, int]:
        """The number of writes, sent or not, and when the first was written, in ms."""
        with self.file.open("rb") as file:
            _, *lines = file
        return len(lines), json.loads(lines[0])["at"]

    def clear(self) -> None:
        """Removes everything: at once, so that no line names a file that is gone."""
        gone = self.folder.with_name(f".{_OUTBOX}.sent")
        shutil.rmtree(gone, ignore_errors=True)
        self.folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
