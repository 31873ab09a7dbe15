"""A SLURM of one node, this machine: its jobs are workers, and a job that is gone is followed."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import threading
import time

import pytest
from servers import free_port

from bench.cluster.clusters import open_cluster
from bench.cluster.graph import Task, run_graph

DAEMONS = ("slurmctld", "slurmd")
START_S = 60.0
SETTINGS = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
"""


def say(*command):
    """What a program of SLURM says."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@pytest.fixture
def slurm(monkeypatch, tmp_path):
    """The profile of a SLURM that is started, and ended with all of its jobs."""
    pytest.importorskip("dask_jobqueue")
    # Debian keeps daemons off the path of users.
    programs = [shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in DAEMONS]
    if not (all(programs) and shutil.which("sbatch")):
        pytest.skip("SLURM is not installed (slurmctld, slurmd, slurm-client)")
    folder = tmp_path / "slurm"
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    described = {"host": socket.gethostname().split(".")[0], "user": getpass.getuser()}
    settings = SETTINGS.format(folder=folder, ports=[free_port(), free_port()], **described)
    (folder / "slurm.conf").write_text(settings)
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    with (folder / "log").open("w") as log:
        started = [subprocess.Popen([name, "-D"], stdout=log, stderr=log) for name in programs]
    try:
        until = time.monotonic() + START_S
        while "idle" not in say("sinfo"):
            assert time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.2)
        yield {
            "cores": 1,
            "memory": "1GB",
            "python": sys.executable,
            "log_directory": str(tmp_path / "jobs"),
            "scheduler_options": {"dashboard": False, "host": "127.0.0.1"},
        }
    finally:
        say("scancel", "--user", described["user"])
        for process in reversed(started):
            process.terminate()
            process.wait()


def test_a_job_that_reaches_its_end_is_followed_by_another(slurm, follow_orders, tmp_path):
    notes = tmp_path / "notes"

    def cancel_when_it_runs():
        while not (notes.exists() and notes.read_text().startswith("a ")):
            time.sleep(0.1)
        say("scancel", *say("squeue", "--noheader", "--format=%i").split())

    canceller = threading.Thread(target=cancel_when_it_runs)
    canceller.start()
    tasks = [
        Task("a", {"name": "a", "notes": str(notes), "sleep": 3}),
        Task("b", {"name": "b", "notes": str(notes)}, needs=("a",)),
    ]
    with open_cluster("slurm", 1, slurm) as client:
        outcomes = run_graph(tasks, client, follow_orders)
    canceller.join()
    assert {name: outcome.value for name, outcome in outcomes.items()} == {"a": "A", "b": "B"}
    begun = [line.split()[:2] for line in notes.read_text().splitlines()]
    assert [name for name, _ in begun] == ["a", "a", "b"], "begun again in another job"
    assert len({process for _, process in begun}) == 2
    assert len(list((tmp_path / "jobs").glob("*.out"))) == 2
