"""Commands that are printed: what the user would type, in the way in which steps were run."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bench.core import commands
from bench.core.commands import shown_path, write_command, write_help

PROJECT = Path(__file__).parents[2]
SETTINGS = {"input": "my data", "splits": "train=0;val=1", "check": True, "pixel_size_nm": 4.6}


@pytest.fixture
def under_mlflow(monkeypatch):
    """As in a process that `mlflow run` started in a folder."""

    def start(folder: Path) -> None:
        monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
        monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)
        monkeypatch.setattr(commands, "_users_folder", lambda: folder)

    return start


def test_without_mlflow_it_is_the_entry_point_as_it_was_typed(monkeypatch):
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setattr(sys, "argv", ["../entrypoints/prepare.py"])
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "../entrypoints/prepare.py"])
    words = shlex.split(write_command("prepare", SETTINGS))
    assert words[:2] == [sys.executable, "../entrypoints/prepare.py"]
    assert words[2:] == [
        *("--input", "my data", "--splits", "train=0;val=1"),
        *("--check", "true", "--pixel_size_nm", "4.6"),
    ]


def test_the_command_runs_where_the_user_is(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.chdir(tmp_path)
    command = write_help("phantom")
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=False)
    assert done.stdout.startswith("Usage: phantom.py")


def test_under_mlflow_run_it_is_one_of_mlflow_run(under_mlflow):
    under_mlflow(PROJECT)
    words = shlex.split(write_command("prepare", SETTINGS))
    assert words[:7] == ["mlflow", "run", ".", "--env-manager", "local", "-e", "prepare"]
    assert words[7:] == [
        *("-P", "input=my data", "-P", "splits=train=0;val=1"),
        *("-P", "check=true", "-P", "pixel_size_nm=4.6"),
    ]


def test_from_another_folder_it_names_the_project(under_mlflow, tmp_path):
    under_mlflow(tmp_path)
    assert shlex.split(write_command("compare", {}))[2] == str(PROJECT)


def test_it_goes_to_the_same_experiment(under_mlflow, monkeypatch):
    under_mlflow(PROJECT)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "7")
    assert "--experiment-id 7" in write_command("compare", {})
    # Both options at once are an error of mlflow, which reads this variable as one of them.
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    assert "--experiment-id" not in write_command("compare", {})


def test_in_an_environment_of_mlflow_the_environment_is_not_named(under_mlflow, monkeypatch):
    under_mlflow(PROJECT)
    monkeypatch.setattr(sys, "prefix", "/home/me/.mlflow/envs/mlflow-0123")
    assert "--env-manager" not in write_command("compare", {})


def test_in_the_container_it_is_its_command(under_mlflow, monkeypatch, tmp_path):
    under_mlflow(PROJECT)
    (tmp_path / "synapse-bench").symlink_to(PROJECT / "docker" / "synapse_bench.py")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(commands, "_started_by_mlflow", lambda: object())
    assert write_command("compare", {"dataset": "x"}) == "synapse-bench compare -P dataset=x"
    monkeypatch.setattr(commands, "_started_by_mlflow", lambda: None)
    assert write_command("compare", {}) == "mlflow run docker -e compare"


def test_typed_as_the_installed_command_it_is_that(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setattr(sys, "argv", ["synapse-bench finetune"])
    assert (
        write_command("prepare", {"input": "my data"}) == "synapse-bench prepare --input 'my data'"
    )
    assert write_help("compare") == "synapse-bench compare --help"


def test_an_installed_command_of_that_name_is_not_the_container(
    under_mlflow, monkeypatch, tmp_path
):
    under_mlflow(PROJECT)
    (tmp_path / "synapse-bench").write_text("#!/bin/sh\n")
    (tmp_path / "synapse-bench").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert write_command("compare", {}).startswith("mlflow run . ")


def test_paths_in_the_users_folder_are_short(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.chdir(tmp_path)
    assert shown_path(Path("results/a.png")) == "results/a.png"
    assert shown_path(tmp_path / "a.png") == "a.png"
    assert shown_path(Path("/elsewhere/a.png")) == "/elsewhere/a.png"
