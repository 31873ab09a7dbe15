import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.cluster import clusters
from bench.cluster.clusters import (
    choose_cluster,
    kubernetes_options,
    open_cluster,
    read_profile,
    slurm_cluster,
)
from bench.cluster.graph import Task, run_graph
from bench.errors import BenchError

SLURM = """
queue: gpu
cores: 8
memory: 64GB
walltime: "24:00:00"
job_extra_directives: ["--gres=gpu:1"]
job_script_prologue: ["source .venv/bin/activate"]
"""


@pytest.fixture
def write(tmp_path):
    """Writes a profile and returns its path."""

    def write(text):
        path = tmp_path / "profile.yaml"
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def slurm(monkeypatch, tmp_path):
    """A SLURM that starts jobs at once, on this machine."""
    pytest.importorskip("dask_jobqueue")
    commands = {
        "sbatch": 'script=$(cat "$1"); setsid bash -c "$script" > /dev/null 2>&1 & '
        'echo "Submitted batch job $!"',
        "scancel": 'kill -- "-$1"',
    }
    for name, command in commands.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\n{command}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return {
        "scheduler_options": {"dashboard": False, "host": "127.0.0.1"},
        "log_directory": str(tmp_path / "jobs"),
    }


def test_the_jobs_of_slurm_have_a_gpu_and_find_our_packages(slurm, write):
    profile = read_profile(write(SLURM))
    del profile["job_script_prologue"]
    with slurm_cluster(1, profile | slurm | {"job_script_prologue": ["true first"]}) as cluster:
        script = cluster.job_script()
    for line in ("#SBATCH -p gpu", "#SBATCH -t 24:00:00", "#SBATCH --gres=gpu:1", "true first"):
        assert line in script.splitlines()
    source = Path(__file__).parents[2] / "src"
    assert f"export PYTHONPATH={shlex.quote(str(source))}" in script.splitlines()
    assert re.search(r"dask[._]worker .*--resources GPU=1", script)


def test_a_graph_runs_in_jobs(slurm, follow_orders, tmp_path):
    profile = {"cores": 1, "memory": "1GB", "python": sys.executable} | slurm
    with open_cluster("slurm", 1, profile) as client:
        orders = {"name": "a", "notes": str(tmp_path / "notes")}
        outcomes = run_graph([Task("a", orders)], client, follow_orders)
    assert outcomes["a"].value == "A"


def test_without_slurm_it_is_said(monkeypatch, tmp_path):
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchError, match="submits jobs by sbatch, which is not found here"):
        slurm_cluster(1, {})


def test_the_pods_of_kubernetes_take_a_task_each(write):
    profile = read_profile(write("image: group/synapse-bench:1\nnamespace: bench"))
    options = kubernetes_options(4, profile)
    assert options == {
        "name": "synapse-bench",
        "image": "group/synapse-bench:1",
        "namespace": "bench",
        "n_workers": 4,
        "worker_command": ["dask", "worker", "--nthreads", "1", "--resources", "GPU=1"],
    }
    pytest.importorskip("dask_kubernetes")
    from dask_kubernetes.operator import make_cluster_spec

    del options["namespace"]
    spec = make_cluster_spec(**options)
    (container,) = spec["spec"]["worker"]["spec"]["containers"]
    assert container["image"] == "group/synapse-bench:1"
    assert " ".join(container["args"]).startswith("dask worker --nthreads 1 --resources GPU=1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a list", "must hold settings as 'name: value', .* holds list"),
        ("", "holds NoneType"),
        ("1: one", "must hold settings as"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_profile_that_is_none_is_said_in_a_line(write, text, message):
    with pytest.raises(BenchError, match=message) as error:
        read_profile(write(text))
    assert "\n" not in str(error.value)


def test_no_profile_is_no_settings(tmp_path):
    assert read_profile("none") == {}
    with pytest.raises(BenchError, match="cannot be read"):
        read_profile(str(tmp_path / "absent.yaml"))


@pytest.mark.parametrize(
    ("kind", "profile", "message"),
    [
        ("loacl", {}, "unknown cluster 'loacl'"),
        ("local", {"queue": "gpu"}, "must hold settings of distributed.SpecCluster"),
        ("tcp://127.0.0.1:1", {}, "the scheduler of cluster=tcp://127.0.0.1:1 must answer"),
    ],
)
def test_a_cluster_that_is_none_is_said_in_a_line(kind, profile, message, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("bench.cluster.clusters.CONNECT_S", 1)
    with (
        pytest.raises(BenchError, match=re.escape(message)) as error,
        open_cluster(kind, 1, profile),
    ):
        pass
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("resources", "message"),
    [(["--resources", "GPU=1"], None), ([], "a worker takes one task at a time by its resource")],
)
def test_a_scheduler_that_is_there(resources, message, python_environment, follow_orders, tmp_path):
    pytest.importorskip("distributed")
    quiet = python_environment | {"DASK_LOGGING__DISTRIBUTED": "error"}
    address = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    file = ["--scheduler-file", str(address)]
    started = [
        subprocess.Popen([*dask, "scheduler", "--port", "0", "--no-dashboard", *file], env=quiet),
        subprocess.Popen(
            [*dask, "worker", "--no-dashboard", "--nthreads", "1", *resources, *file], env=quiet
        ),
    ]
    try:
        while not (address.exists() and address.read_text().endswith("}")):
            assert started[0].poll() is None
            time.sleep(0.05)
        uri = json.loads(address.read_text())["address"]
        if message:
            with pytest.raises(BenchError, match=message), open_cluster(uri, None, {}):
                pass
        else:
            with open_cluster(uri, None, {}) as client:
                orders = {"name": "a", "notes": str(tmp_path / "notes")}
                outcomes = run_graph([Task("a", orders)], client, follow_orders)
            assert outcomes["a"].value == "A"
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


@pytest.mark.parametrize(
    ("kind", "gpus", "workers", "device", "expected"),
    [
        ("auto", 0, None, "auto", "none"),
        ("auto", 1, None, "auto", "none"),
        ("auto", 2, None, "auto", "local"),
        ("auto", 2, None, "cuda:1", "none"),
        ("auto", 2, 1, "auto", "none"),
        ("auto", 0, 2, "cpu", "local"),
        ("none", 2, 2, "auto", "none"),
        ("slurm", 0, None, "auto", "slurm"),
    ],
)
def test_where_tasks_run_when_nobody_says_it(kind, gpus, workers, device, expected, monkeypatch):
    monkeypatch.setattr(clusters, "visible_gpus", lambda: [str(number) for number in range(gpus)])
    assert choose_cluster(kind, workers, device) == expected
