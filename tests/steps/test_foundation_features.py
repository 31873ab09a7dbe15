"""Features of a frozen transformer as a row: trained, scored, searched and applied."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.config.scoring import EvaluateConfig, OptimizeConfig, PromoteConfig
from bench.config.training import FinetuneConfig
from bench.errors import BenchError
from bench.models.checkpoint import load_info, load_weights
from bench.steps.evaluate import evaluate
from bench.steps.finetune import finetune
from bench.steps.optimize import optimize
from bench.steps.promote import promote
from bench.tracking.queries import fetch_artifact
from bench.training.pixels.fitting import USUAL_WORK, PixelWork

WORK = PixelWork(pixels=2000, trees=8)


@pytest.fixture(scope="module")
def config(dataset, tmp_path_factory, write_dino):
    file = write_dino(tmp_path_factory.mktemp("published") / "dino.pth")
    return FinetuneConfig(
        dataset=dataset, method="foundation_features", source=f"dino:{file}", device="cpu"
    )


@pytest.fixture(scope="module")
def trained(config, make_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    store = make_store(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setitem(USUAL_WORK, "foundation_features", WORK)
        run_id = finetune(config, store)
        assert finetune(config, store) == run_id
    return store, run_id


@pytest.fixture
def store(trained, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", trained[0].uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", trained[0].experiment_id)
    return trained[0]


def test_its_transformer_is_the_source_s_and_its_trees_see_tokens(trained, store, config):
    best = fetch_artifact(store, trained[1], "checkpoint") / "best.safetensors"
    weights, source = load_weights(best), torch.load(config.source[5:], weights_only=True)
    name = "blocks.0.mlp.fc1.weight"
    assert torch.equal(weights[f"tokens.encoder.{name}"], source[name])
    assert load_info(best).arguments["encoder"]["blocks"] == 2
    with fetch_artifact(store, trained[1], "importances.csv").open() as file:
        names = {row["feature"] for row in csv.DictReader(file)}
    assert {"grey value", "patch of 14 px, 1", "patch of 7 px, 48", "probability"} <= names
    run = store.client.get_run(trained[1])
    assert run.data.tags["bench.encoder"].startswith("a transformer as DINOv2's of 2 blocks")
    assert float(run.data.tags["bench.model.parameters_frozen"]) > 1000


def test_from_its_run_to_new_images(trained, store, dataset, segment_new, tmp_path):
    found = evaluate(
        EvaluateConfig(
            dataset=dataset, run_id=trained[1], device="cpu", opening_radius_px=0, min_area_px=0
        )
    )
    dice = store.client.get_run(found).data.metrics["val/dice"]
    best = store.client.get_run(trained[1]).data.metrics["best/dice"]
    assert dice == pytest.approx(best, abs=0.003)
    assert dice > 0.5
    search = OptimizeConfig(
        dataset=dataset, runs=trained[1], min_areas_px="0", output=str(tmp_path / "best")
    )
    promote(PromoteConfig(structure="mito", run_id=optimize(search)))
    image = np.random.default_rng(0).integers(0, 255, (70, 90), dtype=np.uint8)
    assert segment_new(image).shape == (70, 90)


def test_a_source_is_needed(store, config):
    with pytest.raises(BenchError, match=r"give source=timm:NAME .* source=dino:FILE of a DINOv2"):
        finetune(replace(config, source="auto"), store)
    with pytest.raises(BenchError, match="dino:FILE must name a vision transformer"):
        finetune(replace(config, source="dino:nowhere.pth"), store)
    with pytest.raises(BenchError, match=r"source .* is a foundation_features"):
        finetune(replace(config, method="finetuned"), store)
