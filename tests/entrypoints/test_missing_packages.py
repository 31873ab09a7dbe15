"""A Python that is not the project's lacks some packages: one line, whichever it is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
HIDING = """
import os, sys

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == os.environ["HIDDEN"]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hide())
"""


@pytest.fixture
def prepare_without(tmp_path, make_tree):
    """Runs prepare as mlflow does, by a Python that cannot import a package."""

    def run(package, **variables):
        folder = tmp_path / "site"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(HIDING)
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("MLFLOW")},
            **{"PYTHONPATH": str(folder), "HIDDEN": package, **variables},
            "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/store/mlflow.db",
        }
        arguments = ("--input", str(make_tree()), "--output", str(tmp_path / "out"))
        return subprocess.run(
            [sys.executable, PROJECT / "entrypoints/prepare.py", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize("package", ["click", "rich", "mlflow", "numpy", "h5py", "tifffile"])
def test_a_missing_package_is_one_line_that_names_it(prepare_without, package):
    ended = prepare_without(package)
    (line,) = [line for line in ended.stderr.splitlines() if "loading its packages" not in line]
    assert line == (
        f"error: {sys.executable} must have the packages of requirements.txt, {package} is "
        "missing: activate the project's .venv (made by 'make setup') or leave out "
        "'--env-manager local'"
    )
    assert (ended.returncode, ended.stdout) == (2, "")


def test_without_mlflow_the_run_of_mlflow_cannot_learn_it(prepare_without):
    ended = prepare_without("mlflow", MLFLOW_RUN_ID="0" * 32)
    assert ended.stderr.count("\n") - ended.stderr.count("loading its packages") == 1
    assert ended.returncode == 2


def test_a_module_of_our_own_that_is_missing_is_no_matter_of_packages(prepare_without):
    ended = prepare_without("bench")
    assert "Traceback" in ended.stderr
