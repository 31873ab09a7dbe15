"""Two runs log the same new dataset: the second between the first's look and its write."""

import threading

import pytest
import sqlalchemy
from mlflow.entities import Dataset
from mlflow.exceptions import MlflowException
from mlflow.server import app, handlers
from mlflow.store.tracking.dbmodels.models import SqlDataset
from mlflow.tracking import MlflowClient
from mlflow.tracking._tracking_service.utils import _use_tracking_uri
from werkzeug.serving import make_server

from bench.tracking.delivery.spool import inputs, send

SEEN = [Dataset(name, "d" * 36, "local", "{}") for name in ("tiny", "large")]


@pytest.fixture
def served(store, monkeypatch):
    """A client of a server in this process, on the database of the store."""
    monkeypatch.setenv("_MLFLOW_SERVER_FILE_STORE", store.uri)
    monkeypatch.setattr(handlers, "_tracking_store", None)
    # The server sets its store for the whole process.
    with _use_tracking_uri(store.uri):
        server = make_server("127.0.0.1", 0, app, threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield MlflowClient(tracking_uri=f"http://127.0.0.1:{server.port}")
        server.shutdown()
        server.server_close()


@pytest.fixture
def overtaken():
    """Lets another run log a dataset whenever one is about to be added; counts how often."""
    listeners = []

    def overtake(client, run_id, waiting):
        count, within = [], []

        def log_first(mapper, connection, target):
            if waiting and not within:
                count.append(target.name)
                within.append(True)
                send(client, run_id, inputs([waiting.pop(0)], "training"))
                within.clear()

        sqlalchemy.event.listen(SqlDataset, "before_insert", log_first)
        listeners.append(log_first)
        return count

    yield overtake
    for listener in listeners:
        sqlalchemy.event.remove(SqlDataset, "before_insert", listener)


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "server"])
def test_the_run_that_comes_second_has_the_dataset_too(kind, request, overtaken):
    store = request.getfixturevalue("postgres_store" if kind == "postgres" else "store")
    client = request.getfixturevalue("served") if kind == "server" else store.client
    first, second = (store.client.create_run(store.experiment_id).info.run_id for _ in range(2))
    # Each is added by the other run at the last moment, one attempt after the other.
    count = overtaken(store.client, second, list(SEEN))
    send(client, first, inputs(SEEN, "training"))
    assert len(count) == 2
    for run_id in (first, second):
        logged = store.client.get_run(run_id).inputs.dataset_inputs
        assert sorted(one.dataset.name for one in logged) == ["large", "tiny"]


def test_what_the_store_never_takes_is_said(store):
    run_id = store.client.create_run(store.experiment_id).info.run_id
    with pytest.raises(MlflowException, match="exceeds the maximum length"):
        send(store.client, run_id, inputs([Dataset("x" * 501, "d", "local", "{}")], "training"))
