"""Entry points as processes: under `mlflow run`, and when they are told to end."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT

from bench.tracking.opening import remove_mistyped

PROJECT = Path(__file__).parents[2]
MLFLOW_RUN = (sys.executable, "-m", "mlflow", "run", str(PROJECT), "--env-manager", "local")


@pytest.fixture
def environment(python_environment, store):
    return python_environment | {
        "MLFLOW_TRACKING_URI": store.uri,
        "MLFLOW_EXPERIMENT_ID": store.experiment_id,
    }


@pytest.fixture
def mlflow_run(environment, store, tmp_path):
    """Runs an entry point as users do; returns the process and the run that mlflow made."""

    def run(name, **parameters):
        given = [part for key, value in parameters.items() for part in ("-P", f"{key}={value}")]
        done = subprocess.run(
            [*MLFLOW_RUN, "-e", name, "--experiment-id", store.experiment_id, *given],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        (made,) = [
            run
            for run in store.client.search_runs([store.experiment_id])
            if run.data.tags.get(MLFLOW_PROJECT_ENTRY_POINT) == name
        ]
        return done, made

    return run


def test_values_reach_a_step_as_data(mlflow_run, tmp_path):
    canary = tmp_path / "canary"
    hostile = f"a 'b' \"c\"; touch {canary}; $(touch {canary}) `touch {canary}` && touch {canary} #"
    done, run = mlflow_run("prepare", input=hostile, output=tmp_path / "out")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: input {hostile} must be a folder")
    assert "Traceback" not in done.stderr
    assert not canary.exists()
    assert not (tmp_path / "out").exists()
    assert run.info.status == "FAILED"
    assert run.data.tags["bench.reason"] == line.removeprefix("error: ")
    assert run.info.run_name == "prepare failed"
    note = f"**prepare failed before it began:** {run.data.tags['bench.reason']}"
    assert run.data.tags["mlflow.note.content"] == note


@pytest.mark.parametrize("typed", [{"outptu": "x"}, {"margin_px": "-3"}])
def test_a_mistyped_command_leaves_no_run_once_mlflow_has_ended_it(mlflow_run, store, typed):
    done, run = mlflow_run("prepare", **typed)
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert (run.info.status, run.info.run_name) == ("FAILED", "prepare failed")
    kept = store.client.create_run(store.experiment_id).info.run_id
    remove_mistyped(store, store.experiment_id)
    found = store.client.search_runs([store.experiment_id])
    assert [run.info.run_id for run in found] == [kept]


def test_a_step_takes_the_run_that_mlflow_made(mlflow_run, store, tiny_tree, tmp_path):
    output = tmp_path / "out with a blank"
    done, run = mlflow_run("prepare", input=tiny_tree, output=output, structures="mito")
    assert done.returncode == 0, done.stderr
    assert (output / "manifest.json").is_file()
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "prepare"
    assert run.data.tags["bench.step"] == "prepare"
    assert run.data.params["structures"] == "mito"
    assert len(store.client.search_runs([store.experiment_id])) == 1


def test_a_failure_is_left_on_the_run_that_mlflow_made(run_entry_point, store, monkeypatch):
    made = store.client.create_run(store.experiment_id).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", made)
    status, written = run_entry_point("finetune", "--dataset", "no/such")
    reason = store.client.get_run(made).data.tags["bench.reason"]
    assert (status, written) == (2, f"error: {reason}\n")
    assert "bench.mistyped" not in store.client.get_run(made).data.tags
    assert run_entry_point("finetune", "--lr", "0")[0] == 2
    assert store.client.get_run(made).data.tags["bench.mistyped"] == "true"


def test_a_step_that_is_told_to_end_says_so_in_one_line(
    run_entry_point, environment, store, tiny_tree, tmp_path
):
    prepared = str(tmp_path / "prepared")
    assert run_entry_point("prepare", "--input", str(tiny_tree), "--output", prepared)[0] == 0
    command = [sys.executable, str(PROJECT / "entrypoints" / "finetune.py")]
    command += ["--dataset", prepared, "--source=random"]
    sizes = ["--features=2", "--patch_px=32", "--tile_px=32", "--halo_px=16", "--batch_size=1"]
    with subprocess.Popen(
        [*command, *sizes, "--iterations=1000000"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            run_id = wait_for_training(store)
            process.terminate()
            _, written = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 1
    last = written.splitlines()[-1]
    assert last == "interrupted: the same command goes on where it stopped"
    run = store.client.get_run(run_id)
    assert run.info.status == "KILLED"
    assert run.data.tags["bench.reason"].startswith("interrupted")


def test_a_signal_that_arrives_while_an_object_is_cleared_away_is_not_lost(environment):
    code = (
        "import os, signal, sys, time\n"
        "import cli\n"
        "class Dying:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(0.1)\n"
        "cli.set_up_process()\n"
        "try:\n"
        "    del (dying := [Dying()])[:]\n"
        "    time.sleep(30)\n"
        "    print('lost')\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT / "entrypoints",
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.stdout, ended.stderr) == ("interrupted\n", "")


def wait_for_training(store):
    """Waits until a training has started; returns its run's id."""
    for _ in range(600):
        for run in store.client.search_runs(
            [store.experiment_id], "tags.`bench.step` = 'finetune'"
        ):
            if "bench.dataset_name" in run.data.tags:
                return run.info.run_id
        time.sleep(0.1)
    pytest.fail("no training started within a minute")
