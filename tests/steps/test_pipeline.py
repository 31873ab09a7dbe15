"""What the steps leave in the store: prepare, finetune, evaluate and compare on tiny sections."""

import csv
import json

import h5py
import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    jaccard_score,
    precision_score,
    recall_score,
)

from bench.config.data import PrepareConfig
from bench.config.scoring import CompareConfig, EvaluateConfig
from bench.config.training import FinetuneConfig
from bench.dataset.prepared import PreparedDataset
from bench.metrics.table import METRICS
from bench.steps.compare import compare
from bench.steps.evaluate import evaluate
from bench.steps.finetune import finetune
from bench.steps.prepare import prepare
from bench.tracking.queries import fetch_artifact, read_settings


@pytest.fixture
def run_of(pipeline):
    return lambda name: pipeline.store.client.get_run(getattr(pipeline, name))


@pytest.fixture
def files_of(pipeline):
    def walk(run_id, folder=""):
        for file in pipeline.store.client.list_artifacts(run_id, folder or None):
            yield from walk(run_id, file.path) if file.is_dir else [file.path]

    return lambda name: set(walk(getattr(pipeline, name)))


@pytest.fixture
def artifact(pipeline):
    return lambda name, path: fetch_artifact(pipeline.store, getattr(pipeline, name), path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("prepared", {"step": "prepare"}),
        ("trained", {"step": "finetune", "seed": "0", "method": "scratch"}),
        ("on_val", {"step": "evaluate", "seed": "0", "method": "scratch", "split": "val"}),
        ("on_test", {"step": "evaluate", "seed": "0", "method": "scratch", "split": "test"}),
        ("compared", {"step": "compare"}),
    ],
)
def test_a_run_has_the_tags_by_which_it_is_found(pipeline, run_of, name, expected):
    run = run_of(name)
    tags = {
        key.removeprefix("bench."): value
        for key, value in run.data.tags.items()
        if key.startswith("bench.")
    }
    expected["dataset"] = PreparedDataset.open(pipeline.dataset).content_hash
    if "method" in expected:
        expected |= {"structure": "mitochondria", "dataset_name": "prepared"}
    assert run.info.status == "FINISHED"
    assert expected.items() <= tags.items()
    assert len(tags["fingerprint"]) == 64
    assert "reason" not in tags
    assert not {"method", "structure", "seed"} & set(tags) - set(expected)


@pytest.mark.parametrize(
    ("name", "context"),
    [("prepared", "prepared"), ("trained", "training"), ("on_val", "val"), ("on_test", "test")],
)
def test_the_dataset_is_an_input(pipeline, run_of, name, context):
    (logged,) = run_of(name).inputs.dataset_inputs
    assert logged.dataset.name == "prepared"
    digest = PreparedDataset.open(pipeline.dataset).content_hash
    assert json.loads(logged.dataset.profile)["content_hash"] == digest
    assert [tag.value for tag in logged.tags] == [context]


def test_all_settings_are_kept_as_they_were_resolved(pipeline):
    trained = read_settings(pipeline.store, pipeline.trained)
    assert trained["method"] == "scratch"
    assert trained["source"] == "random"
    assert trained["loss"] == "focal_dice"
    assert trained["foreground_weight"] == "5.0"
    assert trained["checkpoint_iterations"] == "20"
    assert trained["device"] == "cpu"
    assert trained["pixel_size_nm"] == "5.0"
    assert "auto" not in trained.values()
    on_val = read_settings(pipeline.store, pipeline.on_val)
    assert on_val["tile_px"] == "32"
    assert "annotated instances in 3 training sections" in on_val["postprocess_origin"]
    on_test = read_settings(pipeline.store, pipeline.on_test)
    assert "Set by the user: opening_radius_px, min_area_px." in on_test["postprocess_origin"]


