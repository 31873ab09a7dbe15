"""A real server on loopback that is killed and started again, or answers 500, in mid-training."""

import hashlib
import http.client
import re
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from servers import MlflowServer

from bench.config.data import PrepareConfig
from bench.ingest.inputs import read_input
from bench.ingest.writing import write_prepared
from bench.tracking.delivery import outbox
from bench.tracking.delivery.outbox import LATE_TAG
from bench.tracking.opening import open_run
from bench.tracking.ownership.heartbeat import HEARTBEAT_TAG
from bench.tracking.runs import Identity
from bench.tracking.store import open_store

ENTRY = Path(__file__).parents[3] / "entrypoints" / "finetune.py"
SETTINGS = {
    "features": 2,
    "patch_px": 32,
    "tile_px": 32,
    "halo_px": 16,
    "batch_size": 2,
    "lr": 0.01,
    "epoch_iterations": 100,
    "checkpoint_iterations": 20,
    "device": "cpu",
    "precision": "fp32",
}
# Long enough for a server to be away and back.
ITERATIONS = 300
TIMED = {
    "work/elapsed_s",
    "bench.train.seconds_per_iteration",
    "work/images_per_second",
    "work/data_wait_fraction",
    "bench.train_seconds",
    HEARTBEAT_TAG,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    made = MlflowServer(folder, f"sqlite:///{folder}/mlflow.db")
    yield made.start()
    made.kill()


@pytest.fixture(scope="module")
def train(server, tiny_tree, tmp_path_factory, start_process, python_environment):
    """Starts the real entry point, in an experiment."""
    dataset = tmp_path_factory.mktemp("data") / "prepared"
    config = PrepareConfig(input=str(tiny_tree), output=str(dataset), pixel_size_nm=5.0)
    write_prepared(read_input(config), dataset)

    def start(experiment, stderr):
        settings = {"dataset": dataset, "source": "random", "iterations": ITERATIONS, **SETTINGS}
        options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
        environment = python_environment | {
            "MLFLOW_TRACKING_URI": server.uri,
            "MLFLOW_EXPERIMENT_NAME": experiment,
            "OMP_NUM_THREADS": "1",
        }
        with stderr.open("w") as output:
            return start_process([sys.executable, ENTRY, *options], env=environment, stderr=output)

    return start


def files_below(client, run_id, folder=None):
    """Names and sizes of a run's artifacts; those of images are made of time and chance."""
    found = []
    for file in client.list_artifacts(run_id, folder):
        if file.is_dir:
            found += files_below(client, run_id, file.path)
        else:
            name = re.sub("timestamp.*", "", re.sub("[0-9a-f-]{36}", "", file.path))
            found.append((name, file.file_size))
    return sorted(found)


def content(uri, experiment):
    """All that a server has of an experiment's only run, without times."""
    client = MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    history = {
        name: sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, name))
        for name in run.data.metrics
    }
    # A run that is resumed says again how large its network is.
    history["model/parameters"] = sorted(set(history.get("model/parameters", ())))
    # Measured every ten seconds, at whatever step that falls on.
    history = {name: found for name, found in history.items() if not name.startswith("system/")}
    for name in TIMED & history.keys():
        history[name] = [step for step, _ in history[name]]
    tags = {name: value for name, value in run.data.tags.items() if name not in TIMED}
    late = tags.pop(LATE_TAG, None)
    datasets = [one.dataset.digest for one in run.inputs.dataset_inputs]
    files = files_below(client, run.info.run_id)
    weights = "checkpoint/best.safetensors"
    if weights in dict(files):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(client.download_artifacts(run.info.run_id, weights, folder))
            files.append(("weights", hashlib.sha256(path.read_bytes()).hexdigest()))
    return (run.info.status, history, run.data.params, tags, datasets, files), late


