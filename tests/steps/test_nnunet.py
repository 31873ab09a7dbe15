"""nnU-Net as a row: planned, trained, killed and resumed, scored, promoted, applied to new images.

CI does not have nnunetv2, which is 300 MB with what it needs: install it as requirements-nnunet.txt
says, and these tests run.
"""

import csv
import importlib.metadata
import json

import numpy as np
import pytest
from PIL import Image

from bench.config.data import PrepareConfig
from bench.config.running import BenchmarkConfig
from bench.config.scoring import EvaluateConfig, OptimizeConfig, PromoteConfig
from bench.config.training import FinetuneConfig
from bench.errors import BenchError
from bench.ingest.inputs import read_input
from bench.ingest.writing import write_prepared
from bench.methods import METHODS
from bench.models.checkpoint import build_model
from bench.models.networks import NETWORKS
from bench.models.outside.packages import has_packages
from bench.steps.benchmark import benchmark
from bench.steps.evaluate import evaluate
from bench.steps.finetune import finetune
from bench.steps.grid.cells import GridCell, model_config
from bench.steps.optimize import optimize
from bench.steps.promote import promote
from bench.structures import find_structure
from bench.tracking.queries import fetch_artifact, read_settings

NEEDS_NNUNET = pytest.mark.skipif(
    not has_packages(NETWORKS["nnunet"]),
    reason="nnunetv2 is not installed, as in CI: pip install --no-deps -r requirements-nnunet.txt",
)
BUDGET = {"method": "nnunet", "iterations": 5, "epoch_iterations": 2, "device": "cpu"}
BUDGET |= {"snapshots": "3"}


def draw_section(seed):
    """Dark squares in noise, and where they are; (y, x) uint8."""
    random = np.random.default_rng(seed)
    mask = np.zeros((64, 64), np.uint8)
    for y, x in random.integers(2, 44, (4, 2)):
        mask[y : y + 18, x : x + 16] = 255
    raw = random.integers(120, 180, mask.shape) - mask // 3
    return raw.astype(np.uint8), mask


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("dataset")
    for number, split in enumerate(("train", "train", "train", "val", "test")):
        for kind, image in zip(("raw", "mitochondria"), draw_section(number), strict=True):
            path = root / "input" / split / kind / f"s{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    config = PrepareConfig(input=str(root / "input"), pixel_size_nm=5.0)
    write_prepared(read_input(config), root / "prepared")
    return str(root / "prepared")