def test_prepare_describes_the_dataset(pipeline, run_of, files_of, artifact):
    warning = (
        "vesicles_2d, the default source of trainings, was trained at 1.35 nm, so that sections"
    )
    assert (
        f"{warning} of 5 nm are enlarged 3.7 times" in run_of("prepared").data.tags["bench.warning"]
    )
    metrics = run_of("prepared").data.metrics
    dataset = PreparedDataset.open(pipeline.dataset)
    for split in ("train", "val", "test"):
        for structure in ("mitochondria", "vesicles"):
            counted = metrics[f"{split}/{structure}/instances"]
            assert counted == 2 * len(dataset.sections(split))
            fraction = metrics[f"{split}/{structure}/foreground_fraction"]
            assert fraction == pytest.approx(dataset.foreground_fraction(split, structure))
    assert files_of("prepared") == {"config.json", "contact_sheet.png", "manifest.json"}
    assert json.loads(artifact("prepared", "manifest.json").read_text()) == dataset.manifest
    with Image.open(artifact("prepared", "contact_sheet.png")) as picture:
        assert min(picture.size) > 200


def test_finetune_leaves_curves_and_checkpoints(pipeline, run_of, files_of, artifact):
    run = run_of("trained")
    history = pipeline.store.client.get_metric_history
    losses = sorted(history(pipeline.trained, "train/loss"), key=lambda m: m.step)
    assert [m.step for m in losses] == list(range(1, 41))
    assert np.mean([m.value for m in losses[-5:]]) < np.mean([m.value for m in losses[:5]])
    scores = {m.step: m.value for m in history(pipeline.trained, "val/dice")}
    assert sorted(scores) == [20, 40]
    assert run.data.metrics["best/dice"] == max(scores.values()) > 0.5
    assert float(run.data.tags["bench.train_seconds"]) > 0
    names = {
        f"checkpoint/{name}.{end}" for name in ("best", "last") for end in ("json", "safetensors")
    }
    files = files_of("trained")
    assert names <= files
    # Two sections before training and at both epochs.
    assert sum("images/val~val-s" in file and file.endswith(".png") for file in files) == 6
    info = json.loads(artifact("trained", "checkpoint/best.json").read_text())
    assert info["arguments"] == {"in_channels": 1, "out_channels": 1, "depth": 4, "features": 4}
    assert (info["structure"], info["input_pixel_size_nm"]) == ("mitochondria", 5.0)
    assert info["training"]["val_dice"] == max(scores.values())
    with safe_open(artifact("trained", "checkpoint/best.safetensors"), framework="np") as weights:
        assert len(weights.keys()) == 46


def test_evaluate_leaves_scores_predictions_and_pictures(run_of, files_of, artifact):
    names = {"val-s3", "val-s4"}
    files = files_of("on_val")
    assert {
        "scores.json",
        "sections.csv",
        "predictions.h5",
        "recipe.json",
        "precision_recall.png",
        "precision_recall.csv",
        "overlays.json",
        *(f"overlays/{name}.png" for name in names),
    } <= files
    content = json.loads(artifact("on_val", "scores.json").read_text())
    assert content["split"] == "val"
    scored = {name for name, row in METRICS.items() if not row.rare}
    assert set(content["pooled"]) == scored
    assert set(content["sections"]) == names
    run = run_of("on_val")
    logged = {key: run.data.metrics[f"val/{key}"] for key in scored}
    assert logged == pytest.approx(content["pooled"])
    assert float(run.data.tags["bench.predict.megapixels_per_s"]) > 0
    rows = list(csv.DictReader(artifact("on_val", "sections.csv").open()))
    assert {row["section"] for row in rows} == names
    for row in rows:
        assert float(row["dice"]) == pytest.approx(content["sections"][row["section"]]["dice"])
    table = json.loads(artifact("on_val", "overlays.json").read_text())
    assert table["columns"] == ["section", "dice", "overlay"]
    dices = [row[1] for row in table["data"]]
    assert dices == sorted(dices)


