import os
import subprocess
import sys
import time

import pytest
from servers import make_database

from bench.errors import BenchError
from bench.tracking.database import is_database_server, one_at_a_time
from bench.tracking.store import open_store

PROCESSES = 4
# Opens the store at the same moment as others do.
OPEN = """
import os, mlflow.tracking
from bench.tracking.store import open_store
os.read(0, 1)
print(open_store().experiment_id)
"""


def test_several_processes_may_be_the_first_of_a_database(postgres, python_environment):
    environment = python_environment | {
        "MLFLOW_TRACKING_URI": make_database(postgres, f"first {time.time_ns()}"),
        # Made by one of them as well.
        "MLFLOW_EXPERIMENT_NAME": "together",
    }
    go, start = os.pipe()
    opening = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN],
            env=environment,
            stdin=go,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    os.write(start, b"x" * PROCESSES)
    answers = [process.communicate() for process in opening]
    assert [process.returncode for process in opening] == [0] * PROCESSES, answers
    assert {answer for answer, _ in answers} == {"1\n"}


def test_the_lock_is_held_by_one_and_freed_by_its_end(postgres_database):
    import psycopg

    question = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"

    def held():
        with psycopg.connect(postgres_database) as connection:
            return connection.execute(question).fetchone()[0]

    with one_at_a_time(postgres_database, "shown"):
        assert held() == 1
    assert held() == 0


def test_a_database_that_does_not_answer_is_one_line_at_once(monkeypatch):
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://name:secret@127.0.0.1:9/runs")
    started = time.monotonic()
    with pytest.raises(BenchError, match=r"postgresql://127\.0\.0\.1:9/runs does not") as error:
        open_store()
    assert time.monotonic() - started < 30
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_driver_that_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mssql+pyodbc://name:secret@host/runs")
    with pytest.raises(BenchError, match="No module named 'pyodbc'"):
        open_store()


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("postgresql://host/runs", True),
        ("postgresql+psycopg://host/runs", True),
        ("mysql+pymysql://host/runs", True),
        ("sqlite:////runs.db", False),
        ("http://host:5000", False),
        ("databricks", False),
    ],
)
def test_which_addresses_are_those_of_databases(uri, expected):
    assert is_database_server(uri) == expected
