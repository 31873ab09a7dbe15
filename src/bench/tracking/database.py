"""Lets the embedded store follow a project folder that was moved, copied or cloned."""

import logging
import sqlite3
from pathlib import Path

log = logging.getLogger(__name__)

# mlflow keeps the artifacts' places as absolute paths, in these columns.
COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


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
        for table, column in COLUMNS:
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
