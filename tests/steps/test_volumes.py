"""Volumes through the steps: section methods on them are scored in 3D, or plane by plane."""

import json
from dataclasses import replace

import mrcfile
import numpy as np
import pytest
from scipy import ndimage

from bench.config.data import PrepareConfig
from bench.config.scoring import CompareConfig, EvaluateConfig, OptimizeConfig
from bench.config.training import FinetuneConfig
from bench.dataset.prepared import PreparedDataset
from bench.dataset.volumes import find_volumes, read_volume_labels
from bench.inference.prediction_file import read_prediction
from bench.recipe.recipe import read_recipe
from bench.steps.compare import compare
from bench.steps.evaluate import evaluate
from bench.steps.finetune import finetune
from bench.steps.optimize import optimize
from bench.steps.prepare import prepare
from bench.tracking.queries import fetch_artifact, get_run

SHAPE = (16, 64, 64)


def write_mrc(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path) as file:
        file.set_data(pixels)
        file.voxel_size = 22.0
        file.set_volume()


def make_volume(rng):
    """Bright balls on noise, and the mask of them."""
    z, y, x = np.ogrid[tuple(slice(n) for n in SHAPE)]
    mask = np.zeros(SHAPE, bool)
    for centre in ((8, 14, 14), (6, 14, 46), (9, 46, 14), (8, 44, 46)):
        at = np.array(centre) + rng.uniform(-2, 2, 3)
        mask |= (z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2 <= 6.5**2
    raw = 100 * ndimage.gaussian_filter(mask.astype(float), 0.7) + rng.normal(0, 12, SHAPE)
    return raw.astype(np.int16), mask


@pytest.fixture(scope="module")
def volumes(make_store, tiny, tmp_path_factory):
    """A dataset of volumes, and a section method trained and evaluated on it."""
    folder = tmp_path_factory.mktemp("volumes")
    store, rng = make_store(folder / "store"), np.random.default_rng(0)
    for split in ("train", "val", "test"):
        raw, mask = make_volume(rng)
        write_mrc(folder / "in" / split / "raw" / "tomo1.mrc", raw)
        write_mrc(folder / "in" / split / "vesicles" / "tomo1.mrc", mask.astype(np.int8))
    dataset = str(folder / "prepared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store.uri)
        patch.setenv("MLFLOW_EXPERIMENT_ID", store.experiment_id)
        prepare(PrepareConfig(input=str(folder / "in"), output=dataset))
    config = FinetuneConfig(dataset=dataset, structure="vesicles", method="scratch", **tiny)
    trained = finetune(config, store)
    wanted = EvaluateConfig(dataset=dataset, run_id=trained, device="cpu")
    runs = {split: evaluate(replace(wanted, split=split), store) for split in ("val", "test")}
    return store, PreparedDataset.open(dataset), wanted, runs


def metrics_of(store, run_id):
    return get_run(store, run_id).data.metrics


def test_a_section_method_is_scored_in_three_dimensions(volumes):
    store, dataset, _, runs = volumes
    scores = metrics_of(store, runs["test"])
    recipe = read_recipe(fetch_artifact(store, runs["test"], "recipe.json"))
    assert recipe.volume.section_nm == pytest.approx(2.2)
    assert recipe.volume.spheres is None
    # The same by hand: components of the stacked planes, without the small ones.
    (volume,) = find_volumes(dataset, "test")
    truth = read_volume_labels(dataset, volume, "vesicles")
    file = fetch_artifact(store, runs["test"], "predictions.h5")
    levels = np.stack([read_prediction(file, name).foreground for name in volume.sections])
    parts, _ = ndimage.label(levels >= recipe.level)
    if recipe.opening_radius_px == 0:
        kept = np.bincount(parts.ravel()) >= recipe.min_area_px
        kept[0] = False
        mask = kept[parts]
        dice = 2 * (mask & (truth > 0)).sum() / (mask.sum() + (truth > 0).sum())
        assert scores["test/dice"] == pytest.approx(dice)
    assert scores["test/dice"] > 0.7
    assert scores["test/vesicle_recall"] == 1.0
    assert scores["test/centre_error_nm"] < 2.2
    assert "test/mask_dice" not in scores, "there are no spheres, and so nothing before them"
    content = json.loads(fetch_artifact(store, runs["test"], "scores.json").read_text())
    assert list(content["sections"]) == ["test-tomo1"]


def test_planes_are_scored_one_by_one_where_asked(volumes):
    store, dataset, wanted, _ = volumes
    run_id = evaluate(replace(wanted, split="test", scored="sections"), store)
    content = json.loads(fetch_artifact(store, run_id, "scores.json").read_text())
    assert list(content["sections"]) == list(dataset.sections("test"))
    assert "vesicle_recall" not in content["pooled"]
    assert read_recipe(fetch_artifact(store, run_id, "recipe.json")).volume is None


def test_spheres_are_measured_and_listed_where_asked(volumes):
    store, _, wanted, _ = volumes
    run_id = evaluate(replace(wanted, split="test", spheres="data"), store)
    scores = metrics_of(store, run_id)
    assert scores["test/mask_dice"] > 0.7
    assert scores["test/dice_after/final"] == pytest.approx(scores["test/dice"])
    assert read_recipe(fetch_artifact(store, run_id, "recipe.json")).volume.spheres is not None
    lines = fetch_artifact(store, run_id, "spheres.csv").read_text().splitlines()
    assert lines[0].startswith("volume,id,z,y,x,radius,radius_nm")
    assert all(line.startswith("test-tomo1,") for line in lines[1:])


def test_planes_that_are_scored_alone_have_circles(volumes):
    store, _, wanted, _ = volumes
    run_id = evaluate(replace(wanted, spheres="data", scored="sections"), store)
    recipe = read_recipe(fetch_artifact(store, run_id, "recipe.json"))
    assert recipe.volume is None
    assert recipe.circles is not None
    scores = metrics_of(store, run_id)
    assert scores["val/dice_after/final"] == pytest.approx(scores["val/dice"])
    lines = fetch_artifact(store, run_id, "circles.csv").read_text().splitlines()
    assert lines[0].startswith("volume,id,z,y,x,radius,radius_nm")


def test_the_search_and_the_table_are_of_volumes(volumes, tmp_path, capsys):
    """And say so."""
    store, dataset, wanted, runs = volumes
    output = str(tmp_path / "search")
    config = OptimizeConfig(dataset=wanted.dataset, structure="vesicles", output=output)
    found = optimize(config, store)
    assert "alone (1 volume)" in " ".join(capsys.readouterr().out.split())
    recipe = read_recipe(fetch_artifact(store, found, "recipe.json"))
    assert recipe.volume.section_nm == pytest.approx(2.2)
    assert recipe.test["dice"] >= metrics_of(store, runs["test"])["test/dice"] - 0.05
    assert metrics_of(store, found)["test/dice"] == pytest.approx(recipe.test["dice"])
    compare(CompareConfig(output=str(tmp_path), dataset=dataset.content_hash), store)
    header, *rows = (tmp_path / "benchmark.csv").read_text().splitlines()
    assert "vesicle_f1" in header
    assert len(rows) == 2
    text = (tmp_path / "benchmark.md").read_text()
    assert "pooled pixels and instances of all volumes of the split" in text
    assert "section" not in text
