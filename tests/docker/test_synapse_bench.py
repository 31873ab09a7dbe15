"""The command of the container, as a process, in a project's folder like that of the image."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from mlflow.tracking import MlflowClient

PROJECT = Path(__file__).parents[2]
ENTRY_POINTS = yaml.safe_load((PROJECT / "MLproject").read_text())["entry_points"]
RECORDER = f"""#!{sys.executable}
import json, os, sys
print(json.dumps([os.getcwd(), *sys.argv[1:]]))
"""


def test_help_lists_every_entry_point_and_loads_nothing(container):
    project, environment = container
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(project / "docker" / "synapse_bench.py")],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    listed = done.stdout.partition("Entry points:\n")[2].partition("\n\n")[0].splitlines()
    assert {line.split()[0] for line in listed} == set(ENTRY_POINTS)
    assert all(len(line.split()) > 3 for line in listed)
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    # Debian's python loads apport's hook, whatever the program.
    ours = {"imported package", "supervise", "command"}
    ours |= {"sitecustomize", "usercustomize", "apport_python_hook"}
    strange = {name for name in imported - ours if not name.startswith("_")}
    assert strange <= set(sys.stdlib_module_names)


def test_an_unknown_name_is_one_line(synapse_bench):
    done = synapse_bench("finetun", "-P", "structure=mito")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the first word must be one of annotate, benchmark, compare,")
    assert "received 'finetun'" in line


def test_an_entry_point_goes_through_mlflow_run(synapse_bench, program, container):
    program("mlflow", RECORDER)
    hostile = "input=a 'b' $(false); *"
    done = synapse_bench("prepare", "-P", hostile, "--experiment-name", "a b")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        str(container[0]),
        *("run", ".", "--env-manager", "local", "-e", "prepare"),
        *("-P", hostile, "--experiment-name", "a b"),
    ]


def test_the_help_of_an_entry_point_makes_no_run(synapse_bench, container):
    done = synapse_bench("finetune", "--help")
    assert done.stdout.startswith("Usage: finetune.py [OPTIONS]")
    assert list((container[0] / "mlruns").iterdir()) == []


@pytest.mark.parametrize(("ending", "status"), [("exit 7", 7), ("kill -KILL $$", 128 + 9)])
def test_exit_statuses_pass_through(synapse_bench, program, ending, status):
    program("mlflow", f"#!/bin/bash\n{ending}\n")
    assert synapse_bench("prepare").returncode == status
    assert synapse_bench("bash", "-c", ending).returncode == status


@pytest.mark.parametrize("name", ["mlruns", "results", "cache"])
def test_a_folder_that_cannot_be_written_to_is_one_line(synapse_bench, program, container, name):
    program("mlflow", RECORDER)
    shutil.rmtree((container[0] / name).resolve())
    for word in ("prepare", "--health"):
        done = synapse_bench(word)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"error: {container[0].parent / name} must be a folder that user ")


def test_a_sound_container_is_healthy(synapse_bench, container):
    assert synapse_bench("--health").returncode == 0
    assert not any((container[0] / name).iterdir() for name in ("mlruns", "results") if 0)
    assert list((container[0] / "results").iterdir()) == []


def test_a_lone_database_of_mlflow_run_docker_is_refused(synapse_bench):
    uri = "sqlite:////mlflow/tmp/mlruns"
    done = synapse_bench("python", "entrypoints/prepare.py", MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: `mlflow run docker` needs a tracking server")


def test_a_program_that_the_image_lacks_is_one_line(synapse_bench):
    done = synapse_bench("pytest", PATH="/nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: pytest must be in the image, it is not: build that with --target tests\n"
    )


def test_a_step_that_is_told_to_end_ends_before_the_container(container, tiny_tree):
    """Through mlflow run, into an embedded store that is not there yet."""
    project, environment = container
    del environment["MLFLOW_TRACKING_URI"]
    command = [sys.executable, str(project / "docker" / "synapse_bench.py")]
    given = f"input={tiny_tree}"
    subprocess.run([*command, "prepare", "-P", given], env=environment, check=True)
    assert (project.parent / "data" / "prepared" / "manifest.json").is_file()
    sizes = "features=2 patch_px=32 tile_px=32 halo_px=16 batch_size=1 iterations=1000000"
    words = [word for size in ["source=random", *sizes.split()] for word in ("-P", size)]
    client = MlflowClient(f"sqlite:///{project.parent}/mlruns/mlflow.db")
    for _ in range(2):  # the second time it is resumed, and the run that mlflow made points to it
        status, written = stop_training([*command, "finetune", *words], environment, client)
        assert status == 128 + 15
        assert "interrupted: the same command goes on where it stopped" in written
    runs = client.search_runs(["0"], "tags.mlflow.project.entryPoint = 'finetune'")
    states = {run.data.tags.get("bench.step", "pointer"): run.info.status for run in runs}
    assert states == {"finetune": "KILLED", "pointer": "FAILED"}
    for run in runs:
        assert Path(run.info.artifact_uri).resolve().is_relative_to(project.parent / "mlruns")


def stop_training(command, environment, client):
    """Starts a training, stops it when it trains; returns its status and what it wrote."""
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for_training(client)
            process.terminate()
            _, written = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, written


def wait_for_training(client):
    """Waits until a training trains."""
    for _ in range(600):
        found = "tags.`bench.step` = 'finetune' AND attributes.status = 'RUNNING'"
        for run in client.search_runs(["0"], found):
            if "bench.dataset_name" in run.data.tags:
                return
        time.sleep(0.1)
    pytest.fail("no training started within a minute")
