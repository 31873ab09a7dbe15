"""compose.yaml without an engine: what it says, and the commands of its server on loopback."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from mlflow.tracking import MlflowClient
from servers import MlflowServer, free_port, make_database

PROJECT = Path(__file__).parents[2]
TEXT = (PROJECT / "compose.yaml").read_text()
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
FILLED = {
    "POSTGRES_PASSWORD": "p" * 16,
    "ADMIN_PASSWORD": "a" * 16,
    "SECRET_KEY": "k" * 16,
    "ALLOWED_HOSTS": "runs.example.org",
    "TRACKING_USERNAME": "admin",
    "TRACKING_PASSWORD": "a" * 16,
}


def interpolate(values):
    """The services, with the variables filled in as compose does; KeyError where one must be."""

    def fill(found):
        name, sign, more = found.groups()
        if values.get(name):
            return values[name]
        if sign == "?":
            raise KeyError(name)
        return more or ""

    def fill_all(part):
        if isinstance(part, dict):
            # A variable without a value is handed on where it is set, else it is not there.
            return {key: fill_all(value) for key, value in part.items() if value is not None}
        if isinstance(part, list):
            return [fill_all(value) for value in part]
        return VARIABLE.sub(fill, part) if isinstance(part, str) else part

    return fill_all(yaml.safe_load(TEXT)["services"])


def test_nothing_starts_without_passwords_of_ones_own():
    example = dict(
        line.split("=", 1)
        for line in (PROJECT / ".env.example").read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert set(example.values()) == {""}
    assert example.keys() == FILLED.keys()
    assert {name for name, sign, _ in VARIABLE.findall(TEXT) if sign == "?"} == FILLED.keys()
    for name in FILLED:
        with pytest.raises(KeyError, match=name):
            interpolate(FILLED | {name: ""})
    assert ".env" in (PROJECT / ".gitignore").read_text().splitlines()


def test_no_secret_has_a_default():
    for name, sign, _ in VARIABLE.findall(TEXT):
        if re.search("PASSWORD|SECRET|KEY", name):
            assert sign == "?"
    for service in interpolate(FILLED).values():
        command = " ".join(service.get("command", []))
        assert not [value for value in FILLED.values() if value in command and value != "admin"]


def test_only_the_server_is_reached_from_outside_and_only_from_this_machine():
    services = interpolate(FILLED)
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"server": ["127.0.0.1:5000:5000"]}
    assert services["database"]["networks"] == ["storage"]
    for name in ("scheduler", "worker", "worker-cpu", "bench"):
        assert services[name]["networks"] == ["tracking"]


def test_services_wait_restart_and_are_asked_for_their_health():
    services = interpolate(FILLED)
    for name, service in services.items():
        assert service["restart"] == ("no" if name == "bench" else "unless-stopped")
        for other, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            assert "healthcheck" in services[other]
    gpu = services["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert gpu == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]


def test_the_image_runs_every_command():
    from importlib import util

    spec = util.spec_from_file_location("compose_entry", PROJECT / "docker" / "synapse_bench.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PROJECT / "docker"))
        module = util.module_from_spec(spec)
        spec.loader.exec_module(module)
    services = interpolate(FILLED)
    ours = [service for service in services.values() if service["image"] == "synapse-bench"]
    commands = [service["command"][0] for service in ours if "command" in service]
    assert len(commands) == 4
    assert set(commands) <= set(module.PROGRAMS)


@pytest.fixture(scope="module")
def server(postgres, tmp_path_factory):
    """The server of compose.yaml, with its command and environment, on loopback."""
    pytest.importorskip("flask_wtf", reason="mlflow[auth] is not installed")
    folder = tmp_path_factory.mktemp("compose")
    make_database(postgres, "mlflow")
    login, _, address = postgres.removeprefix("postgresql://").partition("@")
    service = interpolate(FILLED)["server"]
    started = MlflowServer(folder, "")
    host, port = address.split(":")
    replaced = {"5000": str(started.port), "0.0.0.0": "127.0.0.1", "4": "1"}
    command = [replaced.get(word, word) for word in service["command"]]
    started.command = [sys.executable, "-m", *command]
    started.environment |= service["environment"] | {
        "PGHOST": host,
        "PGPORT": port,
        "PGUSER": login.split(":")[0],
        "PGPASSWORD": login.split(":")[1],
        "MLFLOW_ARTIFACTS_DESTINATION": str(folder / "artifacts"),
        "MLFLOW_AUTH_CONFIG_PATH": str(PROJECT / "docker" / "basic_auth.ini"),
        "MLFLOW_SERVER_ALLOWED_HOSTS": service["environment"][
            "MLFLOW_SERVER_ALLOWED_HOSTS"
        ].replace("5000", str(started.port)),
    }
    yield started.start()
    started.kill()


def ask(server, path, *, login="", host="", body=None):
    """Status and answer of a request."""
    headers = {"Host": host or f"localhost:{server.port}", "Content-Type": "application/json"}
    if login:
        headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{server.uri}{path}", data, headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


SEARCH = "/api/2.0/mlflow/experiments/search?max_results=5"
ADMIN = f"admin:{FILLED['ADMIN_PASSWORD']}"


@pytest.mark.parametrize("login", ["", "admin:wrong", "admin:password1234", "nobody:x"])
def test_nobody_gets_in_without_a_password(server, login):
    assert ask(server, SEARCH, login=login)[0] == 401


def test_the_administrator_gets_in(server):
    status, answer = ask(server, SEARCH, login=ADMIN)
    assert status == 200
    assert '"Default"' in answer


def test_a_foreign_host_is_refused(server):
    assert ask(server, SEARCH, login=ADMIN, host="evil.example")[0] == 403
    assert ask(server, SEARCH, login=ADMIN, host="runs.example.org")[0] == 200
    assert ask(server, SEARCH, login=ADMIN, host=f"server:{server.port}")[0] == 200


def test_the_health_check_of_compose_answers(server):
    test = interpolate(FILLED)["server"]["healthcheck"]["test"]
    assert test[:3] == ["CMD", "python", "-c"]
    code = test[3].replace("5000", str(server.port))
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    gone = test[3].replace("5000", "9")
    asked = subprocess.run([sys.executable, "-c", gone], check=False, capture_output=True)
    assert asked.returncode != 0


def test_the_health_check_of_the_database_answers(postgres):
    program = shutil.which("pg_isready", path=f"/usr/lib/postgresql/15/bin:{os.environ['PATH']}")
    if program is None:
        pytest.skip("pg_isready is not installed")
    test = interpolate(FILLED)["database"]["healthcheck"]["test"]
    assert test[:2] == ["CMD", "pg_isready"]
    host, port = postgres.rpartition("@")[2].split(":")
    command = [program, *test[2:], f"--host={host}"]
    assert subprocess.run([*command, f"--port={port}"], check=False).returncode == 0
    assert subprocess.run([*command, "--port=9"], check=False).returncode != 0


def test_the_scheduler_and_a_worker_do_a_task(python_environment, tmp_path):
    pytest.importorskip("distributed")
    from bench.cluster.clusters import open_cluster
    from bench.cluster.graph import Task, run_graph

    def upper(given):
        # An inner function goes to workers by value; its import is theirs.
        from bench.cluster.graph import Outcome

        return Outcome("done", given["payload"].upper())

    services, port = interpolate(FILLED), str(free_port())
    replaced = {
        "8786": port,
        "0.0.0.0": "127.0.0.1",
        "tcp://scheduler:8786": f"tcp://127.0.0.1:{port}",
    }
    started = []
    try:
        for name in ("scheduler", "worker-cpu"):
            command = [replaced.get(word, word) for word in services[name]["command"]]
            found = services[name]["environment"]["PYTHONPATH"].replace("/app", str(PROJECT))
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", *command],
                    env=python_environment | {"PYTHONPATH": found},
                    cwd=tmp_path,
                )
            )
        with open_cluster(f"tcp://127.0.0.1:{port}", None, {}) as client:
            outcomes = run_graph([Task("a", "done")], client, upper)
            test = services["scheduler"]["healthcheck"]["test"]
            code = test[3].replace("8786", port)
            assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
        assert outcomes["a"].value == "DONE"
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


def test_an_account_logs_runs_of_its_own_and_only_looks_at_those_of_others(
    server, monkeypatch, tmp_path
):
    from bench.tracking.opening import open_run
    from bench.tracking.runs import Identity
    from bench.tracking.store import open_store

    for name in ("ada", "bob"):
        account = {"username": name, "password": f"{name}-{'x' * 12}"}
        assert ask(server, "/api/2.0/mlflow/users/create", login=ADMIN, body=account)[0] == 200
    uri = server.uri.replace("127.0.0.1", "localhost")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "ada-" + "x" * 12)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ada's")
    store = open_store()
    with open_run(store, Identity("finetune", {}, {})) as run:
        run.log_metrics({"loss": 1.0}, 1)
        run.log_text("kept", "kept.txt")
    run_id = run.id
    path = MlflowClient(tracking_uri=uri).download_artifacts(run_id, "kept.txt", str(tmp_path))
    assert Path(path).read_text() == "kept"
    look = f"/api/2.0/mlflow/runs/get?run_id={run_id}"
    change = {"run_id": run_id, "key": "note", "value": "mine"}
    bob = "bob-" + "x" * 12
    assert ask(server, look, login=f"bob:{bob}")[0] == 200
    status, _ = ask(server, "/api/2.0/mlflow/runs/set-tag", login=f"bob:{bob}", body=change)
    assert status == 403
