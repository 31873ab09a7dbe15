"""The command `synapse-bench`, as `pip install` makes it, outside of the project's folder."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from setuptools import find_packages

import command

PROJECT = Path(__file__).parents[2]
NAMES = {path.stem for path in (PROJECT / "entrypoints").glob("*.py")} - {"cli", "command"}
CONSOLE_SCRIPT = "import sys; from synapse_bench_entrypoints.command import run; sys.exit(run())"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """What `pip install` unpacks."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(PROJECT / "src" / "bench", folder / "bench")
    shutil.copytree(PROJECT / "entrypoints", folder / "synapse_bench_entrypoints")
    return folder


@pytest.fixture
def synapse_bench(site, python_environment, tmp_path):
    """Runs the command in a folder of its own."""
    environment = python_environment | {"PYTHONPATH": str(site)}
    del environment["MLFLOW_TRACKING_URI"]

    def run(*words, python=()):
        return subprocess.run(
            [sys.executable, *python, "-c", CONSOLE_SCRIPT, *words],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_the_wheel_is_made_of_these_folders(monkeypatch):
    made = {}
    monkeypatch.setattr("setuptools.setup", made.update)
    monkeypatch.chdir(PROJECT)
    exec(compile((PROJECT / "setup.py").read_text(), "setup.py", "exec"), {})
    assert set(made["packages"]) == {*find_packages("src"), "synapse_bench_entrypoints"}
    assert made["package_dir"] == {"": "src", "synapse_bench_entrypoints": "entrypoints"}
    text = (PROJECT / "pyproject.toml").read_text()
    assert 'synapse-bench = "synapse_bench_entrypoints.command:run"' in text


def test_help_lists_every_entry_point_and_loads_nothing(synapse_bench):
    done = synapse_bench(python=("-X", "importtime"))
    assert done.returncode == 0
    listed = done.stdout.partition("Entry points:\n")[2].partition("\n\n")[0].splitlines()
    assert {line.split()[0] for line in listed} == NAMES
    assert all(len(line.split()) > 3 for line in listed)
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert imported.isdisjoint({"click", "bench", "mlflow", "numpy", "torch"})


def test_without_a_checkout_a_step_opens_the_store_of_the_folder(synapse_bench, tmp_path):
    """It says so of a file in its place that is no database."""
    store = tmp_path / "mlruns" / "mlflow.db"
    store.parent.mkdir()
    store.write_text("no database")
    done = synapse_bench("prepare", "-P", "input=nowhere", "--output", "a folder")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert str(store) in line
    # What is typed next is the same command.
    next_line = "  synapse-bench prepare --input nowhere --output 'a folder'"
    assert done.stderr.splitlines()[-1] == next_line
    assert "Traceback" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"mlruns"}


def test_the_help_of_an_entry_point_names_the_command(synapse_bench):
    assert synapse_bench("prepare", "--help").stdout.startswith("Usage: synapse-bench prepare [")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("finetun",), "error: the first word must be one of annotate, "),
        (("prepare", "-P"), "error: -P must be followed by name=value, received ''"),
        (("prepare", "-P", "input"), "error: -P must be followed by name=value, received 'input'"),
    ],
)
def test_what_is_mistyped_is_one_line(synapse_bench, tmp_path, words, line):
    done = synapse_bench(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(line)
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_settings_of_mlflow_run_are_options():
    words = ["--lr", "1", "-P", "input=a=b c", "-Pcheck=true", "-P", "output="]
    expected = ["--lr", "1", "--input", "a=b c", "--check", "true", "--output", ""]
    assert command.as_options(words) == expected
