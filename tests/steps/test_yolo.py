"""YOLO through the steps as every other detector; CI does not have ultralytics (AGPL-3.0)."""

import importlib.metadata
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bench.config.detection import DetectConfig
from bench.config.scoring import EvaluateConfig
from bench.config.training import MicrosamConfig
from bench.errors import BenchError
from bench.models.checkpoint import load_checkpoint, load_info, save_checkpoint
from bench.models.networks import NETWORKS, find_networks
from bench.models.outside.packages import has_packages
from bench.models.sam import write_tiny_sam
from bench.steps.detect import detect
from bench.steps.evaluate import evaluate
from bench.steps.microsam import microsam
from bench.tracking.queries import read_settings

NEEDS_YOLO = pytest.mark.skipif(
    not has_packages(NETWORKS["yolo11n"]),
    reason="ultralytics is not installed, as in CI: pip install --no-deps -r requirements-yolo.txt",
)


@pytest.fixture
def base(dataset):
    return DetectConfig(
        dataset=dataset,
        network="yolo11n",
        patch_px=64,
        batch_size=2,
        tile_px=48,
        halo_px=8,
        iterations=4,
        epoch_iterations=2,
        checkpoint_iterations=1,
        device="cpu",
    )


def checkpoint(store, run_id):
    return Path(store.client.get_run(run_id).info.artifact_uri) / "checkpoint"


@NEEDS_YOLO
def test_a_stopped_training_goes_on_to_the_same_end(
    store, make_store, base, tmp_path, stop_after, caplog
):
    straight = make_store(tmp_path / "other")
    with caplog.at_level(logging.WARNING):
        run_id = detect(base, straight)
    assert "yolo11n is computed by ultralytics (AGPL-3.0)" in caplog.text
    expected = checkpoint(straight, run_id)
    metrics = straight.client.get_run(run_id).data.metrics
    assert {"train/box_loss", "train/cls_loss", "train/dfl_loss", "val/box_ap"} <= metrics.keys()
    settings = read_settings(straight, run_id)
    assert settings["network_terms"] == "ultralytics (AGPL-3.0)"
    assert settings["ultralytics"] == importlib.metadata.version("ultralytics")
    stop_after(3, lambda: detect(base, store))
    resumed = detect(base, store)
    for name in ("best", "last"):
        ours, theirs = (
            load_file(f / f"{name}.safetensors") for f in (checkpoint(store, resumed), expected)
        )
        assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.items())


@NEEDS_YOLO
def test_its_boxes_prompt_a_sam(store, base, tmp_path):
    found = checkpoint(store, detect(replace(base, iterations=1), store)) / "best.safetensors"
    network, info = load_checkpoint(found)
    assert (info.architecture, info.training["terms"]) == ("yolo11n", "ultralytics (AGPL-3.0)")
    # One iteration is sure of nothing.
    for of_level in network.network.model[-1].cv3:
        torch.nn.init.zeros_(of_level[-1].bias)
    save_checkpoint(tmp_path / "boxes.safetensors", network, info)
    write_tiny_sam(tmp_path / "sam.pt", image_px=64, decoder_features=0)
    config = MicrosamConfig(
        dataset=base.dataset,
        source=str(tmp_path / "sam.pt"),
        mode="detector",
        detector=str(tmp_path / "boxes.safetensors"),
        tile_px=48,
        halo_px=8,
        min_area_px=1,
        max_area_px=10_000,
        sure_precision=0.0,
        device="cpu",
    )
    made = microsam(config, store)
    joint = load_info(checkpoint(store, made) / "best.safetensors")
    rows = find_networks(joint.architecture, joint.arguments)
    assert [row.name for row in rows] == ["detector_sam", "yolo11n"]
    scored = evaluate(EvaluateConfig(dataset=base.dataset, run_id=made, device="cpu"), store)
    ours, theirs = (store.client.get_run(run).data.metrics for run in (made, scored))
    assert ours["val/instance_f1"] == theirs["val/instance_f1"]
    assert theirs["val/dice"] > 0


@NEEDS_YOLO
def test_a_file_of_ultralytics_is_a_start(store, base, tmp_path):
    from bench.models.outside.ultralytics import import_ultralytics

    package = import_ultralytics()
    theirs = package.detection_model(package.describe("11/yolo11", "n"), ch=3, verbose=False)
    path = tmp_path / "yolo11n.pt"
    torch.save({"model": theirs.half(), "ema": None}, path)
    run_id = detect(replace(base, source=str(path), iterations=1), store)
    assert read_settings(store, run_id)["source_sha256"] != "none"
    with pytest.raises(BenchError, match=r"must be of the network yolov8n, only \d+ of its 355"):
        detect(replace(base, source=str(path), network="yolov8n"), store)


def test_without_the_package_no_run_begins(store, base, without_package):
    without_package("ultralytics")
    with pytest.raises(BenchError, match=r"requirements-yolo.txt; its licence is AGPL-3.0") as line:
        detect(base, store)
    assert "\n" not in str(line.value)
    assert store.client.search_runs([store.experiment_id]) == []
