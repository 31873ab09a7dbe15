"""The limit between foreground and background, which validation moves."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.config.scoring import EvaluateConfig
from bench.config.training import FinetuneConfig
from bench.errors import BenchError
from bench.metrics.curves import histogram_scores
from bench.models.checkpoint import ModelInfo, build_model, load_info
from bench.steps.evaluate import evaluate
from bench.steps.finetune import finetune
from bench.steps.training.balance import (
    best_level,
    check_balance,
    limit_of,
    move_limit,
    pool_levels,
)
from bench.tracking.queries import fetch_artifact

ARGUMENTS = {"in_channels": 1, "features": (4, 8), "stride": 4, "detail": 4, "out_channels": 2}
INFO = ModelInfo(
    *("unet_residual", ARGUMENTS, ("foreground", "boundary"), "vesicles", None, "section", 64, 0)
)


def dice_at(truth, levels, level):
    found = levels >= level
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


def find_limit(histogram):
    return limit_of(best_level(histogram))


def draw_pixels(sharpness):
    """Pixels whose foreground is drawn by their probability, of which a network is surer."""
    rng = np.random.default_rng(0)
    logits = rng.normal(-2, 2, 400_000)
    truth = rng.random(logits.size) < 1 / (1 + np.exp(-logits))
    return truth, np.round(255 / (1 + np.exp(-sharpness * logits))).astype(np.uint8)


def test_the_limit_of_right_probabilities_is_half_of_the_dice():
    """Lipton et al. 2014."""
    truth, levels = draw_pixels(1.0)
    limit = find_limit(histogram_scores(truth=truth, probability=levels))
    scores = [dice_at(truth, levels, level) for level in range(1, 256)]
    found = dice_at(truth, levels, round(255 * limit))
    assert found > max(scores) - 0.002
    assert found > dice_at(truth, levels, 128) + 0.03
    assert limit == pytest.approx(max(scores) / 2, abs=0.06)


def test_beyond_what_right_probabilities_need_the_limit_goes_half_of_the_way():
    truth, levels = draw_pixels(2.0)
    limit = find_limit(histogram_scores(truth=truth, probability=levels))
    scores = [dice_at(truth, levels, level) for level in range(256)]
    # The nearest to one half that is hardly worse than the best.
    farthest = max(n for n in range(129) if scores[n] >= max(scores[1:129]) - 0.001)
    right = 255 * scores[farthest] / 2
    assert farthest < right
    logits = [np.log(level / (255 - level)) for level in (farthest, right, 255 * limit)]
    assert logits[2] == pytest.approx(np.mean(logits[:2]), abs=0.03)
    assert dice_at(truth, levels, round(255 * limit)) > dice_at(truth, levels, round(right)) + 0.003


def test_what_nobody_annotated_is_not_pooled():
    truth, found = np.array([[1, 1, 0, 0]]), np.array([[9, 200, 9, 200]], dtype=np.uint8)
    sections = {"a": (truth, truth), "b": (truth, truth)}
    levels = {"b": np.array([[1, 0, 0, 1]], dtype=np.uint8)}
    pooled = pool_levels(sections, levels, [found, found])
    assert {n: count for n, count in enumerate(pooled.foreground) if count} == {9: 1, 200: 2}
    assert {n: count for n, count in enumerate(pooled.background) if count} == {9: 2, 200: 1}


def test_the_limit_stays_where_nothing_is_gained():
    truth = np.arange(100) < 30
    levels = np.where(truth, 250, 3).astype(np.uint8)
    assert find_limit(histogram_scores(truth=truth, probability=levels)) == 0.5
    nothing = np.zeros(100, dtype=bool)
    assert find_limit(histogram_scores(truth=nothing, probability=levels)) == 0.5


def test_the_model_gives_one_half_at_the_limit():
    torch.manual_seed(0)
    network = build_model("unet_residual", ARGUMENTS).eval()
    image = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        before = torch.sigmoid(network(image))[0].numpy()
        move_limit(network, INFO, 0, 0.4)
        after = torch.sigmoid(network(image))[0].numpy()
    assert np.array_equal(after[0] >= 0.5, before[0] >= 0.4)
    assert np.array_equal(after[1], before[1])
    assert (after[0] > before[0]).all()


def test_a_network_without_a_bias_at_its_outputs_is_refused(monkeypatch):
    monkeypatch.setattr("bench.steps.training.balance.head_tensors", lambda info: {"head.weight"})
    config = FinetuneConfig(balance="validation")
    with pytest.raises(BenchError, match=r"has 0: give balance=none"):
        check_balance(config, INFO)
    classes = replace(INFO, outputs=("background", "vesicles"))
    with pytest.raises(BenchError, match=r"received a method of classes: give balance=none"):
        check_balance(config, classes)


def test_what_validation_said_while_training_is_what_its_evaluation_finds(
    pipeline, tiny, monkeypatch
):
    """Each checkpoint is scored at the limit that it would be moved to, and the best one is."""
    monkeypatch.setattr("bench.steps.training.reports.sections.best_level", lambda pooled: 20)
    settings = {name: value for name, value in tiny.items() if name not in ("features", "lr")}
    settings |= {"iterations": 8, "epoch_iterations": 4}
    config = FinetuneConfig(
        **settings | {"dataset": str(pipeline.dataset), "source": "random"},
        method="best_practice",
        snapshots="4",
    )
    trained = finetune(config, pipeline.store)
    run = pipeline.store.client.get_run(trained)
    limit = float(run.data.tags["bench.limit"])
    assert limit == pytest.approx(19.5 / 255, abs=0.0006)
    scored = evaluate(
        EvaluateConfig(
            dataset=str(pipeline.dataset),
            run_id=trained,
            device="cpu",
            opening_radius_px=0,
            min_area_px=0,
        ),
        pipeline.store,
    )
    found = pipeline.store.client.get_run(scored).data.metrics["val/dice"]
    pipeline.store.client.delete_run(scored)
    assert found == pytest.approx(run.data.metrics["best/dice"], abs=0.0005)
    checkpoints = fetch_artifact(pipeline.store, trained, "checkpoint")
    for name in ("best", "iteration_000004"):
        moved = load_info(checkpoints / f"{name}.safetensors").training["limit"]
        assert moved == pytest.approx(limit, abs=0.001)
