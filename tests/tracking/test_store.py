import socket
import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from mlflow.tracking import MlflowClient
from servers import free_port

from bench.errors import BenchError
from bench.tracking import store as store_module
from bench.tracking.store import (
    check_server,
    experiment_id_of,
    open_store,
    prepare_database,
    tracking_uri,
    wait_for_server,
    without_password,
)


def test_eight_processes_at_once_make_one_whole_store(eight_processes):
    assert eight_processes.returncode == 0, eight_processes.stderr
    assert "Traceback" not in eight_processes.stderr


def test_the_store_they_made_holds_runs(make_store, tmp_path):
    store = make_store(tmp_path / "copy")
    run = store.client.create_run(store.experiment_id)
    assert store.client.get_run(run.info.run_id).info.status == "RUNNING"


def test_without_a_name_the_store_is_the_embedded_one(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    project = Path(__file__).parents[2]
    assert tracking_uri() == f"sqlite:///{(project / 'mlruns').resolve()}/mlflow.db"


def test_a_relative_path_and_a_link_are_the_file_itself(monkeypatch, tmp_path):
    (tmp_path / "real.db").touch()
    (tmp_path / "link.db").symlink_to("real.db")
    monkeypatch.chdir(tmp_path)
    for uri in ("sqlite:///link.db", f"sqlite:///{tmp_path}/link.db", "sqlite:///real.db"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert tracking_uri() == f"sqlite:///{tmp_path}/real.db"


def test_a_server_that_is_down_is_an_error_at_once(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    begun = time.monotonic()
    with pytest.raises(BenchError, match=r"server must answer, http://127\.0\.0\.1:9 does not"):
        open_store()
    assert time.monotonic() - begun < 5


def test_a_server_that_does_not_answer_is_an_error_in_seconds(monkeypatch):
    monkeypatch.setattr(store_module, "HEALTH_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(BenchError, match="timed out"):
            check_server(uri)


def test_the_patience_is_what_the_user_says(store, monkeypatch):
    monkeypatch.delenv("BENCH_STORE_PATIENCE_S", raising=False)
    assert open_store().patience_s == 600
    monkeypatch.setenv("BENCH_STORE_PATIENCE_S", "30")
    assert open_store().patience_s == 30
    for wrong in ("soon", "-1", "nan", "inf"):
        monkeypatch.setenv("BENCH_STORE_PATIENCE_S", wrong)
        with pytest.raises(BenchError, match=f"number of seconds from 0, received '{wrong}'"):
            open_store()


class Guarded(BaseHTTPRequestHandler):
    """A server that wants a password."""

    def do_GET(self):
        self.send_error(401)

    def log_message(self, *_):
        pass


def test_a_server_that_comes_back_is_waited_for(monkeypatch, caplog):
    monkeypatch.setattr(store_module, "SERVER_POLL_S", 0.05)
    port, started = free_port(), []

    def start():
        started.append(HTTPServer(("127.0.0.1", port), Guarded))
        started[0].handle_request()

    thread = threading.Timer(0.5, start)
    thread.start()
    wait_for_server(f"http://127.0.0.1:{port}", 60)
    thread.join()
    started[0].server_close()
    assert "waiting for it, at most 60 s more" in caplog.messages[0]
    with pytest.raises(BenchError, match="server must answer"):
        wait_for_server(f"http://127.0.0.1:{port}", 0.1)


def test_a_server_that_wants_a_password_answers():
    server = HTTPServer(("127.0.0.1", 0), Guarded)
    threading.Thread(target=server.handle_request, daemon=True).start()
    check_server(f"http://name:secret@127.0.0.1:{server.server_port}/")
    server.server_close()


class Proxy(BaseHTTPRequestHandler):
    """A proxy that answers with what is left, and then for the server behind it."""

    left: ClassVar[list[int]] = []

    def do_GET(self):
        self.send_response(self.left.pop(0) if self.left else 200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def proxy():
    """The address of a proxy."""
    server = HTTPServer(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_proxy_without_its_server_is_no_server(proxy, monkeypatch, status):
    monkeypatch.setattr(Proxy, "left", [status])
    with pytest.raises(BenchError, match=rf"{proxy} does not \(HTTP Error {status}"):
        check_server(proxy)
    check_server(proxy)


def test_the_server_behind_a_proxy_is_waited_for(proxy, monkeypatch, caplog):
    monkeypatch.setattr(store_module, "SERVER_POLL_S", 0.05)
    monkeypatch.setattr(Proxy, "left", [502, 503, 504])
    wait_for_server(proxy, 60)
    assert ["HTTP Error" in line for line in caplog.messages] == [True] * 3
    assert Proxy.left == []


def test_a_password_is_not_shown(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://name:secret@127.0.0.1:9/path")
    with pytest.raises(BenchError, match=r"http://127\.0\.0\.1:9/path does not") as error:
        open_store()
    assert "secret" not in str(error.value)
    for uri in ("sqlite:////data/m@home/mlflow.db", "0123abcd", "postgresql://host/db"):
        assert without_password(uri) == uri


@pytest.mark.parametrize("uri", ["nonsense://host/path", "file:///tmp/no-file-store"])
def test_an_address_that_mlflow_cannot_use_is_an_error(monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(BenchError, match="MLFLOW_TRACKING_URI"):
        open_store()


def test_the_run_that_mlflow_made_decides_the_experiment(store, monkeypatch):
    experiment = store.client.create_experiment("another")
    run = store.client.create_run(experiment)
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    opened = open_store()
    assert (opened.experiment_id, opened.adopted) == (experiment, run.info.run_id)
    assert opened.take_adopted() == run.info.run_id
    assert opened.take_adopted() is None


def test_an_experiment_is_found_or_made_by_name(store, monkeypatch):
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
    assert open_store().experiment_id == "0"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "tests")
    assert open_store().experiment_id == store.experiment_id
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "new")
    made = open_store().experiment_id
    assert store.client.get_experiment(made).name == "new"
    assert open_store().experiment_id == made


@pytest.mark.parametrize("name", ["MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"])
def test_a_run_or_an_experiment_that_is_not_there_is_an_error(store, monkeypatch, name):
    monkeypatch.setenv(name, "12345678")
    with pytest.raises(BenchError, match=f"{name}.*12345678"):
        open_store()


def test_a_deleted_experiment_is_an_error(store, monkeypatch):
    store.client.delete_experiment(store.experiment_id)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "tests")
    with pytest.raises(BenchError, match=r"tests.*deleted"):
        open_store()


def test_experiments_are_named(store):
    assert experiment_id_of(store, "auto") == store.experiment_id
    assert experiment_id_of(store, "Default") == "0"
    with pytest.raises(BenchError, match=r"no experiment is named 'tset' in .* 'tests', 'Default'"):
        experiment_id_of(store, "tset")


def test_a_database_whose_making_was_killed_is_made_anew(tmp_path):
    """mlflow's tables are made under another name: what a killed process leaves is discarded."""
    database = tmp_path / "group" / "runs.db"
    database.parent.mkdir()
    with sqlite3.connect(database.with_name(".runs.db.new")) as half:
        half.execute("CREATE TABLE experiments (experiment_id INTEGER)")
    half.close()
    prepare_database(database)
    client = MlflowClient(tracking_uri=f"sqlite:///{database}")
    (default,) = client.search_experiments()
    assert default.artifact_location == str(database.parent / "mlruns" / "0")
    assert {path.name for path in database.parent.iterdir()} == {"runs.db", ".runs.db.lock"}
