"""A detector through its step: what it leaves, goes on after a kill, and refuses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bench.config.detection import DetectConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.inference.detection.boxes import detect_boxes
from bench.inference.device import Compute
from bench.metrics.detection import box_precision, label_boxes
from bench.models.checkpoint import load_checkpoint, load_info
from bench.models.detection.fcos import build_fcos_resnet50
from bench.steps.detect import detect
from bench.tracking.queries import read_settings

CPU = Compute(torch.device("cpu"), "fp32")


@pytest.fixture
def base(dataset):
    return DetectConfig(
        dataset=dataset,
        features=8,
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


def test_it_ends_with_a_model_in_our_format_and_curves(store, base):
    run_id = detect(base, store)
    run = store.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert {"val/box_ap", "val/box_ap50", "train/loss", "best/box_ap50"} <= run.data.metrics.keys()
    assert "train/classification_loss" in run.data.metrics
    pictures = [item.path for item in store.client.list_artifacts(run_id, "images")]
    assert any(path.endswith(".png") for path in pictures)
    assert read_settings(store, run_id)["epoch_iterations"] == "2"
    network, info = load_checkpoint(checkpoint(store, run_id) / "best.safetensors")
    assert (info.architecture, info.outputs, info.structure) == (
        *("fcos_small", ("boxes",), "mitochondria"),
    )
    dataset = PreparedDataset.open(base.dataset)
    raw = dataset.read_raw(dataset.sections("val")[0])
    assert detect_boxes(network, info, raw, 5.0, CPU).boxes.shape[1] == 4
    # The same command is the same run, another seed another.
    assert detect(replace(base, checkpoint_iterations=2), store) == run_id


def test_a_stopped_training_goes_on_to_the_same_end(store, make_store, base, tmp_path, stop_after):
    straight = make_store(tmp_path / "other")
    expected = checkpoint(straight, detect(base, straight))
    stop_after(3, lambda: detect(base, store))
    (stopped,) = store.client.search_runs([store.experiment_id])
    resumed = detect(base, store)
    assert resumed == stopped.info.run_id
    steps = [m.step for m in store.client.get_metric_history(resumed, "train/loss")]
    assert steps == [1, 2, 3, 4]
    for name in ("best", "last"):
        ours, theirs = (
            load_file(f / f"{name}.safetensors") for f in (checkpoint(store, resumed), expected)
        )
        assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.items())


def test_a_detector_starts_from_another(store, base):
    first = detect(base, store)
    second = detect(replace(base, source=f"runs:/{first}", iterations=2), store)
    assert second != first
    torn = checkpoint(store, first) / "best.safetensors"
    third = detect(replace(base, source=str(torn), iterations=2), store)
    # The same weights under another name are the same start.
    assert third == second


def test_torchvision_s_file_is_a_start(store, base, tmp_path):
    """By names and shapes of tensors: torchvision's own model has 91 classes."""
    torchvision = pytest.importorskip("torchvision.models.detection")
    theirs = torchvision.fcos_resnet50_fpn(weights=None, weights_backbone=None)
    torch.save(theirs.state_dict(), tmp_path / "fcos.pth")
    ours = build_fcos_resnet50().state_dict()
    others = {n for n, t in theirs.state_dict().items() if ours[n].shape != t.shape}
    assert ours.keys() == theirs.state_dict().keys()
    assert others == {f"head.classification_head.cls_logits.{part}" for part in ("weight", "bias")}
    wrong = replace(base, source=str(tmp_path / "fcos.pth"))
    with pytest.raises(BenchError, match=r"must be of the network fcos_small, only 2 of its 64"):
        detect(wrong, store)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"structure": "ribbon"}, r"unknown structure .*ribbon"),
        ({"patch_px": 70}, r"patch_px must be a multiple of 32, received 70"),
        ({"source": "nowhere.safetensors"}, r"source must be random, runs:/ID .*'nowhere"),
        ({"source": "runs:/nothing"}, r"no run has the id 'nothing'"),
        ({"features": 12}, r"features must be a multiple of 8, received 12"),
    ],
)
def test_what_does_not_fit_is_one_line(store, base, changed, message):
    with pytest.raises(BenchError, match=message) as raised:
        detect(replace(base, **changed), store)
    assert "\n" not in str(raised.value)


def test_another_network_s_checkpoint_is_refused(store, base, two_models):
    with pytest.raises(BenchError, match=r"boxes are found by a detector, source .* is a unet2d"):
        detect(replace(base, source=str(two_models[0])), store)


def test_a_structure_without_instances_is_refused(store, base, monkeypatch):
    monkeypatch.setattr(PreparedDataset, "instances", lambda self, split, structure: 0)
    with pytest.raises(
        BenchError, match=r"detect needs instances of mitochondria in train and val"
    ):
        detect(base, store)


def test_it_learns_to_find_bright_squares():
    from bench.models.checkpoint import ModelInfo
    from bench.models.detection.fcos import build_fcos_small
    from bench.training.augment import Augmentation
    from bench.training.box_patches import BoxPatchFeed, detecting
    from bench.training.loop import LoopSettings, make_trainee, train_batch
    from bench.training.patches import PatchSettings

    rng = np.random.default_rng(0)
    sections = []
    for _ in range(10):
        labels = np.zeros((128, 128), np.uint8)
        for number in range(1, 7):
            y, x, side = *rng.integers(0, 100, 2), rng.integers(14, 28)
            if not labels[y : y + side, x : x + side].any():
                labels[y : y + side, x : x + side] = number
        sections.append((rng.normal(100, 5, labels.shape) + 80 * (labels > 0), labels))
    torch.manual_seed(0)
    network = build_fcos_small(features=8)
    settings = LoopSettings(120, 120, 120, 5e-3, "cosine", 0.5, 10, "adamw")
    trainee = make_trainee(network, settings, CPU)
    patches = PatchSettings(96, 2, 0.8, Augmentation(True, True, 0.0, 0.0), 0)
    objective = detecting(network, BoxPatchFeed(sections[:8], patches), CPU)
    for iteration in range(120):
        train_batch(trainee, objective, settings, iteration)
    info = ModelInfo("fcos_small", {}, ("boxes",), "", None, "section", 64, 32)
    # Of sections that it has not seen.
    found = [detect_boxes(network, info, raw, None, CPU) for raw, _ in sections[8:]]
    truth = [label_boxes(labels) for _, labels in sections[8:]]
    assert box_precision(list(zip(found, truth, strict=True)), 0.5) > 0.8


def test_a_model_says_what_it_scored(store, base):
    info = load_info(checkpoint(store, detect(base, store)) / "best.safetensors")
    assert 0 <= info.training["val_box_ap50"] <= 1
    assert info.training["method"] == "boxes_fcos_small"
