"""A store that cannot be used is one line that names it, its fault and a remedy."""

import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import mlflow.store.db.utils as schema
import pytest
import sqlalchemy
from alembic import command
from mlflow.exceptions import MlflowException
from mlflow.store.db.base_sql_model import Base
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase

from bench.errors import BenchError
from bench.tracking.opening import explain_failure
from bench.tracking.store import open_store
from bench.tracking.upgrade import upgrade_database

PROJECT = Path(__file__).parents[2]
OLDER = "17e22815139b"  # of mlflow 3.1x, three before the newest here


@pytest.fixture
def database(tmp_path, monkeypatch):
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path / "mlflow.db"


@pytest.fixture(scope="module")
def made_by_an_older_mlflow(tmp_path_factory):
    """A database as an older mlflow made it, with one experiment."""
    path = tmp_path_factory.mktemp("older") / "mlflow.db"
    engine = sqlalchemy.create_engine(f"sqlite:///{path}", poolclass=sqlalchemy.NullPool)
    InitialBase.metadata.create_all(engine)
    config = schema._get_alembic_config(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, OLDER)
        connection.execute(
            sqlalchemy.text(
                "INSERT INTO experiments (experiment_id, name, lifecycle_stage) "
                "VALUES (7, 'kept', 'active')"
            )
        )
    return path


@pytest.fixture
def older(database, made_by_an_older_mlflow):
    """A copy of it, which is the store that the environment names."""
    database.write_bytes(made_by_an_older_mlflow.read_bytes())
    return database


def version_of(path):
    connection = sqlite3.connect(path)
    (version,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    connection.close()
    return version


def test_what_is_no_database_is_named_and_left(database):
    database.write_text("these are notes and no database\n" * 100)
    with pytest.raises(BenchError, match=r"received 'file is not a database' of .*mlflow.db: move"):
        open_store()
    assert database.read_text().startswith("these are notes")


def test_a_damaged_database(database, empty_database):
    database.write_bytes(empty_database.read_bytes()[:200_000])
    with pytest.raises(BenchError, match=r"received 'database disk image is malformed' of .*"):
        open_store()


def test_a_folder_in_its_place(database):
    database.mkdir()
    with pytest.raises(BenchError, match=r"'unable to open database file' of .*mlflow.db"):
        open_store()


def test_a_file_in_the_place_of_its_folder(database, monkeypatch):
    database.write_text("")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}/mlflow.db")
    with pytest.raises(BenchError, match=r"in a folder that can, received"):
        open_store()


def test_a_database_that_may_only_be_read(
    public_folder, empty_database, monkeypatch, as_ordinary_user
):
    path = public_folder / "mlflow.db"
    path.write_bytes(empty_database.read_bytes())
    path.chmod(0o444)
    public_folder.chmod(0o777)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    with (
        as_ordinary_user(),
        pytest.raises(BenchError, match=r"'Permission denied' for .*mlflow.db: give yours"),
    ):
        open_store()
    path.unlink()
    public_folder.chmod(0o755)
    with (
        as_ordinary_user(),
        pytest.raises(BenchError, match=r"in a folder that can, received"),
    ):
        open_store()