def test_scores_follow_from_the_stored_predictions(pipeline, artifact):
    """Recomputed by scikit-learn; without post-processing a mask is its threshold."""
    dataset = PreparedDataset.open(pipeline.dataset)
    truths, levels = {}, {}
    with h5py.File(artifact("on_test", "predictions.h5"), "r") as file:
        assert file.attrs["structure"] == "mitochondria"
        assert file.attrs["dataset"] == dataset.content_hash
        assert file.attrs["run"] == pipeline.trained
        assert set(file) == set(dataset.sections("test"))
        for name in file:
            levels[name] = file[f"{name}/identity"][:].ravel()
            truths[name] = dataset.read_labels(name, "mitochondria").ravel() > 0
    content = json.loads(artifact("on_test", "scores.json").read_text())
    pooled = np.concatenate(list(truths.values())), np.concatenate(list(levels.values()))
    measured = {None: pooled} | {name: (truths[name], levels[name]) for name in truths}
    for name, (truth, level) in measured.items():
        scores = content["pooled"] if name is None else content["sections"][name]
        assert scores["dice"] == pytest.approx(f1_score(truth, level >= 127.5))
        assert scores["iou"] == pytest.approx(jaccard_score(truth, level >= 127.5))
        assert scores["precision"] == pytest.approx(precision_score(truth, level >= 127.5))
        assert scores["recall"] == pytest.approx(recall_score(truth, level >= 127.5))
    expected = average_precision_score(*pooled)
    assert content["pooled"]["average_precision"] == pytest.approx(expected)


def test_compare_writes_the_table(pipeline, files_of, artifact):
    names = {f"benchmark.{end}" for end in ("md", "csv", "tex", "png", "html")}
    names |= {"benchmark.json", "comparisons.csv", "comparisons.md", "training_curves.png"}
    assert {path.name for path in pipeline.output.iterdir()} == names
    assert files_of("compared") == names | {"config.json"}
    (row,) = csv.DictReader((pipeline.output / "benchmark.csv").open())
    scores = json.loads(artifact("on_test", "scores.json").read_text())["pooled"]
    assert float(row["dice"]) == pytest.approx(scores["dice"])
    assert "From scratch (focal-Dice)" in (pipeline.output / "benchmark.md").read_text()


def test_the_table_knows_what_the_training_cost(pipeline, run_of, artifact):
    weights = load_file(artifact("trained", "checkpoint/best.safetensors"))
    parameters = sum(part.size for part in weights.values())
    (row,) = csv.DictReader((pipeline.output / "benchmark.csv").open())
    assert float(run_of("trained").data.tags["bench.model.parameters"]) == parameters > 1000
    assert float(row["parameters"]) == parameters
    assert row["train_seconds"] == run_of("trained").data.tags["bench.train_seconds"]
    assert float(row["predict_megapixels_per_s"]) > 0


@pytest.mark.parametrize("step", ["prepare", "finetune", "evaluate"])
def test_the_same_step_again_does_nothing(pipeline, use_store, tiny, tiny_tree, caplog, step):
    use_store(pipeline.store)
    data = str(pipeline.dataset)
    before = len(pipeline.store.client.search_runs([pipeline.store.experiment_id]))
    with caplog.at_level("INFO"):
        if step == "prepare":
            config = PrepareConfig(input=str(tiny_tree), output=data, pixel_size_nm=5.0)
            assert prepare(config) == pipeline.prepared
        elif step == "finetune":
            # Other words for the same settings.
            config = FinetuneConfig(
                dataset=data, structure="mito", method="scratch", source="random", **tiny
            )
            assert finetune(config) == pipeline.trained
        else:
            config = EvaluateConfig(dataset=data, structure="mitochondria", method="scratch")
            assert evaluate(config) == pipeline.on_val
    assert "reusing finished run" in caplog.text
    after = len(pipeline.store.client.search_runs([pipeline.store.experiment_id]))
    assert after == before


def test_compare_is_never_reused(pipeline, tmp_path):
    config = CompareConfig(output=str(tmp_path), dataset=str(pipeline.dataset))
    assert compare(config, pipeline.store) != pipeline.compared
