"""Vesicles of sections as circles: chosen by a search, then registered, applied and exported."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from bench.config.data import ExportConfig, PrepareConfig
from bench.config.running import SegmentConfig
from bench.config.scoring import EvaluateConfig, OptimizeConfig, PromoteConfig
from bench.config.training import FinetuneConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.export.sphere_table import read_spheres
from bench.inference.prediction_file import read_prediction
from bench.metrics.instances import instance_f1, match_instances
from bench.recipe.recipe import Recipe, read_recipe
from bench.recipe.sections import segment_by_recipe
from bench.steps.evaluate import evaluate
from bench.steps.export import export
from bench.steps.finetune import finetune
from bench.steps.optimize import optimize
from bench.steps.prepare import prepare
from bench.steps.promote import promote
from bench.steps.segment import segment
from bench.tracking.queries import fetch_artifact, get_run
from bench.tracking.store import Store

SIDE, NM = 64, 5.0
CHAMPION = "models:/synapse-bench-vesicles-prepared@champion"


def write_section(folder: Path, split: str, number: int) -> None:
    """Bright discs on noise, two by two so close that they touch, and an id for each."""
    rng = np.random.default_rng(number)
    y, x = np.ogrid[:SIDE, :SIDE]
    ids = np.zeros((SIDE, SIDE), np.uint16)
    for pair, (cy, cx) in enumerate([(16, 17), (16, 47), (47, 17), (47, 47)]):
        angle = rng.uniform(0, np.pi)
        for side in (-1, 1):
            down, right = cy + side * 6 * np.sin(angle), cx + side * 6 * np.cos(angle)
            disc = (y - down) ** 2 + (x - right) ** 2 <= 6.2**2
            ids[disc & (ids == 0)] = 2 * pair + (3 + side) // 2
    raw = 100 + 90 * (ids > 0) + rng.normal(0, 6, ids.shape)
    for kind, pixels in (("raw", raw.clip(0, 255).astype(np.uint8)), ("vesicles", ids)):
        path = folder / split / kind / f"s{number}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, pixels)


@dataclass(frozen=True)
class Found:
    """A search that tried circles, and what it searched over."""

    store: Store
    tree: Path
    dataset: Path
    trained: str
    on_val: str
    on_test: str
    output: Path
    run_id: str
    recipe: Recipe

    def instances(self, name: str) -> np.ndarray:
        """The ids that the recipe makes of a stored prediction."""
        dataset = PreparedDataset.open(self.dataset)
        run_id = self.on_val if name.startswith("val") else self.on_test
        maps = read_prediction(fetch_artifact(self.store, run_id, "predictions.h5"), name)
        return segment_by_recipe(self.recipe, maps, NM, lambda: dataset.read_raw(name)).labels


@pytest.fixture(scope="module")
def found(make_store, tiny, tmp_path_factory) -> Found:
    folder = tmp_path_factory.mktemp("circles")
    store, dataset, output = make_store(folder / "store"), folder / "prepared", folder / "search"
    for number, split in enumerate(("train", "train", "val", "test")):
        write_section(folder / "in", split, number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store.uri)
        patch.setenv("MLFLOW_EXPERIMENT_ID", store.experiment_id)
        prepare(PrepareConfig(input=str(folder / "in"), output=str(dataset), pixel_size_nm=NM))
        given = tiny | {"structure": "vesicles", "method": "scratch_dice", "iterations": 60}
        trained = finetune(FinetuneConfig(dataset=str(dataset), **given))
        on_val, on_test = (
            evaluate(EvaluateConfig(dataset=str(dataset), run_id=trained, split=s, device="cpu"))
            for s in ("val", "test")
        )
        search = OptimizeConfig(
            dataset=str(dataset),
            structure="vesicles",
            metric="instance_f1",
            circles=True,
            output=str(output),
        )
        run_id = optimize(search)
    recipe = read_recipe(output / "recipe.json")
    return Found(
        store, folder / "in", dataset, trained, on_val, on_test, output, run_id, recipe
    )  # fmt: skip


@pytest.fixture
def use_found(found, use_store) -> Found:
    use_store(found.store)
    return found


def test_a_search_may_choose_circles(use_found):
    """What touches is one component, and two circles; all scores are those of the recipe."""
    recipe = use_found.recipe
    assert recipe.circles is not None
    assert recipe.volume is None
    dataset = PreparedDataset.open(use_found.dataset)
    for split, expected in (("val", recipe.validation), ("test", recipe.test)):
        (name,) = dataset.sections(split)
        truth = dataset.read_labels(name, "vesicles")
        labels = use_found.instances(name)
        score = instance_f1(match_instances(truth=truth, prediction=labels))
        assert score == pytest.approx(expected["instance_f1"])
        assert len(np.unique(labels)) > 6
    table = pd.read_csv(use_found.output / "search.csv")
    assert table["spheres"][0].startswith("data (separate")
    # So short a training is as good without, at another threshold, on some machines.
    assert table.loc[table["spheres"].isna(), "instance_f1"].max() <= table["instance_f1"][0]
    ablation = pd.read_csv(use_found.output / "ablation.csv", index_col="ingredient")
    assert ablation.loc["circles", "gain"] > 0
    assert "circles (separate" in recipe.describe()


def test_a_search_without_circles_is_another_run(use_found, tmp_path):
    """Which knows nothing of them: finished searches stay what they are."""
    output = str(tmp_path / "plain")
    given = OptimizeConfig(
        dataset=str(use_found.dataset), structure="vesicles", metric="instance_f1", output=output
    )
    plain = optimize(given)
    assert plain != use_found.run_id
    assert "circles" not in json.loads((tmp_path / "plain/recipe.json").read_text())
    assert "spheres" not in pd.read_csv(tmp_path / "plain/search.csv").columns


def test_the_champion_segments_and_exports_circles(use_found, tmp_path):
    promote(PromoteConfig(structure="vesicles", run_id=use_found.run_id))
    out = tmp_path / "out"
    given = SegmentConfig(
        run_id=CHAMPION,
        input=str(use_found.tree / "test/raw"),
        pixel_size_nm=NM,
        device="cpu",
        output=str(out),
    )
    run_id = segment(given)
    expected = use_found.instances("test-s3")
    labels = tifffile.imread(out / "vesicles/s3.tif")
    np.testing.assert_array_equal(labels, expected)
    rows = read_spheres(out / "circles.csv")
    kept = [row for row in rows if row.kept]
    assert {row.id for row in kept} == set(range(1, labels.max() + 1))
    for row in kept:
        assert row.volume == "s3"
        assert row.radius_nm == pytest.approx(row.radius * NM)
        assert labels[round(row.y), round(row.x)] == row.id
    assert fetch_artifact(use_found.store, run_id, "circles.csv").is_file()
    said = json.loads((out / "segmentation.json").read_text())
    assert said["circles"]["min_radius_nm"] == use_found.recipe.circles.min_radius_nm
    exported = tmp_path / "exported"
    export(
        ExportConfig(
            dataset=str(use_found.dataset),
            run_id=CHAMPION,
            format="tiff",
            split="test",
            output=str(exported),
        )
    )
    found = tifffile.imread(next(exported.rglob("vesicles/*.tif")))
    pairs = np.unique(np.stack([found.ravel(), expected.ravel()]), axis=1)
    assert pairs.shape[1] == len(np.unique(found)) == len(np.unique(expected))


def test_what_circles_need_is_said_in_a_line(use_found, tmp_path):
    given = SegmentConfig(
        run_id=use_found.run_id,
        input=str(use_found.tree / "test/raw"),
        device="cpu",
        output=str(tmp_path / "out"),
    )
    for settings, message in (
        ({}, "circles have sizes in nm, the pixel size of s3 is not known: give pixel_size_nm"),
        (
            {"pixel_size_nm": NM, "min_area_px": 4},
            "received min_area_px where vesicles be",
        ),
    ):
        with pytest.raises(BenchError, match=message):
            segment(replace(given, **settings))
        assert not (tmp_path / "out").exists()
    segment(replace(given, separation="components"))
    assert not (tmp_path / "out/circles.csv").exists()
    config = EvaluateConfig(dataset=str(use_found.dataset), run_id=use_found.trained, device="cpu")
    with pytest.raises(BenchError, match="spheres=paper is what was published for volumes"):
        evaluate(replace(config, spheres="paper"))


def test_an_evaluation_may_make_circles_itself(use_found):
    given = {"dataset": str(use_found.dataset), "run_id": use_found.trained, "device": "cpu"}
    run_id = evaluate(EvaluateConfig(**given, spheres="data"))
    assert run_id != use_found.on_val
    recipe = read_recipe(fetch_artifact(use_found.store, run_id, "recipe.json"))
    assert recipe.circles is not None
    metrics = get_run(use_found.store, run_id).data.metrics
    assert metrics["val/dice_after/final"] == pytest.approx(metrics["val/dice"])
    plain = get_run(use_found.store, use_found.on_val).data.metrics
    assert metrics["val/instance_f1"] > plain["val/instance_f1"]
    assert read_spheres(fetch_artifact(use_found.store, run_id, "circles.csv"))
    # A search takes the evaluation of components, beside which circles are tried.
    again = OptimizeConfig(
        dataset=str(use_found.dataset),
        structure="vesicles",
        metric="instance_f1",
        circles=True,
        output=str(use_found.output),
    )
    assert optimize(again) == use_found.run_id
