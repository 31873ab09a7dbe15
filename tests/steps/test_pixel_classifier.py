"""The pixel classifier as a row: trained, killed and run again, scored, searched and applied."""

import csv
import math

import numpy as np
import pytest

from bench.config.running import BenchmarkConfig
from bench.config.scoring import EvaluateConfig, OptimizeConfig, PromoteConfig
from bench.config.training import FinetuneConfig
from bench.errors import BenchError
from bench.models.checkpoint import load_info
from bench.steps.benchmark import benchmark
from bench.steps.evaluate import evaluate
from bench.steps.finetune import finetune
from bench.steps.optimize import optimize
from bench.steps.promote import promote
from bench.steps.training import pixel_classifier
from bench.tracking.queries import fetch_artifact, read_settings
from bench.training.pixels.fitting import USUAL_WORK, PixelWork

WORK = PixelWork(pixels=2000, trees=8)


@pytest.fixture(scope="module")
def trained(dataset, make_store, tmp_path_factory):
    """A store, and the run of a training that was killed before its end and began anew."""
    store = make_store(tmp_path_factory.mktemp("store"))
    config = FinetuneConfig(dataset=dataset, method="pixel_classifier", device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(USUAL_WORK, "pixel_classifier", WORK)
        log_checkpoints = pixel_classifier.log_checkpoints

        def die(*arguments):
            raise KeyboardInterrupt

        patch.setattr(pixel_classifier, "log_checkpoints", die)
        with pytest.raises(KeyboardInterrupt):
            finetune(config, store)
        (killed,) = store.client.search_runs([store.experiment_id])
        assert killed.info.status == "KILLED"
        assert store.client.list_artifacts(killed.info.run_id, "checkpoint") == []
        patch.setattr(pixel_classifier, "log_checkpoints", log_checkpoints)
        assert finetune(config, store) == killed.info.run_id
        assert finetune(config, store) == killed.info.run_id
    return store, killed.info.run_id


@pytest.fixture
def store(trained, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", trained[0].uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", trained[0].experiment_id)
    return trained[0]


def test_its_run_says_what_it_did(trained, store):
    run = store.client.get_run(trained[1])
    assert run.info.status == "FINISHED"
    losses = store.client.get_metric_history(trained[1], "train/loss")
    assert [point.step for point in losses] == [*range(1, WORK.trees + 1)]
    assert [p.step for p in store.client.get_metric_history(trained[1], "val/dice")] == [WORK.trees]
    settings = read_settings(store, trained[1])
    said = [str(settings[name]) for name in ("pixels", "trees")]
    assert said == [str(WORK.pixels), str(WORK.trees)]
    assert not {"loss", "lr", "patch_px", "iterations"} & {*settings}
    with fetch_artifact(store, trained[1], "importances.csv").open() as file:
        shares = [float(row["share"]) for row in csv.DictReader(file)]
    assert sum(shares) == pytest.approx(1)
    assert fetch_artifact(store, trained[1], "importances.png").exists()


def test_its_limit_is_that_of_balance(trained, store, dataset):
    """So that one half, which every step takes, is hardly worse than the best that there is."""
    with fetch_artifact(store, trained[1], "thresholds.csv").open() as file:
        curve = [float(row["validation_dice"]) for row in csv.DictReader(file)]
    run = store.client.get_run(trained[1])
    best = run.data.metrics["best/dice"]
    level = round(255 * float(run.data.tags["bench.validation.threshold"]) + 0.5)
    assert best == pytest.approx(curve[level])
    farthest = max(n for n in range(1, 129) if curve[n] >= max(curve[1:129]) - 0.001)
    # As of every row that is balanced: there, or half of the way from half of the Dice to there.
    assert farthest <= level <= max(farthest, math.ceil(255 * max(curve) / 2))
    assert level < 128
    config = EvaluateConfig(
        dataset=dataset,
        run_id=trained[1],
        device="cpu",
        opening_radius_px=0,
        min_area_px=0,
    )
    found = store.client.get_run(evaluate(config)).data.metrics["val/dice"]
    assert found == pytest.approx(best, abs=0.003)
    info = load_info(fetch_artifact(store, trained[1], "checkpoint") / "best.safetensors")
    assert info.training["val_dice"] == pytest.approx(best)


def test_from_its_run_to_new_images(trained, store, dataset, segment_new, tmp_path):
    search = OptimizeConfig(
        dataset=dataset,
        runs=trained[1],
        min_areas_px="0",
        output=str(tmp_path / "best"),
    )
    promote(PromoteConfig(structure="mito", run_id=optimize(search)))
    image = np.random.default_rng(0).integers(0, 255, (70, 90), dtype=np.uint8)
    assert segment_new(image).shape == (70, 90)


def test_a_grid_gives_it_minutes_and_nothing_that_it_does_not_follow(
    store, dataset, tmp_path, monkeypatch
):
    asked = []

    def plan(minutes, speed, usual, *, training_px, validation_s):
        asked.append((minutes, validation_s))
        return WORK

    monkeypatch.setattr(pixel_classifier, "plan_work", plan)
    benchmark(
        BenchmarkConfig(
            dataset=dataset,
            output=str(tmp_path),
            structures="mito",
            methods="pixel_classifier",
            seeds="0",
            split="val",
            minutes=0.5,
            lr=1e-3,
            patch_px=32,
            labelled="1",
        )
    )
    ((minutes, validation_s),) = asked
    assert minutes == 0.5
    assert validation_s > 0
    with (tmp_path / "benchmark.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    # That of one section; the store has the one of all, too.
    row = rows["pixel_classifier:1"]
    assert row["reason"] == ""
    assert 0 <= float(row["dice"]) <= 1


def test_settings_of_networks_are_refused(store, dataset):
    with pytest.raises(BenchError, match=r"follows .*minutes, device and no other .* received lr"):
        finetune(FinetuneConfig(dataset=dataset, method="pixel_classifier", lr=1e-3))
