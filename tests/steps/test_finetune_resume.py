"""The real entry point in processes of its own: killed, started again, two at once."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from PIL import Image

from bench.config.data import PrepareConfig
from bench.ingest.inputs import read_input
from bench.ingest.writing import write_prepared

ENTRY = Path(__file__).parents[2] / "entrypoints" / "finetune.py"
ITERATIONS, EPOCH = 120, 24
SETTINGS = {
    "features": 2,
    "patch_px": 32,
    "tile_px": 32,
    "halo_px": 16,
    "batch_size": 2,
    "lr": 0.01,
    "plateau_patience": 0,
    "iterations": ITERATIONS,
    "epoch_iterations": EPOCH,
    "checkpoint_iterations": 5,
    # Between epochs, and at one.
    "snapshots": "13,48,115",
    "device": "cpu",
    "precision": "fp32",
}
CURVES = ("train/loss", "train/lr", "val/dice")


@dataclass(frozen=True)
class Project:
    """A dataset and a store of its own."""

    dataset: Path
    folder: Path
    start_process: Callable

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.uri)

    def start(self) -> subprocess.Popen:
        """Starts the command, in a folder where its artifacts do no harm."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
        env |= {
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "OMP_NUM_THREADS": "1",
        }
        settings = {"dataset": self.dataset, "source": "random", **SETTINGS}
        options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
        self.folder.mkdir(exist_ok=True)
        return self.start_process(
            [sys.executable, str(ENTRY), *options],
            cwd=self.folder,
            env=env,
            text=True,
            stderr=subprocess.PIPE,
        )

    def state(self) -> int:
        """Which saved state there is: it changes with every one that is saved."""
        found = [path.stat().st_mtime_ns for path in self.folder.glob("work/*/state.safetensors")]
        return found[0] if found else 0

    def wait_for_states(self, process: subprocess.Popen, count: int) -> None:
        """Waits until the process has saved its state so often."""
        for _ in range(count):
            last = self.state()
            while self.state() == last:
                assert process.poll() is None, process.communicate()
                time.sleep(0.002)

    def run_id(self) -> str:
        """The only run of the store."""
        (run,) = self.client.search_runs(["0"])
        assert run.data.tags["bench.step"] == "finetune"
        return run.info.run_id

    def status(self) -> str:
        return self.client.get_run(self.run_id()).info.status

    def curves(self) -> dict[str, list[tuple[int, float]]]:
        """Steps and values of the curves, with all repetitions."""
        run_id = self.run_id()
        return {
            name: sorted((m.step, m.value) for m in self.client.get_metric_history(run_id, name))
            for name in CURVES
        }

    def weights(self) -> dict[str, bytes]:
        folder = Path(self.client.get_run(self.run_id()).info.artifact_uri) / "checkpoint"
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def finish(process: subprocess.Popen) -> tuple[int, str]:
    """Waits for a process; returns its exit status and messages."""
    _, messages = process.communicate(timeout=240)
    return process.returncode, messages


def kill(process: subprocess.Popen) -> None:
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL


def stop_between_writes(project: Project, process: subprocess.Popen) -> None:
    """Stops a process where it holds no lock of the database."""
    while True:
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.05)
        if not project.folder.joinpath("mlflow.db-journal").exists():
            return
        process.send_signal(signal.SIGCONT)
        time.sleep(0.01)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("dataset")
    for number, split in enumerate(("train", "train", "val")):
        mask = np.zeros((64, 64), np.uint8)
        mask[8:28, 10:30] = mask[40:52, 36:60] = 255
        raw = np.random.default_rng(number).integers(60, 160, mask.shape) + mask // 4
        for kind, image in (("raw", raw.astype(np.uint8)), ("mitochondria", mask)):
            path = root / "input" / split / kind / f"s{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    write_prepared(read_input(PrepareConfig(input=str(root / "input"))), root / "prepared")
    return root / "prepared"


@pytest.fixture(scope="module")
def straight(dataset, start_process, tmp_path_factory) -> Project:
    """Trained at one go; while it ran, the same command was started a second time."""
    project = Project(dataset, tmp_path_factory.mktemp("straight"), start_process)
    first = project.start()
    project.wait_for_states(first, 2)
    stop_between_writes(project, first)
    try:
        code, messages = finish(project.start())
    finally:
        first.send_signal(signal.SIGCONT)
    assert code == 2, messages
    (line,) = [line for line in messages.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: only one process at a time may do the same work"), line
    assert "wait for it, the same command then reuses its result" in line
    code, messages = finish(first)
    assert code == 0, messages
    return project


def test_a_second_process_is_refused_and_disturbs_nothing(straight):
    assert straight.status() == "FINISHED"
    curves = straight.curves()
    assert [step for step, _ in curves["train/loss"]] == list(range(1, ITERATIONS + 1))
    epochs = range(EPOCH, ITERATIONS + 1, EPOCH)
    assert [step for step, _ in curves["val/dice"]] == sorted({*epochs, 13, 48, 115})
    assert len({value for _, value in curves["val/dice"]}) > 1
    assert len({value for _, value in curves["train/lr"]}) > 1
    assert list(straight.folder.glob("work/*")) == []


def test_a_killed_training_goes_on_as_if_nothing_had_happened(straight, tmp_path):
    project = Project(straight.dataset, tmp_path, straight.start_process)
    run_ids = set()
    for _ in range(3):
        process = project.start()
        project.wait_for_states(process, random.randint(1, 5))
        time.sleep(random.uniform(0, 0.1))
        kill(process)
        run_ids.add(project.run_id())
        assert project.status() == "RUNNING"
    code, messages = finish(project.start())
    assert code == 0, messages
    assert f"resuming run {project.run_id()}, which was RUNNING" in messages
    assert run_ids == {project.run_id()}
    assert project.status() == "FINISHED"
    assert project.curves() == straight.curves()
    assert project.weights() == straight.weights()
    assert set(project.weights()) == {
        f"{name}.{suffix}"
        for name in ("best", "last", *(f"iteration_000{n:03d}" for n in (13, 48, 115)))
        for suffix in ("json", "safetensors")
    }
    assert list(project.folder.glob("work/*")) == []


def test_a_finished_training_is_reused(straight):
    before = straight.weights(), straight.curves(), straight.run_id()
    code, messages = finish(straight.start())
    assert code == 0
    assert f"reusing finished run {straight.run_id()} (same fingerprint)" in messages
    assert "of training" not in messages
    assert (straight.weights(), straight.curves(), straight.run_id()) == before
