"""Which change of the code makes a finished run another one, tried on copies of the package."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.tracking.opening import open_run
from bench.tracking.runs import Identity

PROJECT = Path(__file__).parents[2]
STORED = "tests/core/test_stored_results.py"
# Says whether the runs of finished identities are reused.
OPEN_RUNS = """
import sys
from bench.tracking.opening import open_run
from bench.tracking.runs import Identity
from bench.tracking.store import open_store
store = open_store()
for step in sys.argv[1:]:
    run = open_run(store, Identity(step, {"lr": 0.1}, {}, parts=("network unet2d",)))
    print(step, run.state)
    run.close()
"""


@pytest.fixture
def project(tmp_path):
    """The package and what compares the results of its parts."""
    folder = tmp_path / "project"
    shutil.copytree(
        PROJECT / "src/bench", folder / "src/bench", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "tests/conftest.py", "tests/stored_results.json", STORED):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PROJECT / name, folder / name)
    return folder


@pytest.fixture
def python(project, python_environment, store):
    """Runs python on the copy."""
    environment = python_environment | {
        "PYTHONPATH": str(project / "src"),
        "MLFLOW_TRACKING_URI": store.uri,
        "MLFLOW_EXPERIMENT_ID": store.experiment_id,
    }

    def run(*arguments):
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def edit(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def finish_runs(store):
    for step in ("prepare", "finetune"):
        with open_run(store, Identity(step, {"lr": 0.1}, {}, parts=("network unet2d",))):
            pass


def test_a_run_is_reused_after_a_comment_in_a_reader_was_changed(project, python, store):
    finish_runs(store)
    reader = project / "src/bench/ingest/annotations/trakem2/parse.py"
    reader.write_text(reader.read_text() + "\n# Said in other words.\n")
    done = python("-c", OPEN_RUNS, "prepare", "finetune")
    assert done.stdout.splitlines() == ["prepare reused", "finetune reused"], done.stderr


def test_another_augmentation_fails_until_its_version_is_raised(project, python, store):
    """Then trainings are other runs, and prepared datasets are not."""
    finish_runs(store)
    edit(
        project / "src/bench/training/augment.py",
        "ELASTIC_SPACING_PX = 32",
        "ELASTIC_SPACING_PX = 24",
    )
    check = ("-m", "pytest", "-q", "-k", "augmentation", STORED)
    done = python(*check, "--store-results")
    assert done.returncode == 1
    assert "raise VERSIONS['augmentation'] in src/bench/core/version.py and run" in done.stdout
    edit(project / "src/bench/core/version.py", '"augmentation": 1,', '"augmentation": 2,')
    opened = python("-c", OPEN_RUNS, "prepare", "finetune")
    assert opened.stdout.splitlines() == ["prepare reused", "finetune new"], opened.stderr
    done = python(*check, "--store-results")
    assert done.returncode == 0, done.stdout
    stored = json.loads((project / "tests/stored_results.json").read_text())
    assert stored["augmentation"]["version"] == 2
