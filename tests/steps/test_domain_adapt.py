"""Domain adaptation through its step, and its entry point in processes that get killed."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from mlflow.tracking import MlflowClient

from bench.config.scoring import EvaluateConfig
from bench.config.training import DomainAdaptConfig, FinetuneConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.models.checkpoint import (
    ModelInfo,
    build_model,
    load_checkpoint,
    load_info,
    load_weights,
    save_checkpoint,
)
from bench.steps.domain_adapt import domain_adapt
from bench.steps.evaluate import evaluate
from bench.steps.finetune import finetune
from bench.steps.training.source import resolve_source
from bench.tracking.queries import fetch_artifact, read_settings

ENTRY = Path(__file__).parents[2] / "entrypoints" / "domain_adapt.py"
SHORT = {
    "iterations": 4,
    "epoch_iterations": 2,
    "batch_size": 2,
    "patch_px": 32,
    "lr": 0.01,
    "ema": 0.5,
    "device": "cpu",
    "precision": "fp32",
}
MODELS = {f"{n}.{s}" for n in ("best", "teacher", "student") for s in ("json", "safetensors")}


def write_source(path, *, outputs=("foreground", "boundary"), nm=5.0, bias=0.0, gain=1.0):
    """A checkpoint with random weights."""
    torch.manual_seed(0)
    arguments = {"in_channels": 1, "out_channels": len(outputs), "depth": 4, "features": 4}
    network = build_model("unet2d", arguments)
    with torch.no_grad():
        network.out_conv.weight.mul_(gain)
        network.out_conv.bias.fill_(bias)
    info = ModelInfo("unet2d", arguments, outputs, "vesicles", nm, "section", 32, 16)
    save_checkpoint(path, network, info)
    return path


@pytest.fixture
def adapt(pipeline):
    """Runs a short adaptation on the tiny dataset; returns its run."""

    def run(source, **settings):
        config = DomainAdaptConfig(
            dataset=str(pipeline.dataset), source=str(source), **SHORT | settings
        )
        return pipeline.store.client.get_run(domain_adapt(config, pipeline.store))

    return run


def checkpoint(pipeline, run, name="best"):
    return fetch_artifact(pipeline.store, run.info.run_id, f"checkpoint/{name}.safetensors")


def curve(pipeline, run, name):
    history = pipeline.store.client.get_metric_history(run.info.run_id, name)
    return {point.step: point.value for point in history}


def test_a_run_shows_what_it_did_and_ends_with_its_models(pipeline, adapt):
    run = adapt(f"runs:/{pipeline.trained}", confidence=0.6)
    params = read_settings(pipeline.store, run.info.run_id)
    tags, metrics = run.data.tags, run.data.metrics
    assert run.info.status == "FINISHED"
    assert (tags["bench.step"], tags["bench.method"]) == ("domain_adapt", "domain_adapted")
    assert tags["bench.structure"] == "mitochondria"
    assert (params["confidence"], params["source"]) == ("0.6", f"runs:/{pipeline.trained}")
    assert tags["bench.threshold.upper"] == "0.6"
    names = ("loss", "lr", "accepted", "accepted_foreground", "pseudo_foreground", "agreement")
    for name in (*(f"train/{name}" for name in names), "work/images_per_second"):
        assert list(curve(pipeline, run, name)) == [1, 2, 3, 4]
    dice = curve(pipeline, run, "val/dice")
    assert list(dice) == list(curve(pipeline, run, "val/student_dice")) == [0, 2, 4]
    assert metrics["source/dice"] == dice[0]
    assert metrics["best/dice"] == max(dice.values())
    folder = checkpoint(pipeline, run).parent
    assert {path.name for path in folder.iterdir()} == MODELS
    images = [path.name for path in (folder.parent / "images").iterdir()]
    for key in ("unlabelled~pseudo-labels", "val~val-s3"):
        found = [re.match(rf"{key}[+%]step[+%](\d+)", name) for name in images]
        steps = {match[1] for match in found if match}
        assert steps == {"0", "2", "4"}


def test_iteration_0_is_the_source(pipeline, adapt):
    run = adapt(f"runs:/{pipeline.trained}", confidence=0.6)
    trained = pipeline.store.client.get_run(pipeline.trained)
    assert run.data.metrics["source/dice"] > 0.3
    assert run.data.metrics["source/dice"] == pytest.approx(trained.data.metrics["best/dice"])


def test_the_result_is_evaluated_and_fine_tuned_like_any_other(pipeline, adapt, tiny):
    run = adapt(f"runs:/{pipeline.trained}", confidence=0.6)
    config = EvaluateConfig(dataset=str(pipeline.dataset), run_id=run.info.run_id)
    scored = pipeline.store.client.get_run(evaluate(config, pipeline.store))
    assert scored.data.tags["bench.method"] == "domain_adapted"
    settings = tiny | {"iterations": 1, "epoch_iterations": 1}
    config = FinetuneConfig(
        dataset=str(pipeline.dataset), source=f"runs:/{run.info.run_id}", **settings
    )
    tuned = pipeline.store.client.get_run(finetune(config, pipeline.store))
    assert float(tuned.data.tags["bench.source.tensors_transferred"]) == 46


def test_all_channels_and_the_scale_of_the_source_are_kept(pipeline, adapt, tmp_path):
    source = write_source(tmp_path / "two.safetensors", nm=4.0)
    run = adapt(source, confidence=0.5, structure="vesicles")
    info = load_info(checkpoint(pipeline, run))
    assert info.outputs == ("foreground", "boundary")
    assert (info.structure, info.input_pixel_size_nm) == ("vesicles", 4.0)
    assert (info.tile_px, info.halo_px) == (32, 16)
    assert read_settings(pipeline.store, run.info.run_id)["fed_pixel_size_nm"] == "4.0"
    weights = load_weights(checkpoint(pipeline, run, "student"))
    assert set(weights) == set(load_weights(source))
    # The boundary is learned too.
    moved = (weights["out_conv.weight"] - load_weights(source)["out_conv.weight"]).abs()
    assert (moved.amax((1, 2, 3)) > 0).all()
    as_it_is = adapt(source, confidence=0.5, structure="vesicles", rescale=False)
    assert load_info(checkpoint(pipeline, as_it_is)).input_pixel_size_nm == 5.0
    assert as_it_is.data.metrics["train/loss"] != run.data.metrics["train/loss"]


def test_scales_far_from_the_source_are_reported(pipeline, adapt, tmp_path):
    folder = tmp_path / "montages"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    tags = {"resolution": (1e7 / 30, 1e7 / 30), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(folder / "m.tif", pixels, **tags)
    source = write_source(tmp_path / "s.safetensors", nm=12.0)
    run = adapt(source, unlabelled=str(folder), confidence=0.5)
    for size in (5, 30):
        warning = f"pixels of {size} nm and the model was trained at 12 nm, a factor over 2"
        assert warning in run.data.tags["bench.warning"]


def test_the_best_teacher_or_the_last(pipeline, adapt):
    """A rate that destroys the model: by validation the source itself stays."""
    source = f"runs:/{pipeline.trained}"
    kept = adapt(source, confidence=0.6, lr=1.0)
    scores = curve(pipeline, kept, "val/dice")
    assert scores[0] > scores[4]
    assert load_info(checkpoint(pipeline, kept)).training["iteration"] == 0
    path = "checkpoint/best.safetensors"
    original = load_weights(fetch_artifact(pipeline.store, pipeline.trained, path))
    for name, tensor in load_weights(checkpoint(pipeline, kept)).items():
        assert torch.equal(tensor, original[name])
    # What is evaluated or fine-tuned from it says so, too: the table needs the reason.
    warning = "no adapted teacher was better on validation than the source"
    assert warning in kept.data.tags["bench.warning"]
    scored = evaluate(
        EvaluateConfig(dataset=str(pipeline.dataset), run_id=kept.info.run_id), pipeline.store
    )
    assert warning in pipeline.store.client.get_run(scored).data.tags["bench.warning"]
    resolved = resolve_source(pipeline.store, f"runs:/{kept.info.run_id}")
    assert any(warning in line for line in resolved.warnings)
    last = adapt(source, confidence=0.6, lr=1.0, select="last")
    assert warning not in last.data.tags.get("bench.warning", "")
    assert last.data.metrics["best/dice"] == pytest.approx(scores[4])
    info = load_info(checkpoint(pipeline, last))
    assert (info.training["iteration"], info.training["method"]) == (4, "domain_adapted")
    for a, b in zip(
        load_weights(checkpoint(pipeline, last)).values(),
        load_weights(checkpoint(pipeline, last, "teacher")).values(),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_a_source_that_is_never_sure_teaches_nothing_and_says_so(pipeline, adapt, tmp_path, caplog):
    source = write_source(tmp_path / "unsure.safetensors", gain=0.1)
    with caplog.at_level(logging.WARNING):
        run = adapt(source, structure="vesicles", warn_empty_iterations=2)
    warnings = [r.getMessage() for r in caplog.records if "pseudo-label" in r.getMessage()]
    assert len(warnings) == 1
    assert warnings[0].removeprefix("warning: ") in run.data.tags["bench.warning"].splitlines()
    for words in ("2 iterations", "nothing is learned", "confidence=auto", "pixel size"):
        assert words in warnings[0]
    assert set(curve(pipeline, run, "train/accepted").values()) == {0}
    assert set(curve(pipeline, run, "train/loss").values()) == {2.0}
    student = load_weights(checkpoint(pipeline, run, "student"))
    for name, tensor in load_weights(source).items():
        assert torch.equal(student[name], tensor)


def test_auto_learns_from_the_same_source(pipeline, adapt, tmp_path):
    source = write_source(tmp_path / "unsure.safetensors", gain=0.1)
    run = adapt(source, structure="vesicles", confidence=None, warn_empty_iterations=2)
    assert run.data.tags["bench.method"] == "domain_adapted_auto"
    assert "pseudo-label" not in run.data.tags.get("bench.warning", "")
    assert read_settings(pipeline.store, run.info.run_id)["confidence"] == "auto"
    assert 0.5 <= float(run.data.tags["bench.threshold.upper"]) < 0.9
    assert all(share > 0.2 for share in curve(pipeline, run, "train/accepted").values())
    student = load_weights(checkpoint(pipeline, run, "student"))
    assert not torch.equal(student["out_conv.weight"], load_weights(source)["out_conv.weight"])


def test_auto_starts_from_the_best_ranked_where_nothing_is_foreground(
    pipeline, adapt, tmp_path, caplog
):
    source = write_source(tmp_path / "blind.safetensors", bias=-6.0)
    run = adapt(source, structure="vesicles", confidence=None, iterations=2, select="last")
    assert "becomes 0.5" in caplog.text
    assert all(share > 0 for share in curve(pipeline, run, "train/pseudo_foreground").values())
    network, _ = load_checkpoint(checkpoint(pipeline, run))
    assert float(network.out_conv.bias.detach()[0]) > -6


def test_a_collapse_to_background_is_named(pipeline, adapt, tmp_path):
    source = write_source(tmp_path / "blind.safetensors", bias=-6.0)
    run = adapt(source, structure="vesicles", warn_empty_iterations=3)
    assert "all accepted pseudo-labels are background" in run.data.tags["bench.warning"]
    assert run.data.metrics["train/accepted"] == 1
    assert run.data.metrics["train/accepted_foreground"] == 0


def test_the_test_split_is_never_read(pipeline, adapt, tmp_path, monkeypatch):
    names = set()
    read = PreparedDataset.read

    def record(self, name, key):
        names.add(name)
        return read(self, name, key)

    monkeypatch.setattr(PreparedDataset, "read", record)
    adapt(write_source(tmp_path / "s.safetensors"), structure="vesicles", seed=7)
    assert {name.split("-")[0] for name in names} == {"train", "val"}


def test_montages_of_a_folder(pipeline, adapt, tmp_path, caplog):
    source = write_source(tmp_path / "s.safetensors")
    folder = tmp_path / "montages"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (200, 24)).astype(np.uint8)
    tifffile.imwrite(folder / "m.tif", pixels)
    first = adapt(source, unlabelled=str(folder), confidence=0.5)
    assert "1 of 1 unlabelled images are smaller than a patch (patch_px=32" in caplog.text
    assert adapt(source, unlabelled=str(folder), confidence=0.5).info.run_id == first.info.run_id
    tifffile.imwrite(folder / "m.tif", pixels.T)
    other = adapt(source, unlabelled=str(folder), confidence=0.5)
    assert other.info.run_id != first.info.run_id
    assert other.data.metrics["train/loss"] != first.data.metrics["train/loss"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "random"}, "needs a trained unet2d, .* source random is without weights"),
        ({"patch_px": 40}, "patch_px must be a multiple of 16, received 40"),
        ({"tile_px": 40}, r"tile_px \+ 2 halo_px must be a multiple of 16, received 72"),
        ({"unlabelled": "no/such"}, "unlabelled must name folders or files .* no/such"),
        (
            {"structure": "membrane"},
            "unknown structure 'membrane': choose one of mitochondria, vesicles",
        ),
        ({"method": "scratch"}, "domain_adapt runs methods of its own .* run finetune with it"),
    ],
)
def test_what_does_not_fit_is_one_line(adapt, tmp_path, settings, message):
    settings = {"source": str(write_source(tmp_path / "s.safetensors"))} | settings
    with pytest.raises(BenchError, match=message) as error:
        adapt(**settings)
    assert "\n" not in str(error.value)


@dataclass(frozen=True)
class Process:
    """The entry point in a process of its own, with a store of its own."""

    dataset: Path
    source: Path
    folder: Path
    start_process: Callable

    @property
    def client(self):
        return MlflowClient(tracking_uri=f"sqlite:///{self.folder / 'mlflow.db'}")

    def start(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")} | {
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder / 'mlflow.db'}",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "OMP_NUM_THREADS": "1",
        }
        settings = SHORT | {
            "dataset": self.dataset,
            "source": self.source,
            "confidence": "auto",
            "iterations": 30,
            "epoch_iterations": 10,
            "checkpoint_iterations": 3,
            "plateau_patience": 0,
        }
        options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
        return self.start_process(
            [sys.executable, str(ENTRY), *options],
            cwd=self.folder,
            env=env,
            text=True,
            stderr=subprocess.PIPE,
        )

    def finish(self):
        process = self.start()
        _, messages = process.communicate(timeout=240)
        assert process.returncode == 0, messages
        return messages

    def kill_after(self, states):
        """Starts it, and kills it when it has saved its state so often."""
        process, seen = self.start(), set()
        while len(seen) < states:
            assert process.poll() is None, process.communicate()
            seen |= {p.stat().st_mtime_ns for p in self.folder.glob("work/*/state.safetensors")}
            time.sleep(0.002)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL

    def run(self):
        (run,) = self.client.search_runs(["0"])
        return run

    def curves(self):
        names = ("train/loss", "train/accepted", "train/lr", "val/dice", "val/student_dice")
        run_id = self.run().info.run_id
        return {
            name: sorted((m.step, m.value) for m in self.client.get_metric_history(run_id, name))
            for name in names
        }

    def weights(self):
        folder = Path(self.run().info.artifact_uri) / "checkpoint"
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_killed_adaptation_goes_on_as_if_nothing_had_happened(pipeline, start_process, tmp_path):
    source = write_source(tmp_path / "s.safetensors", outputs=("foreground",), gain=0.3)
    straight, pieces = (
        Process(pipeline.dataset, source, tmp_path / name, start_process)
        for name in ("straight", "pieces")
    )
    for process in (straight, pieces):
        process.folder.mkdir()
    straight.finish()
    for states in (1, 4):
        pieces.kill_after(states)
        assert pieces.run().info.status == "RUNNING"
    assert f"resuming run {pieces.run().info.run_id}" in pieces.finish()
    assert pieces.run().info.status == "FINISHED"
    assert pieces.curves() == straight.curves()
    assert [step for step, _ in straight.curves()["val/dice"]] == [0, 10, 20, 30]
    assert set(pieces.weights()) == MODELS
    assert pieces.weights() == straight.weights()
    state = json.loads(pieces.weights()["teacher.json"])
    assert state["training"]["iteration"] == 30
    assert not list(pieces.folder.glob("work/*"))
