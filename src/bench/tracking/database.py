"""The database behind the store: moved with its project, or a server used directly."""

import contextlib
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy
from mlflow.store.db.db_types import DATABASE_ENGINES, SQLITE

from bench.errors import BenchError

log = logging.getLogger(__name__)

# mlflow keeps the artifacts' places as absolute paths, in these columns.
_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
_POSTGRESQL = "postgresql"
# Names our lock among those of a database; any number that others do not take.
_LOCK = 7_381_240_519
_CONNECT_S = 10


def relocate_artifacts(database: Path, home: Path) -> int:
    """Rewrites the paths of artifacts that moved together with the database.

    A path ``<elsewhere>/mlruns/<rest>`` is rewritten to ``<home>/<rest>`` where that exists, or
    where the old place does not. Places outside a folder of that name, such as a bucket, are
    left alone.

    Args:
        database: The SQLite file.
        home: The folder it lies in now, absolute, named ``mlruns``.

    Returns:
        The number of rows rewritten.
    """
    rewritten = 0
    with sqlite3.connect(database, timeout=60) as connection:
        for table, column in _COLUMNS:
            # LIKE would take my_data for my-data, and Bench for bench.
            query = f"SELECT rowid, {column} FROM {table} WHERE instr({column}, ?) != 1"  # noqa: S608
            rows = connection.execute(query, (f"{home}/",)).fetchall()
            moved = [(new, row) for row, old in rows if (new := moved_path(old, home))]
            update = f"UPDATE {table} SET {column} = ? WHERE rowid = ?"  # noqa: S608
            connection.executemany(update, moved)
            rewritten += len(moved)
    connection.close()
    if rewritten:
        log.info("the project's folder has moved: %d paths of artifacts now follow it", rewritten)
    return rewritten


def moved_path(old: str | None, home: Path) -> str | None:
    """The new place of an artifact path, or None where it stays."""
    if not old or f"/{home.name}/" not in old:
        return None
    path = old.removeprefix("file://")
    rest = path.rpartition(f"/{home.name}/")[2]
    new = home / rest
    if not path.startswith("/") or (Path(path).exists() and not new.exists()):
        return None
    return str(new)


def is_database_server(uri: str) -> bool:
    """Whether an address is that of a database which mlflow knows, other than SQLite."""
    kind = _kind_of(uri)
    return kind in DATABASE_ENGINES and kind != SQLITE


@contextlib.contextmanager
def one_at_a_time(uri: str, shown: str) -> Iterator[None]:
    """Holds a lock of the whole database for a block, so that one process makes the tables.

    mlflow makes them when the first client asks for something, and fails where two do so at once.
    PostgreSQL frees the lock when the process dies. Others have no such lock here.

    Args:
        uri: Address of the database.
        shown: The same, as it may be shown.

    Raises:
        BenchError: If the database does not answer. mlflow itself would try for minutes.
    """
    postgresql = _kind_of(uri) == _POSTGRESQL
    options: dict[str, Any] = {"connect_timeout": _CONNECT_S} if postgresql else {}
    with contextlib.ExitStack() as stack:
        try:
            engine = sqlalchemy.create_engine(
                uri, connect_args=options, poolclass=sqlalchemy.NullPool
            )
            connection = stack.enter_context(engine.begin())
            if postgresql:
                # Of the transaction: a pool in between may give each one to another connection.
                connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(_LOCK)))
        except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
            reason = str(error).splitlines()[0]
            raise BenchError(
                f"the database of the tracking store must answer, {shown} does not ({reason}): "
                "start it, correct MLFLOW_TRACKING_URI, or unset it to use the embedded store"
            ) from error
        yield


def _kind_of(uri: str) -> str:
    """``postgresql`` of ``postgresql+psycopg://host/name``."""
    return urlsplit(uri).scheme.partition("+")[0]
