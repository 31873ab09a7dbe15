"""The tracking store: a server that the user names, or the one embedded in the project."""

import contextlib
import importlib
import logging
import math
import os
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from bench.core.checkout import find_home
from bench.core.commands import strayed_store
from bench.core.files import locked
from bench.core.hashing import json_sha256
from bench.core.process import importing, set_up_process
from bench.core.progress import say_while
from bench.errors import BenchError
from bench.tracking.database import is_database_server, one_at_a_time, relocate_artifacts
from bench.tracking.ownership.heartbeat import SignWatch
from bench.tracking.upgrade import check_schema, check_writable, explain_database, upgrade_database

log = logging.getLogger(__name__)

# The project's folder, or the current one where only the package is installed.
_PROJECT = find_home()
# The embedded store; `mlflow run .` finds it through the link mlflow.db in the project's folder,
# which is mlflow's own default.
# Absolute without links: in the container it lies on a volume.
_HOME = (_PROJECT / "mlruns").resolve()
_DATABASE = _HOME / "mlflow.db"
SQLITE = "sqlite:///"
HEALTH_TIMEOUT_S = 10.0
# What a proxy answers while the server behind it is not there.
_NOT_THERE = (502, 503, 504)
# Between two looks whether a server is back.
SERVER_POLL_S = 5.0
# How the user, or `mlflow run`, says where runs go.
_VARIABLES = (
    *("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"),
    *("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"),
)
# Seconds that the end of a run waits for a store that went away, and where the user says it.
_PATIENCE_S = 600.0
_PATIENCE = "BENCH_STORE_PATIENCE_S"
# How mlflow says that a database needs an upgrade.
_OUTDATED = "out-of-date database schema"


@dataclass
class Store:
    """An open tracking store.

    Attributes:
        client: The client of it.
        uri: Its address.
        experiment_id: The experiment that new runs go to.
        adopted: The run that `mlflow run` made for this process, until a step takes it.
        patience_s: How long the end of a run waits for a store that went away.
        watch: Tells which of the others that work in it are gone.
        resume: Whether unfinished runs are gone on with; if not, they are begun anew.
    """

    client: MlflowClient
    uri: str
    experiment_id: str
    adopted: str | None
    patience_s: float = _PATIENCE_S
    watch: SignWatch = field(default_factory=SignWatch)
    resume: bool = True

    def take_adopted(self) -> str | None:
        """Returns the run that `mlflow run` made, once."""
        run_id, self.adopted = self.adopted, None
        return run_id

    @property
    def _database(self) -> Path | None:
        return _file_of(self.uri)

    @property
    def work(self) -> Path:
        """Where work folders are: beside the SQLite database, or in the project for a server."""
        return (self._database.parent if self._database else _HOME) / "work"

    def work_folder(self, fingerprint: str) -> Path:
        """Where the state of an unfinished run is kept, and the lock of its process.

        Equal fingerprints in other stores or experiments are other runs, with folders of their own.
        """
        store = self._database.name if self._database else self.uri
        return self.work / json_sha256([store, self.experiment_id, fingerprint])[:20]


def open_store(*, patient: bool = False) -> Store:
    """Opens the store named by MLFLOW_TRACKING_URI, else the embedded one.

    Args:
        patient: Whether a server that does not answer is waited for, as at the end of a run.

    Raises:
        BenchError: If a server does not answer, the store is no database or an outdated one, or
            the store, run or experiment that the environment names cannot be used.
    """
    uri = tracking_uri()
    _refuse_strayed(uri)
    patience_s = _read_patience()
    if is_server(uri):
        wait_for_server(uri, patience_s if patient else 0)
    adopted = os.environ.get("MLFLOW_RUN_ID")
    try:
        with _explain(uri):
            client = _connect(uri)
            return Store(client, uri, _find_experiment(client, adopted), adopted, patience_s)
    except MlflowException as error:
        if _OUTDATED in str(error) and not is_server(uri):
            raise BenchError(
                f"the database of the tracking store must have the schema of this mlflow, "
                f"{without_password(uri)} has another ({error}): copy it with its own tools, "
                "then type 'mlflow db upgrade' with its address"
            ) from error
        given = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
        named = " ".join(f"{name}={without_password(value)}" for name, value in given.items())
        raise BenchError(
            f"the environment must name a store, run and experiment that are there, received "
            f"{named or f'no variable, so {uri} is opened'} ({error}): correct or unset these "
            "variables, or name another store in MLFLOW_TRACKING_URI"
        ) from error


def _refuse_strayed(uri: str) -> None:
    """Raises BenchError where runs would go to a second store, which `make ui` does not show."""
    strayed = strayed_store()
    if strayed is not None and uri == f"{SQLITE}{strayed}":
        raise BenchError(
            f"runs go to the store of the project, received the command in {strayed.parent}, where "
            f"mlflow made a store of its own: type cd {_PROJECT} first, or set "
            f"MLFLOW_TRACKING_URI={SQLITE}{_DATABASE} (and remove {strayed}, unless it was there "
            "before)"
        )


def _file_of(uri: str) -> Path | None:
    """The file of an SQLite store; None for a server."""
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def _explain(uri: str) -> contextlib.AbstractContextManager[None]:
    database = _file_of(uri)
    return explain_database(database) if database else contextlib.nullcontext()


def _connect(uri: str) -> MlflowClient:
    if database := _file_of(uri):
        prepare_database(database)
        check_schema(database)
    if database or is_database_server(uri):
        # In advance: others wait for the lock meanwhile, and it is half of what MLflow imports.
        with importing():
            importlib.import_module("mlflow.store.tracking.sqlalchemy_store")
    if not is_database_server(uri):
        return MlflowClient(tracking_uri=uri)
    with one_at_a_time(uri, without_password(uri)):
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
        return client


