"""`mlflow run docker`: the entry points of MLproject, each as a `docker run`."""

import itertools
import json
import shlex
import sys
from pathlib import Path

import mlflow.projects
import pytest
import yaml

PROJECT = Path(__file__).parents[2]
ROOT = yaml.safe_load((PROJECT / "MLproject").read_text())
CONTAINER = yaml.safe_load((PROJECT / "docker" / "MLproject").read_text())
RECORDER = f"""#!{sys.executable}
import json, sys
json.dump(sys.argv[1:], open({{file!r}}, "w"))
"""


class Image:
    id = "sha256:0"
    tags = ("synapse-bench:latest",)


@pytest.fixture
def docker_run(tmp_path, store, monkeypatch, program):
    """Runs an entry point by MLflow with a `docker` that only notes its arguments."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    program("docker", RECORDER.format(file=str(tmp_path / "words.json")))
    monkeypatch.setattr("mlflow.projects.docker.validate_docker_installation", lambda: None)
    monkeypatch.setattr("mlflow.projects.docker.build_docker_image", lambda **_: Image)

    def run(project, name, parameters):
        mlflow.set_tracking_uri(store.uri)
        mlflow.projects.run(
            str(project),
            name,
            parameters=parameters,
            docker_args={"gpus": "all"},
            experiment_id=store.experiment_id,
        )
        return json.loads((tmp_path / "words.json").read_text())

    yield run
    mlflow.set_tracking_uri(None)


def test_both_list_the_same_entry_points():
    assert CONTAINER["entry_points"] == ROOT["entry_points"], "run: make mlproject"
    assert {*CONTAINER} - {*ROOT} == {"docker_env"}
    assert {*ROOT} - {*CONTAINER} == {"conda_env"}


def test_a_step_is_asked_of_the_image_in_the_words_of_the_user(docker_run, tmp_path):
    home = tmp_path / "a b"
    (home / "docker").mkdir(parents=True)
    (home / "docker" / "MLproject").write_text((PROJECT / "docker" / "MLproject").read_text())
    hostile = f"a 'b' \"c\"; $(touch {tmp_path}/canary) *"
    words = docker_run(home / "docker", "prepare", {"input": hostile})
    assert words[:4] == ["run", "--rm", "--gpus", "all"]
    volumes = [after for word, after in itertools.pairwise(words) if word == "-v"]
    for name in ("data", "mlruns", "results"):
        assert f"{home}/{name}:/{name}" in volumes
    command = words[words.index("synapse-bench:latest") + 1 :]
    assert command[:2] == ["python", "entrypoints/prepare.py"]
    assert command[command.index("--input") + 1] == hostile
    assert not (tmp_path / "canary").exists()


def test_what_the_image_is_asked_for_is_what_it_runs(synapse_bench):
    command = CONTAINER["entry_points"]["compare"]["command"].partition(" --")[0]
    done = synapse_bench(*shlex.split(command), "--help")
    assert (done.returncode, done.stdout[:23]) == (0, "Usage: compare.py [OPTI")
