"""The SQLite store's schema, whether it is this mlflow's, and its upgrade, a copy kept first."""

import contextlib
import errno
import functools
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import mlflow.store.db.utils as _mlflow_schema
import sqlalchemy
from alembic.script import ScriptDirectory

from bench.core.checkout import find_checkout
from bench.core.files import locked
from bench.errors import BenchError

log = logging.getLogger(__name__)

# What does not change while a process lives is read once: mlflow reads all of its migration scripts
# for it whenever a store is opened, and we asked before it.
_mlflow_schema._get_latest_schema_revision = functools.cache(
    _mlflow_schema._get_latest_schema_revision
)
_SQLITE = "sqlite:///"
# What upgrades a store, in the project's folder and without one.
_COMMAND = (
    "make upgrade-store' in the project's folder"
    if find_checkout()
    else "python -m bench.tracking.store upgrade'"
)
_WAIT_S = 60.0
_MOVE_AWAY = "look after it, or move its file away, and a new one is made"
# By what SQLite says.
_REMEDIES = {
    "not a database": "move it away, and a new store is made",
    "is full": "free space on its disk",
    "I/O error": "free space on its disk, or repair it",
    "readonly": "give yourself permission to write it and its folder",
    "unable to open": "give yourself permission to read it, if it is a file",
    "locked": "end the process that holds it",
}


@contextlib.contextmanager
def explain_database(database: Path) -> Iterator[None]:
    """Turns what is wrong with a database file into a BenchError for a block.

    A disk without space is left as the OSError that it is.
    """
    try:
        yield
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise BenchError(
            f"the tracking store {database} must be a file that can be written, in a folder that "
            f"can, received {error.strerror!r} for {error.filename}: give yourself permission, or "
            "name another file in MLFLOW_TRACKING_URI=sqlite:////..."
        ) from error
    except Exception as error:
        if reason := describe_failure(error, str(database)):
            raise BenchError(reason) from error
        raise


def describe_failure(error: BaseException, store: str) -> str | None:
    """Says what is wrong with a store whose database failed; None for another error.

    Args:
        error: What was raised; mlflow wraps what the database said, or raises it as it is.
        store: The database, as it may be shown.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, (sqlalchemy.exc.DBAPIError, sqlite3.Error)):
        cause = cause.__cause__
    if cause is None:
        return None
    reason = str(getattr(cause, "orig", cause)).splitlines()[0]
    remedy = next((text for part, text in _REMEDIES.items() if part in reason), _MOVE_AWAY)
    return (
        f"the tracking store must be a database that can be read and written, received {reason!r} "
        f"of {store}: {remedy}, or name another store in MLFLOW_TRACKING_URI"
    )


def check_schema(database: Path) -> None:
    """Checks that a database is empty, or has the schema of this mlflow, and can be written.

    Left alone, mlflow would upgrade some without a copy, and say of others what concerns none of
    our variables.

    Raises:
        BenchError: If it has another schema.
        PermissionError: If it may only be read.
    """
    with contextlib.closing(_connect(database)) as connection:
        found = _read_version(connection)
    # SQLite opens it all the same, and fails when the first run is logged.
    check_writable(database)
    newest = _mlflow_schema._get_latest_schema_revision()
    if found in (None, newest):
        return
    if found not in _list_versions():
        raise BenchError(
            f"the tracking store {database} must have the schema of this mlflow ({newest}), "
            f"received {found}, which a newer mlflow made: go on with that version of this "
            "project, or name another store in MLFLOW_TRACKING_URI=sqlite:////..."
        )
    raise BenchError(
        f"the tracking store {database} must have the schema of this mlflow ({newest}), received "
        f"{found}, which an older mlflow made: type 'MLFLOW_TRACKING_URI={_SQLITE}{database} "
        f"{_COMMAND}, which keeps a copy beside it first"
    )


def check_writable(path: Path) -> None:
    """Raises PermissionError unless a file or folder can be written."""
    if not os.access(path, os.W_OK, effective_ids=True):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def upgrade_database(database: Path) -> Path | None:
    """Upgrades an SQLite store to the schema of this mlflow.

    Args:
        database: The file.

    Returns:
        The copy of what was there before; None if there was nothing to do.

    Raises:
        BenchError: If it is not there, is no database, or a newer mlflow's.
    """
    if not database.is_file():
        raise BenchError(f"a store must be there, received {database}, which is none: correct it")
    with explain_database(database), locked(database.with_name(f".{database.name}.lock")):
        with contextlib.closing(_connect(database)) as connection:
            found = _read_version(connection)
            if found == _mlflow_schema._get_latest_schema_revision():
                return None
            if found is not None and found not in _list_versions():
                check_schema(database)
            copy = _free_name(database, found or "empty")
            with contextlib.closing(sqlite3.connect(copy)) as kept:
                connection.backup(kept)
        log.info("the store as it was is kept in %s", copy)
        engine = sqlalchemy.create_engine(f"{_SQLITE}{database}", poolclass=sqlalchemy.NullPool)
        _mlflow_schema._upgrade_db(engine)
    return copy


def _connect(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True, timeout=_WAIT_S)


def _read_version(connection: sqlite3.Connection) -> str | None:
    """The schema's version; None where mlflow has not made its tables."""
    names = connection.execute("SELECT name FROM sqlite_master WHERE name = 'alembic_version'")
    if names.fetchone() is None:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


def _list_versions() -> set[str]:
    """All that this mlflow can upgrade."""
    scripts = ScriptDirectory.from_config(_mlflow_schema._get_alembic_config(""))
    return {script.revision for script in scripts.walk_revisions()}


def _free_name(database: Path, version: str) -> Path:
    copies = (database.with_name(f"{database.name}.{version}{n}") for n in ("", *range(2, 1000)))
    return next(copy for copy in copies if not copy.exists())
