import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
LINKED = ("MLproject", "conda.yaml", "entrypoints", "requirements.txt", "src")


@pytest.fixture
def container(tmp_path, monkeypatch, python_environment):
    """The project's folder as the image has it, and the environment of its processes."""
    project = tmp_path / "app"
    shutil.copytree(PROJECT / "docker", project / "docker")
    for name in LINKED:
        (project / name).symlink_to(PROJECT / name)
    for name in ("data", "mlruns", "results", "cache"):
        (tmp_path / name).mkdir()
        (project / name).symlink_to(tmp_path / name)
    (project / "mlflow.db").symlink_to("mlruns/mlflow.db")
    (tmp_path / "bin").mkdir()
    path = f"{tmp_path / 'bin'}{os.pathsep}{python_environment['PATH']}"
    environment = python_environment | {"PATH": path, "HOME": str(project / "cache")}
    del environment["PYTHONPATH"]
    return project, environment


@pytest.fixture
def program(tmp_path, container):
    """Puts a program of ours first on the PATH of the container."""

    def make(name, text):
        path = tmp_path / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    return make


@pytest.fixture
def synapse_bench(container):
    """Runs the command of the container."""
    project, environment = container

    def run(*words, **more):
        return subprocess.run(
            [sys.executable, str(project / "docker" / "synapse_bench.py"), *words],
            env=environment | more,
            cwd=project.parent,
            capture_output=True,
            text=True,
            check=False,
        )

    return run
