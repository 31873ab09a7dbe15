"""A database server that is used without a tracking server in front of it."""

import contextlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy
from mlflow.store.db.db_types import DATABASE_ENGINES, SQLITE

from bench.errors import BenchError

POSTGRESQL = "postgresql"
# Names our lock among those of a database; any number that others do not take.
LOCK = 7_381_240_519
CONNECT_S = 10


def is_database_server(uri: str) -> bool:
    """Whether an address is that of a database which mlflow knows, other than SQLite."""
    kind = kind_of(uri)
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
    postgresql = kind_of(uri) == POSTGRESQL
    options: dict[str, Any] = {"connect_timeout": CONNECT_S} if postgresql else {}
    with contextlib.ExitStack() as stack:
        try:
            engine = sqlalchemy.create_engine(
                uri, connect_args=options, poolclass=sqlalchemy.NullPool
            )
            connection = stack.enter_context(engine.begin())
            if postgresql:
                # Of the transaction: a pool in between may give each one to another connection.
                connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(LOCK)))
        except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
            reason = str(error).splitlines()[0]
            raise BenchError(
                f"the database of the tracking store must answer, {shown} does not ({reason}): "
                "start it, correct MLFLOW_TRACKING_URI, or unset it to use the embedded store"
            ) from error
        yield


def kind_of(uri: str) -> str:
    """``postgresql`` of ``postgresql+psycopg://host/name``."""
    return urlsplit(uri).scheme.partition("+")[0]