@pytest.fixture
def run_python(start_process, python_environment, tmp_path):
    """Runs a program in a process of its own: its exit status, and what it wrote on stderr."""

    def run(code, **environment):
        ended = start_process(
            [sys.executable, "-c", code],
            env=python_environment | environment,
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        _, said = ended.communicate()
        return ended.returncode, said

    return run


UPGRADE = (
    "import runpy, sys\n"
    "sys.argv = ['store', 'upgrade']\n"
    "sys.modules.pop('bench.tracking.store', None)\n"
    "runpy.run_module('bench.tracking.store', run_name='__main__')\n"
)


@pytest.mark.parametrize("kilobytes", [100, 300])
def test_a_disk_without_space_for_a_new_store(tmp_path, make_tree, run_python, kilobytes):
    """A limit on the size of files stands for the disk's; in a process of its own."""
    code = (
        "import resource, runpy, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({kilobytes * 1024}, resource.RLIM_INFINITY))\n"
        f"sys.path.insert(0, {str(PROJECT / 'entrypoints')!r})\n"
        f"sys.argv = ['prepare.py', '--input', {str(make_tree())!r}]\n"
        f"runpy.run_path({str(PROJECT / 'entrypoints/prepare.py')!r}, run_name='__main__')\n"
    )
    uri = f"sqlite:///{tmp_path}/store/mlflow.db"
    status, said = run_python(code, MLFLOW_TRACKING_URI=uri)
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: the tracking store must be a database that can be read and wri")
    assert f"of {tmp_path}/store/mlflow.db: free space on its disk" in line
    assert status == 2


def test_a_disk_that_fills_up_while_a_run_is_made(store):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        with pytest.raises(MlflowException) as caught:
            store.client.create_run(store.experiment_id)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "free space on its disk" in explain_failure(caught.value)
    assert explain_failure(MlflowException("no such run")) is None
    assert explain_failure(ValueError("of the step")) is None


def test_an_older_schema_says_which_store_and_which_command_and_changes_nothing(older):
    before = older.read_bytes()
    with pytest.raises(BenchError) as caught:
        open_store()
    text = str(caught.value)
    assert f"{older} must have the schema of this mlflow" in text
    assert f"'MLFLOW_TRACKING_URI=sqlite:///{older} make upgrade-store'" in text
    assert "keeps a copy" in text
    assert "environment" not in text
    assert older.read_bytes() == before
    assert "upgrade-store: setup\n\tPYTHONPATH=src python -m bench.tracking.store upgrade" in (
        (PROJECT / "Makefile").read_text()
    )


def test_the_upgrade_keeps_a_copy_first_and_loses_no_run(older, run_python):
    status, said = run_python(UPGRADE, MLFLOW_TRACKING_URI=f"sqlite:///{older}")
    copy = older.with_name(f"mlflow.db.{OLDER}")
    assert status == 0, said
    assert str(copy) in said
    assert version_of(copy) == OLDER
    store = open_store()
    assert store.client.get_experiment("7").name == "kept"
    assert set(sqlalchemy.inspect(sqlalchemy.create_engine(store.uri)).get_table_names()) >= set(
        Base.metadata.tables
    )
    assert upgrade_database(older) is None


def test_a_second_copy_has_another_name(older):
    older.with_name(f"mlflow.db.{OLDER}").write_text("of before")
    assert upgrade_database(older) == older.with_name(f"mlflow.db.{OLDER}2")
    assert older.with_name(f"mlflow.db.{OLDER}").read_text() == "of before"


def test_the_schema_of_a_newer_mlflow_is_not_touched(database, empty_database):
    database.write_bytes(empty_database.read_bytes())
    connection = sqlite3.connect(database)
    connection.execute("UPDATE alembic_version SET version_num = 'f00df00df00d'")
    connection.commit()
    connection.close()
    for use in (open_store, lambda: upgrade_database(database)):
        with pytest.raises(BenchError, match=r"received f00df00df00d, which a newer mlflow made"):
            use()
    assert [path.name for path in database.parent.glob("mlflow.db.*")] == []


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "postgresql://127.0.0.1/x"])
def test_a_server_is_upgraded_where_it_is(run_python, uri):
    status, said = run_python(UPGRADE, MLFLOW_TRACKING_URI=uri)
    assert status == 2
    (line,) = said.splitlines()
    assert "mlflow db upgrade" in line


def test_without_a_variable_the_embedded_store_is_named(monkeypatch, database):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "999")
    with pytest.raises(BenchError, match=r"URI=.*MLFLOW_EXPERIMENT_ID=999"):
        open_store()