def tracking_uri() -> str:
    """The store's address.

    A relative SQLite path is made absolute; the link mlflow.db becomes the embedded database.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        return f"{SQLITE}{_DATABASE}"
    if uri.startswith(SQLITE):
        return f"{SQLITE}{Path(uri.removeprefix(SQLITE)).resolve()}"
    return uri


def without_password(uri: str) -> str:
    """An address as it may be shown: ``http://name:password@host`` becomes ``http://host``."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if parts.netloc else uri


def _read_patience() -> float:
    given = os.environ.get(_PATIENCE) or str(_PATIENCE_S)
    try:
        patience_s = float(given)
    except ValueError:
        patience_s = math.nan
    if not 0 <= patience_s < math.inf:
        raise BenchError(f"{_PATIENCE} must be a number of seconds from 0, received {given!r}")
    return patience_s


def is_server(uri: str) -> bool:
    """Whether an address is that of a tracking server."""
    return urlsplit(uri).scheme in ("http", "https")


def check_server(uri: str, timeout_s: float | None = None) -> None:
    """Asks a server for its health: mlflow itself would try for minutes before it gave up."""
    address, timeout_s = without_password(uri).rstrip("/"), timeout_s or HEALTH_TIMEOUT_S
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=timeout_s):  # noqa: S310
            return
    except OSError as error:
        if isinstance(error, urllib.error.HTTPError) and error.code not in _NOT_THERE:
            return  # it answers; what it asks for (a password) is the client's business
        raise BenchError(
            f"the tracking server must answer, {address} does not ({error}): start it, or unset "
            "MLFLOW_TRACKING_URI to use the embedded store"
        ) from error


def wait_for_server(uri: str, patience_s: float) -> None:
    """Waits until a server answers.

    Raises:
        BenchError: If it does not in this time.
    """
    until = time.monotonic() + patience_s
    while True:
        try:
            return check_server(uri)
        except BenchError as error:
            left = until - time.monotonic()
            if left <= 0:
                raise
            log.warning("%s; waiting for it, at most %.0f s more", error, left)
            time.sleep(min(SERVER_POLL_S, left))


def prepare_database(database: Path) -> None:
    """Makes an SQLite database if there is none; the embedded one follows a project that moved.

    mlflow makes its tables one by one, so several processes at once, or one that is killed, leave
    a database that never opens again. Here one process makes it, under another name.
    """
    database.parent.mkdir(parents=True, exist_ok=True)
    # mlflow would try for minutes.
    check_writable(database.parent)
    # mlflow puts the artifacts into ./mlruns.
    folder = _PROJECT if database == _DATABASE else database.parent
    with locked(database.with_name(f".{database.name}.lock")), contextlib.chdir(folder):
        if not database.exists():
            fresh = database.with_name(f".{database.name}.new")
            fresh.unlink(missing_ok=True)
            with say_while(f"making the tracking store {database}"):
                client = MlflowClient(tracking_uri=f"{SQLITE}{fresh}")
                client.search_experiments(max_results=1)
            fresh.rename(database)
        if database == _DATABASE:
            relocate_artifacts(_DATABASE, _HOME)


def _find_experiment(client: MlflowClient, adopted: str | None) -> str:
    """The experiment of the adopted run, else the one that the environment names, else Default."""
    if adopted:
        return str(client.get_run(adopted).info.experiment_id)
    experiment_id = os.environ.get("MLFLOW_EXPERIMENT_ID")
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME")
    if name and not experiment_id:
        experiment_id = _find_or_make(client, name)
    experiment = client.get_experiment(experiment_id or "0")
    if experiment.lifecycle_stage != "active":
        raise BenchError(
            f"runs go to an experiment that is there, {experiment.name!r} was deleted: restore it "
            f"(mlflow experiments restore -x {experiment.experiment_id}), or name another by "
            "MLFLOW_EXPERIMENT_NAME"
        )
    return str(experiment.experiment_id)


def _find_or_make(client: MlflowClient, name: str) -> str:
    """The experiment of a name, which other processes may be making at this moment."""
    named = client.get_experiment_by_name(name)
    if named is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:
            named = client.get_experiment_by_name(name)
            if named is None:
                raise
    return str(named.experiment_id)


def experiment_id_of(store: Store, name: str) -> str:
    """Returns the id of an experiment by name; ``auto`` is the store's.

    Raises:
        BenchError: If there is no such experiment.
    """
    if name == "auto":
        return store.experiment_id
    experiment = store.client.get_experiment_by_name(name)
    if experiment is None:
        names = ", ".join(repr(e.name) for e in store.client.search_experiments())
        raise BenchError(
            f"no experiment is named {name!r} in {without_password(store.uri)}: it has {names}"
        )
    return str(experiment.experiment_id)


def _main(arguments: list[str]) -> None:
    """Makes the embedded store if there is none; ``upgrade`` upgrades the one that is named."""
    set_up_process()
    try:
        if not arguments:
            with explain_database(_DATABASE):
                prepare_database(_DATABASE)
            return
        uri = tracking_uri()
        database = _file_of(uri)
        if database is None:
            raise BenchError(
                f"a store on a server must be upgraded there, received {without_password(uri)}: "
                "copy its database with its own tools (pg_dump), then type 'mlflow db upgrade' "
                "with its address"
            )
        if upgrade_database(database) is None:
            log.info("%s has the schema of this mlflow already", database)
    except BenchError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    _main(sys.argv[1:])