@pytest.fixture(scope="module")
def trained(dataset, make_store, tmp_path_factory):
    """A store, and the run of a training that was killed after its first epoch and went on."""
    from bench.training.nnunet import trainer

    store = make_store(tmp_path_factory.mktemp("store"))
    config = FinetuneConfig(dataset=dataset, **BUDGET)
    save = trainer.save_state
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store.uri)
        patch.setenv("MLFLOW_EXPERIMENT_ID", store.experiment_id)

        def save_and_die(*args):
            save(*args)
            raise KeyboardInterrupt

        patch.setattr(trainer, "save_state", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            finetune(config)
        (killed,) = store.client.search_runs([store.experiment_id])
        assert killed.info.status == "KILLED"
        patch.setattr(trainer, "save_state", save)
        # What was planned is not planned again.
        patch.setattr("bench.training.nnunet.planning._plan", None)
        resumed = finetune(config)
        assert resumed == killed.info.run_id
        assert finetune(config) == resumed
    return store, resumed


@pytest.fixture
def store(trained, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", trained[0].uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", trained[0].experiment_id)
    return trained[0]


@NEEDS_NNUNET
def test_a_killed_training_goes_on_and_tells_what_was_planned(trained, store):
    run = store.client.get_run(trained[1])
    assert run.info.status == "FINISHED"
    history = {
        name: [(m.step, m.value) for m in store.client.get_metric_history(trained[1], name)]
        for name in ("train/loss", "train/lr", "val/dice", "val/pseudo_dice", "val/patch_loss")
    }
    assert [step for step, _ in history["train/loss"]] == [1, 2, 3, 4, 5]
    assert all(np.isfinite(value) for _, value in history["train/loss"])
    assert [step for step, _ in history["val/dice"]] == [2, 3, 4, 5]
    for name in ("val/pseudo_dice", "val/patch_loss"):
        assert [step for step, _ in history[name]] == [2, 4, 5]
    # nnU-Net's own: 0.01, which falls by a polynomial of power 0.9 with the epochs.
    rates = [0.01 * (1 - epoch / 3) ** 0.9 for epoch in (0, 0, 1, 1, 2)]
    assert [value for _, value in history["train/lr"]] == pytest.approx(rates)
    settings = read_settings(store, trained[1])
    assert settings["nnunet_patch_size"] == "[64, 64]"
    assert run.data.params["nnunet_patch_size"] == "[64, 64]"
    assert run.data.params["nnunet_batch_size"] == "2"
    assert not {"loss", "lr", "patch_px", "precision"} & {*run.data.params, *settings}
    splits = json.loads(fetch_artifact(store, trained[1], "nnunet/splits_final.json").read_text())
    assert splits == [{"train": ["train_0000", "train_0001", "train_0002"], "val": ["val_0000"]}]
    plans = json.loads(fetch_artifact(store, trained[1], "nnunet/nnUNetPlans.json").read_text())
    info = json.loads(fetch_artifact(store, trained[1], "checkpoint/best.json").read_text())
    assert info["arguments"]["plans"] == plans
    assert info["training"]["nnunetv2"] == importlib.metadata.version("nnunetv2")
    assert fetch_artifact(store, trained[1], "checkpoint/iteration_000003.safetensors").exists()
    assert float(run.data.tags["bench.model.parameters"]) > 7e6
    assert not any(store.work.glob("*/nnunet"))


@NEEDS_NNUNET
def test_from_its_run_to_new_images(trained, store, dataset, segment_new, tmp_path):
    for split in ("val", "test"):
        config = EvaluateConfig(dataset=dataset, run_id=trained[1], split=split, device="cpu")
        metrics = store.client.get_run(evaluate(config)).data.metrics
        assert 0 <= metrics[f"{split}/dice"] <= 1
    found = optimize(
        OptimizeConfig(
            dataset=dataset,
            runs=trained[1],
            min_areas_px="0",
            output=str(tmp_path / "best"),
        )
    )
    promote(PromoteConfig(structure="mito", run_id=found))
    labels = segment_new(np.tile(draw_section(9)[0], (2, 2))[:100, :90])
    assert labels.shape == (100, 90)


@NEEDS_NNUNET
def test_a_grid_takes_the_finished_run_and_has_its_row(trained, store, dataset, tmp_path):
    settings = {name: value for name, value in BUDGET.items() if name != "method"}
    benchmark(
        BenchmarkConfig(
            **settings,
            dataset=dataset,
            output=str(tmp_path),
            structures="mito",
            methods="nnunet",
            seeds="0",
            split="val",
            # Of other methods.
            lr=1e-3,
            patch_px=32,
        )
    )
    trainings = store.client.search_runs(
        [store.experiment_id], "tags.`bench.step` = 'finetune' and tags.`bench.method` = 'nnunet'"
    )
    assert [run.info.run_id for run in trainings] == [trained[1]]
    with (tmp_path / "benchmark.csv").open() as file:
        (row,) = (row for row in csv.DictReader(file) if row["method"] == "nnunet")
    assert row["reason"] == ""
    assert 0 <= float(row["dice"]) <= 1


def test_without_the_package_a_line_says_how_to_get_it(
    dataset, make_store, tmp_path, without_package
):
    without_package("nnunetv2")
    message = r"needs the package nnunetv2, .* \(pip install --no-deps -r requirements-nnunet.txt\)"
    store = make_store(tmp_path / "store")
    with pytest.raises(BenchError, match=message):
        finetune(FinetuneConfig(dataset=dataset, **BUDGET), store)
    assert store.client.search_runs([store.experiment_id]) == []
    with pytest.raises(BenchError, match=message):
        build_model("nnunet", {})


@NEEDS_NNUNET
def test_settings_that_it_chooses_itself_are_refused(dataset, store):
    before = store.client.search_runs([store.experiment_id])
    with pytest.raises(
        BenchError,
        match=r"nnunet has a training of its own, .* received lr, patch_px: leave them out",
    ):
        finetune(FinetuneConfig(dataset=dataset, **BUDGET, lr=1e-3, patch_px=64))
    with pytest.raises(BenchError, match="starts from random weights, received source"):
        finetune(FinetuneConfig(dataset=dataset, **BUDGET, source="synapsenet:vesicles_2d"))
    assert len(store.client.search_runs([store.experiment_id])) == len(before)


def test_a_grid_gives_it_what_it_follows():
    config = BenchmarkConfig(lr=1e-3, patch_px=64, iterations=7, epoch_iterations=3, gpu_gb=0.5)
    cell = GridCell(METHODS["nnunet"], find_structure("mito"), seed=2, labelled=1)
    found = model_config(cell, config)
    assert found.gpu_gb == 0.5
    assert (found.iterations, found.epoch_iterations, found.seed, found.labelled) == (7, 3, 2, 1)
    assert (found.lr, found.patch_px) == (None, None)
