"""Weights kept at iterations that the user names: what they are, and what they leave as it was."""

import json

import pytest
import torch

from bench.config.scoring import EvaluateConfig
from bench.config.training import FinetuneConfig
from bench.errors import BenchError
from bench.models.checkpoint import load_info, load_weights
from bench.steps.evaluate import evaluate
from bench.steps.finetune import finetune
from bench.steps.training.snapshots import identify_snapshots, kept_iterations
from bench.steps.training.source import resolve_source
from bench.tracking.queries import fetch_artifact

KEPT = (7, 20, 33)


@pytest.fixture(scope="module")
def snapshots(pipeline, tiny):
    """The training of the pipeline once more, with snapshots between, at and after epochs."""
    config = FinetuneConfig(
        dataset=str(pipeline.dataset), source="random", snapshots="33, 7,20", **tiny
    )
    return finetune(config, pipeline.store)


def checkpoints(pipeline, run_id):
    return fetch_artifact(pipeline.store, run_id, "checkpoint")


def history(pipeline, run_id, metric="val/dice"):
    points = pipeline.store.client.get_metric_history(run_id, metric)
    return {point.step: point.value for point in points}


def test_the_training_is_another_run_of_the_same_weights(pipeline, snapshots):
    assert snapshots != pipeline.trained
    for name in ("best", "last"):
        one, other = (
            load_weights(checkpoints(pipeline, run_id) / f"{name}.safetensors")
            for run_id in (snapshots, pipeline.trained)
        )
        assert all(torch.equal(one[key], other[key]) for key in other)
    plain, with_them = (history(pipeline, run_id) for run_id in (pipeline.trained, snapshots))
    assert set(with_them) - set(plain) == {7, 33}
    assert {step: with_them[step] for step in plain} == plain


def test_snapshots_are_models_with_their_score(pipeline, snapshots):
    folder, scores = checkpoints(pipeline, snapshots), history(pipeline, snapshots)
    best = load_info(folder / "best.safetensors")
    for iteration in KEPT:
        info = load_info(folder / f"iteration_{iteration:06d}.safetensors")
        assert info.training["iteration"] == iteration
        assert info.training["val_dice"] == scores[iteration]
        assert (info.tile_px, info.halo_px) == (best.tile_px, best.halo_px)
    first, second = (
        load_weights(folder / f"iteration_{iteration:06d}.safetensors") for iteration in KEPT[:2]
    )
    assert not torch.equal(first["out_conv.weight"], second["out_conv.weight"])
    seconds = history(pipeline, snapshots, "work/elapsed_s")
    assert seconds.keys() == scores.keys()
    assert list(seconds.values()) == sorted(seconds.values())


def test_a_snapshot_is_a_source(pipeline, snapshots, make_store, tmp_path):
    name = f"runs:/{snapshots}/checkpoint/iteration_000007.safetensors"
    source = resolve_source(pipeline.store, name)
    assert source.info is not None
    assert source.info.training["iteration"] == 7
    assert resolve_source(pipeline.store, f"runs:/{snapshots}/checkpoint").path.stem == "best"
    run_id = evaluate(
        EvaluateConfig(
            dataset=str(pipeline.dataset), structure="mito", method="unadapted", source=name
        ),
        pipeline.store,
    )
    # As it was scored while training, at another opening and smallest area.
    scores = json.loads(fetch_artifact(pipeline.store, run_id, "scores.json").read_text())
    assert 0 <= scores["pooled"]["dice"] <= 1
    with pytest.raises(
        BenchError,
        match=r"that its run does not have: choose one of checkpoint/best.safetensors, .*000033",
    ):
        resolve_source(pipeline.store, name.replace("000007", "000008"))


def test_seconds_of_an_iteration_are_a_cost(pipeline, snapshots):
    tags = pipeline.store.client.get_run(snapshots).data.tags
    (cost,) = [float(value) for name, value in tags.items() if "seconds_per_iteration" in name]
    assert 0 < 40 * cost <= float(tags["bench.train_seconds"])


@pytest.mark.parametrize("given", ["0", "41", "7,x", "-3", ",", "1.5"])
def test_iterations_that_are_none_are_told_before_data_is_read(tmp_path, given, store):
    config = FinetuneConfig(dataset=str(tmp_path / "none"), snapshots=given, iterations=40)
    with pytest.raises(BenchError, match=r"from 1 to iterations=40, comma-separated, received"):
        finetune(config, store)


def test_without_snapshots_the_identity_says_nothing_of_them():
    plain = FinetuneConfig()
    assert kept_iterations(plain) == ()
    assert identify_snapshots(plain) == {}
    assert "snapshots" not in plain.identity()
    assert identify_snapshots(FinetuneConfig(snapshots="9,3,9")) == {"snapshots": (3, 9)}
