"""Evaluations under test-time augmentation: what they predict, score, record and export."""

import csv

import h5py
import numpy as np
import pytest
import tifffile

from bench.config.data import ExportConfig
from bench.config.running import BenchmarkConfig
from bench.config.scoring import EvaluateConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.inference.device import choose_compute
from bench.inference.prediction import open_predictor
from bench.inference.symmetries import AUGMENTATIONS, SYMMETRIES
from bench.models.sam import write_tiny_sam
from bench.steps.benchmark import benchmark
from bench.steps.evaluate import evaluate
from bench.steps.export import export
from bench.tracking.queries import fetch_artifact

# Levels by which a probability may differ in another batch: the device may compute in bf16.
LAST_BITS = 3
SETTINGS = {"opening_radius_px": 0, "min_area_px": 0, "device": "cpu"}


@pytest.fixture
def evaluate_as(pipeline):
    def run(**settings):
        config = EvaluateConfig(
            dataset=str(pipeline.dataset), run_id=pipeline.trained, **SETTINGS | settings
        )
        return pipeline.store.client.get_run(evaluate(config, pipeline.store))

    return run


@pytest.fixture
def predictions_of(pipeline):
    return lambda run: fetch_artifact(pipeline.store, run.info.run_id, "predictions.h5")


@pytest.mark.parametrize("choice", ["paper", "all"])
def test_the_score_is_that_of_the_mean(pipeline, evaluate_as, predictions_of, choice):
    run = evaluate_as(augmentations=choice)
    weights = fetch_artifact(pipeline.store, pipeline.trained, "checkpoint/best.safetensors")
    predict, _ = open_predictor(weights, choose_compute("cpu", "auto"), "mitochondria")
    dataset = PreparedDataset.open(pipeline.dataset)
    found, truth = [], []
    with h5py.File(predictions_of(run)) as file:
        assert tuple(file.attrs["augmentations"]) == AUGMENTATIONS[choice]
        for section in dataset.sections("val"):
            raw = dataset.read_raw(section)
            assert set(file[section]) == set(AUGMENTATIONS[choice])
            for name in AUGMENTATIONS[choice]:
                view = np.ascontiguousarray(SYMMETRIES[name].forward(raw))
                alone = SYMMETRIES[name].inverse(predict(view, 5.0).foreground)
                assert np.abs(file[section][name][:].astype(int) - alone).max() <= LAST_BITS
            stack = np.stack([file[section][name][:] for name in AUGMENTATIONS[choice]])
            found.append(np.floor(stack.mean(axis=0) + 0.5) >= 128)
            truth.append(dataset.read_labels(section, "mitochondria") > 0)
    overlap = 2 * np.sum(np.logical_and(found, truth)) / (np.sum(found) + np.sum(truth))
    assert run.data.metrics["val/dice"] == pytest.approx(overlap)
    assert 0 < overlap < 1


def test_an_augmented_evaluation_is_a_run_of_its_own(evaluate_as):
    runs = [evaluate_as(augmentations=choice) for choice in AUGMENTATIONS]
    assert len({run.info.run_id for run in runs}) == 3
    assert len({run.data.tags["bench.fingerprint"] for run in runs}) == 3
    assert [run.data.tags["bench.augmentations"] for run in runs] == list(AUGMENTATIONS)
    assert evaluate_as(augmentations="all").info.run_id == runs[-1].info.run_id


def test_the_plain_prediction_is_the_first_of_all(evaluate_as, predictions_of):
    plain, augmented = (
        h5py.File(predictions_of(evaluate_as(augmentations=choice))) for choice in ("none", "all")
    )
    with plain, augmented:
        for section in plain:
            assert list(plain[section]) == ["identity"]
            first, same = (file[section]["identity"][:].astype(int) for file in (plain, augmented))
            assert np.abs(first - same).max() <= LAST_BITS
            others = [augmented[section][name][:].tobytes() for name in SYMMETRIES]
            assert len(set(others)) == 8


def test_an_export_is_of_the_mean(pipeline, evaluate_as, predictions_of, tmp_path):
    run = evaluate_as(augmentations="all")
    output = tmp_path / "out"
    export(
        ExportConfig(
            dataset=str(pipeline.dataset),
            run_id=run.info.run_id,
            format="tiff",
            output=str(output),
        ),
        pipeline.store,
    )
    with h5py.File(predictions_of(run)) as file:
        for section in file:
            stack = np.stack([file[section][name][:] for name in SYMMETRIES])
            expected = np.floor(stack.mean(axis=0) + 0.5) >= 128
            exported = tifffile.imread(output / "mitochondria" / f"{section}.tif")
            np.testing.assert_array_equal(exported > 0, expected)
            assert (stack[0] >= 128).tobytes() != expected.tobytes()


def test_instances_have_no_mean(evaluate_as, pipeline):
    before = len(pipeline.store.client.search_runs([pipeline.store.experiment_id]))
    with pytest.raises(BenchError, match=r"received augmentations=all .*use augmentations=none"):
        evaluate_as(augmentations="all", segmentation="synapse_net")
    assert len(pipeline.store.client.search_runs([pipeline.store.experiment_id])) == before


def test_a_benchmark_scores_the_mean_and_sam_without(pipeline, tiny, store, tmp_path):
    write_tiny_sam(tmp_path / "sam.pt", image_px=64)
    benchmark(
        BenchmarkConfig(
            **tiny | {"iterations": 2, "epoch_iterations": 2, "features": 2},
            dataset=str(pipeline.dataset),
            output=str(tmp_path / "out"),
            structures="mito",
            methods="scratch,microsam_zero_shot",
            split="val",
            augmentations="all",
            microsam=f"source={tmp_path / 'sam.pt'},points_per_side=2,tile_px=64,halo_px=0",
        )
    )
    runs = store.client.search_runs([store.experiment_id], "tags.`bench.step` = 'evaluate'")
    choices = {r.data.tags["bench.method"]: r.data.tags["bench.augmentations"] for r in runs}
    assert choices == {"scratch": "all", "microsam_zero_shot": "none"}
    with (tmp_path / "out" / "benchmark.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    best = rows.pop("best_by_dice")
    scores = {r.data.tags["bench.method"]: r.data.metrics["val/dice"] for r in runs}
    assert float(best["dice"]) >= max(scores.values())
    assert {method: float(row["dice"]) for method, row in rows.items()} == scores
    assert "mean over 8 symmetries (augmentations=all)" in rows["scratch"]["warnings"]
    assert "without augmentations=all" in rows["microsam_zero_shot"]["warnings"]