@pytest.fixture(scope="module")
def undisturbed(train, server, tmp_path_factory):
    """What a training leaves that nothing happened to."""
    stderr = tmp_path_factory.mktemp("undisturbed") / "stderr"
    process = train("undisturbed", stderr)
    assert process.wait() == 0, stderr.read_text()
    found, late = content(server.uri, "undisturbed")
    assert late is None
    assert len(found[1]["train/loss"]) == ITERATIONS
    return found


def kill_in_training(server, process, experiment, stderr):
    """Kills the server once a training has logged something, and waits until that hurts."""
    client = MlflowClient(tracking_uri=server.uri)
    while True:
        assert process.poll() is None, stderr.read_text()
        made = client.get_experiment_by_name(experiment)
        runs = client.search_runs([made.experiment_id]) if made else []
        if runs and "train/loss" in runs[0].data.metrics:
            break
        time.sleep(0.2)
    server.kill()
    while "does not take what this run logs" not in stderr.read_text():
        assert process.poll() is None, stderr.read_text()
        time.sleep(0.05)


def test_a_server_that_is_killed_and_started_again_has_everything(
    train, server, undisturbed, tmp_path
):
    stderr = tmp_path / "stderr"
    process = train("restarted", stderr)
    kill_in_training(server, process, "restarted", stderr)
    server.start()
    assert process.wait() == 0, stderr.read_text()
    found, late = content(server.uri, "restarted")
    assert found == undisturbed
    assert re.fullmatch(r"\d+ writes, at most \d+ s late", late)
    assert int(late.split()[0]) > 1


def test_a_training_that_is_killed_too_goes_on_with_everything(
    train, server, undisturbed, tmp_path
):
    stderr = tmp_path / "stderr"
    process = train("both killed", stderr)
    kill_in_training(server, process, "both killed", stderr)
    process.kill()
    process.wait()
    down = train("both killed", stderr)
    assert down.wait() == 2
    assert "the tracking server must answer" in stderr.read_text()
    server.start()
    process = train("both killed", stderr)
    assert process.wait() == 0, stderr.read_text()
    found, late = content(server.uri, "both killed")
    assert found == undisturbed
    assert late


class Proxy(BaseHTTPRequestHandler):
    """Hands requests on to a server, or answers them with 500."""

    port = 0
    fails = False

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.fails:
            self.send_error(500)
            return
        inner = http.client.HTTPConnection("127.0.0.1", self.port)
        inner.request(self.command, self.path, body, dict(self.headers))
        answer = inner.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name in ("Content-Type", "Content-Disposition"):
            if value := answer.getheader(name):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        inner.close()

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.handle_any
        raise AttributeError(name)

    def log_message(self, *_):
        pass


@pytest.fixture
def proxy(server, monkeypatch):
    class Ours(Proxy):
        port = server.port

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Ours)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{listening.server_port}")
    yield Ours
    listening.shutdown()
    listening.server_close()


def log_everything(run, folder):
    """A write of every kind."""
    run.log_params({"lr": 0.1})
    run.log_series([(step, {"loss": 1 / step}) for step in range(1, 1502)])
    run.keep_warnings(["first"])
    (folder / "kept.txt").write_text("kept")
    run.log_file(folder / "kept.txt", "files")
    picture = np.zeros((8, 8, 3), np.uint8)
    run.log_image(picture, key="val/s1", step=25)
    run.log_image_table({"s1": picture}, {"s1": 0.5})
    run.log_dataset(name="tiny", path=folder, digest="d" * 64, context="training")


def test_a_server_that_answers_500_for_a_while_has_everything(proxy, server, tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(outbox, "FIRST_PAUSE_S", 0.2)
    for disturbed in (False, True):
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", f"proxy {disturbed}")
        with open_run(open_store(), Identity("finetune", {}, {})) as run:
            proxy.fails = disturbed
            log_everything(run, tmp_path)
            assert run.outbox.spool.waiting is disturbed
            proxy.fails = False
        found.append(content(server.uri, f"proxy {disturbed}"))
    assert found[0][0] == found[1][0]
    assert found[0][1] is None
    assert int(found[1][1].split()[0]) > 10
