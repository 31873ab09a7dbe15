"""Trainings that learn from pseudo-masks besides annotated sections."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from bench.config.data import PrepareConfig
from bench.config.running import BenchmarkConfig
from bench.config.scoring import EvaluateConfig
from bench.config.training import FinetuneConfig
from bench.core.hashing import file_sha256
from bench.dataset.prepared import MANIFEST, PreparedDataset
from bench.errors import BenchError
from bench.steps.benchmark import benchmark
from bench.steps.evaluate import evaluate
from bench.steps.finetune import finetune
from bench.steps.prepare import prepare
from bench.tracking.queries import fetch_artifact
from bench.training.patches import MixedFeed

STRUCTURE = "mitochondria"


def make_pseudo(write_tree, folder, *, turned=1, pixel_size_nm=5.0):
    """A dataset as step pseudo writes it: of one structure, all in train, with unsure pixels."""
    tree = write_tree(folder / "tree", {"train": 3, "val": 1})
    for path in sorted(tree.rglob("*.png")) if turned else ():
        Image.fromarray(np.rot90(np.array(Image.open(path)), turned)).save(path)
    root = folder / "pseudo"
    prepare(
        PrepareConfig(
            input=str(tree), output=str(root), structures="mito", pixel_size_nm=pixel_size_nm
        )
    )
    manifest = json.loads((root / MANIFEST).read_text())
    manifest |= {"origin": "pseudo", "pseudo": {"structure": STRUCTURE}, "splits_rule": "pseudo"}
    counts = manifest["structures"][STRUCTURE]
    for key in ("instances", "foreground_fraction"):
        counts[key] = {"train": sum(counts[key].values())}
    for entry in manifest["sections"]:
        entry["split"] = "train"
        with h5py.File(root / entry["file"], "a") as file:
            unsure = np.zeros(entry["shape"], np.uint8)
            unsure[:20] = 1
            file[f"ignore/{STRUCTURE}"] = unsure
        entry["datasets"][f"ignore/{STRUCTURE}"] = {"dtype": "uint8"}
    (root / MANIFEST).write_text(json.dumps(manifest))
    return root


@pytest.fixture(scope="module")
def pseudo(write_tree, make_store, tmp_path_factory) -> Path:
    store = make_store(tmp_path_factory.mktemp("store") / "store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store.uri)
        patch.setenv("MLFLOW_EXPERIMENT_ID", store.experiment_id)
        return make_pseudo(write_tree, tmp_path_factory.mktemp("pseudo"))


@pytest.fixture
def config(pipeline, tiny, pseudo):
    short = tiny | {"iterations": 6, "epoch_iterations": 3, "features": 2, "batch_size": 4}
    return FinetuneConfig(
        dataset=str(pipeline.dataset), source="random", pseudo=str(pseudo), **short
    )


def tags_of(store, run_id):
    return store.client.get_run(run_id).data.tags


def test_a_training_with_pseudo_masks_is_another_and_says_what_they_brought(store, config, pseudo):
    run_id = finetune(config)
    tags, dataset = tags_of(store, run_id), PreparedDataset.open(pseudo)
    objects = dataset.instances("train", STRUCTURE)
    assert tags["bench.pseudo"] == f"{objects}-{dataset.content_hash[:8]}"
    assert "the same training without is not there" in tags["bench.warning"]
    plain = finetune(replace(config, pseudo="none"))
    assert plain != run_id
    assert "bench.pseudo" not in tags_of(store, plain)
    weighed = finetune(replace(config, pseudo_weight=0.1))
    assert weighed not in (plain, run_id)
    said = tags_of(store, weighed)["bench.warning"]
    before, since = (
        store.client.get_run(run).data.metrics["best/dice"] for run in (plain, weighed)
    )
    assert f"validation Dice {since:.3f}, {before:.3f} of the same training without" in said
    assert f"(run {plain}), {since - before:+.3f}: of one seed and 2 validation sections" in said
    # The same again is the same run, and a run of the step stands for its folder.
    assert finetune(config) == run_id
    made = {
        "bench.step": "pseudo",
        "bench.pseudo_folder": str(pseudo),
        "bench.pseudo_content": dataset.content_hash,
    }
    step = store.client.create_run(store.experiment_id, tags=made).info.run_id
    store.client.set_terminated(step)
    assert finetune(replace(config, pseudo=step)) == run_id
    store.client.set_tag(step, "bench.pseudo_content", "0" * 64)
    with pytest.raises(BenchError, match=r"pseudo-masks must be as run .* made them"):
        finetune(replace(config, pseudo=step))


def test_a_killed_training_ends_with_the_very_weights(
    store, config, make_store, use_store, tmp_path, monkeypatch
):
    straight = finetune(config)
    weights = file_sha256(fetch_artifact(store, straight, "checkpoint/last.safetensors"))
    other = use_store(make_store(tmp_path / "other"))
    draw = MixedFeed.batch

    def be_killed(feed, iteration):
        if iteration == 4:
            raise KeyboardInterrupt
        return draw(feed, iteration)

    with monkeypatch.context() as patch:
        patch.setattr(MixedFeed, "batch", be_killed)
        with pytest.raises(KeyboardInterrupt):
            finetune(config)
    resumed = finetune(config)
    assert "bench.pseudo" in tags_of(other, resumed)
    again = file_sha256(fetch_artifact(other, resumed, "checkpoint/last.safetensors"))
    assert again == weights


def test_a_benchmark_has_a_row_with_and_one_without(store, config, pseudo, tmp_path):
    shared = {
        name: getattr(config, name)
        for name in ("iterations", "epoch_iterations", "features", "batch_size", "patch_px")
    }
    benchmark(
        BenchmarkConfig(
            dataset=config.dataset,
            pseudo=str(pseudo),
            methods="scratch",
            structures="mito",
            split="val",
            optimize=False,
            output=str(tmp_path / "out"),
            tile_px=32,
            halo_px=16,
            device="cpu",
            **shared,
        )
    )
    with (tmp_path / "out" / "benchmark.csv").open() as file:
        plain, mixed = csv.DictReader(file)
    objects = PreparedDataset.open(pseudo).instances("train", STRUCTURE)
    assert plain["method"] == "scratch"
    assert mixed["label"] == f"{plain['label']}, with {objects} pseudo-masks"
    assert "of the same training without" in mixed["warnings"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pseudo": "{dataset}"}, "pseudo names masks that a model made, received"),
        ({"dataset": "{pseudo}", "pseudo": "none"}, "models are chosen and scored by annotated"),
        ({"structure": "vesicles"}, "must be of the structure that is learned, received mito"),
        ({"pseudo": "none", "pseudo_weight": 0.1}, "say how pseudo-masks are learned from"),
        ({"batch_size": 1}, "a patch of annotated sections and one of pseudo-masks at least"),
        ({"pseudo": "{same}"}, "what validates or tests is not learned from, section val-s3"),
        ({"pseudo": "{unknown}"}, r"must have a pixel size where the annotated .*\(5 nm\)"),
    ],
)
def test_what_does_not_fit_is_one_line(
    settings, message, store, config, pseudo, write_tree, tmp_path
):
    folders = {"dataset": config.dataset, "pseudo": str(pseudo)}
    if "{same}" in settings.values():
        folders["same"] = str(make_pseudo(write_tree, tmp_path, turned=0))
    if "{unknown}" in settings.values():
        folders["unknown"] = str(make_pseudo(write_tree, tmp_path, pixel_size_nm=None))
    given = {k: v.format(**folders) if isinstance(v, str) else v for k, v in settings.items()}
    with pytest.raises(BenchError, match=message) as error:
        finetune(replace(config, **given))
    assert "\n" not in str(error.value)


def test_pseudo_masks_are_no_truth_to_score_by(store, config, pseudo):
    with pytest.raises(BenchError, match="models are chosen and scored by annotated sections"):
        evaluate(EvaluateConfig(dataset=str(pseudo), structure="mito", split="train"))
    grid = BenchmarkConfig(dataset=config.dataset, external=str(pseudo), methods="scratch")
    with pytest.raises(BenchError, match="models are chosen and scored by annotated sections"):
        benchmark(grid)
