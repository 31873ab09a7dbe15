"""A network that this suite does not have, as one row of each table: from training to segment."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.config.running import BenchmarkConfig
from bench.config.scoring import EvaluateConfig, OptimizeConfig, PromoteConfig
from bench.config.training import DomainAdaptConfig, FinetuneConfig, MicrosamConfig
from bench.errors import BenchError
from bench.methods import METHODS, Method, register_method
from bench.models.networks import NETWORKS, Network, register_network
from bench.steps.benchmark import benchmark
from bench.steps.domain_adapt import domain_adapt
from bench.steps.evaluate import evaluate
from bench.steps.finetune import finetune
from bench.steps.microsam import microsam
from bench.steps.optimize import optimize
from bench.steps.promote import promote
from bench.tracking.queries import fetch_artifact, read_settings


def build_two_layers(*, out_channels: int, features: int) -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, features, 5, padding=2),
        torch.nn.ReLU(),
        torch.nn.Conv2d(features, out_channels, 5, padding=2),
    )


NETWORK = Network(
    "two_layers",
    build_two_layers,
    arguments=lambda config: {"features": config.features},
    multiple=2,
    steps=("finetune",),
)
METHOD = Method(
    *("two_layers_scratch", "Two layers", "two_layers", "finetune", "random", "dice"),
    optimiser="sgd",
    lr=0.1,
    schedule="polynomial",
)
QUICK = {"iterations": 30, "epoch_iterations": 15, "batch_size": 4, "patch_px": 34, "features": 4}
QUICK |= {"device": "cpu", "precision": "fp32"}


@pytest.fixture
def laboratory():
    """The two rows, as a module of a laboratory adds them."""
    register_network(NETWORK)
    register_method(METHOD)
    yield
    del NETWORKS[NETWORK.name], METHODS[METHOD.name]


def read(store, run_id, name):
    return json.loads(fetch_artifact(store, run_id, name).read_text())


def test_from_a_training_to_new_images(laboratory, pipeline, store, segment_new, tmp_path):
    dataset = str(pipeline.dataset)
    settings = QUICK | {"tile_px": 50, "halo_px": 6}
    trained = finetune(FinetuneConfig(dataset=dataset, method=METHOD.name, **settings))
    run = store.client.get_run(trained)
    chosen = {name: read_settings(store, trained)[name] for name in ("optimiser", "lr", "schedule")}
    assert chosen == {"optimiser": "sgd", "lr": "0.1", "schedule": "polynomial"}
    assert float(run.data.tags["bench.model.parameters"]) == 4 * 26 + 101
    assert "bench.warning" not in run.data.tags
    info = read(store, trained, "checkpoint/best.json")
    assert (info["architecture"], info["arguments"]) == (
        *("two_layers", {"features": 4, "out_channels": 1}),
    )
    for split in ("val", "test"):
        evaluated = evaluate(
            EvaluateConfig(dataset=dataset, run_id=trained, split=split, augmentations="paper")
        )
        # Dark discs on grey: two layers are enough.
        assert store.client.get_run(evaluated).data.metrics[f"{split}/dice"] > 0.6
    found = optimize(
        OptimizeConfig(
            dataset=dataset, runs=trained, min_areas_px="0,20", output=str(tmp_path / "best")
        )
    )
    promote(PromoteConfig(structure="mito", run_id=found))
    random = np.random.default_rng(0)
    raw = 120 + random.normal(0, 8, (90, 110))
    raw[30:52, 30:52] -= 70
    labels = segment_new(raw.clip(0, 255).astype(np.uint8))
    assert labels[41, 41] > 0
    assert labels[5, 5] == 0


def test_its_weights_are_a_source_of_its_own_methods_only(laboratory, pipeline, store):
    dataset = str(pipeline.dataset)
    short = {"dataset": dataset, **QUICK, "iterations": 2, "epoch_iterations": 2}
    # The sizes of auto are chosen, and fit: a multiple of 2.
    trained = finetune(FinetuneConfig(method=METHOD.name, **short))
    assert store.client.get_run(trained).data.tags["bench.geometry"]
    with pytest.raises(BenchError, match=r"finetuned trains the network unet2d, .* two_layers"):
        finetune(FinetuneConfig(source=f"runs:/{trained}", **short | {"patch_px": 32}))
    with pytest.raises(BenchError, match=r"needs a trained unet2d, .* is a two_layers"):
        domain_adapt(DomainAdaptConfig(dataset=dataset, source=f"runs:/{trained}"))
    with pytest.raises(BenchError, match=r"starts from a SAM, .* is a two_layers"):
        microsam(MicrosamConfig(dataset=dataset, source=f"runs:/{trained}"))
    again = replace(METHOD, name="two_layers_again", label="Again", start="source")
    METHODS[again.name] = again
    try:
        tuned = finetune(
            FinetuneConfig(method=again.name, source=f"runs:/{trained}", loss="focal_dice", **short)
        )
    finally:
        del METHODS[again.name]
    run = store.client.get_run(tuned)
    assert float(run.data.tags["bench.source.tensors_transferred"]) == 4
    assert read_settings(store, tuned)["loss"] == "focal_dice"
    assert (
        "loss=focal_dice, method two_layers_again stands for dice" in run.data.tags["bench.warning"]
    )


def test_a_network_of_one_size(laboratory, pipeline, store, monkeypatch):
    monkeypatch.setitem(NETWORKS, NETWORK.name, replace(NETWORK, size_px=48))
    short = {"dataset": str(pipeline.dataset), "method": METHOD.name, **QUICK, "iterations": 2}
    for given, message in (
        ({}, "patch_px must be 48, the one size that the network two_layers takes, received 34"),
        ({"patch_px": None, "tile_px": 64}, r"tile_px \+ 2 halo_px must be 48, .* received 64"),
    ):
        with pytest.raises(BenchError, match=message):
            finetune(FinetuneConfig(**short | given))
    trained = finetune(FinetuneConfig(**short | {"patch_px": None}))
    info = read(store, trained, "checkpoint/best.json")
    assert (info["tile_px"], info["halo_px"]) == (36, 6)
    assert read_settings(store, trained)["patch_px"] == "48"


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            "no_such",
            "unknown network 'no_such': choose one of detector_sam, fcos_resnet50, fcos_small, ",
        ),
        (
            "sam",
            "finetune trains the networks unet2d, .*two_layers, .*sam, which is trained",
        ),
    ],
)
def test_a_row_whose_network_its_step_cannot_train(laboratory, pipeline, store, network, message):
    row = Method("impossible", "Impossible", network, "finetune", "random", "focal_dice")
    METHODS[row.name] = row
    dataset, before = str(pipeline.dataset), store.client.search_runs([store.experiment_id])
    try:
        with pytest.raises(BenchError, match=message):
            finetune(FinetuneConfig(dataset=dataset, method=row.name))
        with pytest.raises(BenchError, match=message):
            benchmark(BenchmarkConfig(dataset=dataset, methods="scratch,impossible"))
    finally:
        del METHODS[row.name]
    assert store.client.search_runs([store.experiment_id]) == before


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda *, width: None, "must be built of the arguments .*unexpected keyword"),
        (
            lambda *, features, out_channels: torch.nn.Conv2d(1, out_channels, 3),
            r"it returned the shape \(1, 1, 30, 30\): correct it, or state in its row",
        ),
        (
            lambda *, features, out_channels: torch.nn.Conv2d(3, out_channels, 1),
            "it failed .*expected input",
        ),
    ],
)
def test_a_network_that_does_not_fit_is_one_line_before_it_is_trained(
    laboratory, pipeline, store, build, said
):
    # The fixture takes the row away again, whatever it has become.
    NETWORKS[NETWORK.name] = replace(NETWORK, build=build)
    config = FinetuneConfig(
        dataset=str(pipeline.dataset), method=METHOD.name, patch_px=32, tile_px=32, halo_px=0
    )
    with pytest.raises(BenchError, match=said):
        finetune(config)
    assert not store.client.search_runs([store.experiment_id])
