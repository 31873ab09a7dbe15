"""The search on real runs: two trainings of the tiny tree, evaluated under all symmetries."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import skimage.io

from bench.config.data import PrepareConfig
from bench.config.scoring import CompareConfig, EvaluateConfig, OptimizeConfig
from bench.config.training import FinetuneConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.inference.prediction_file import read_prediction
from bench.metrics.overlap import count_pixels, dice_score
from bench.recipe.recipe import read_recipe
from bench.recipe.sections import segment_by_recipe
from bench.steps.compare import compare
from bench.steps.evaluate import evaluate
from bench.steps.finetune import finetune
from bench.steps.optimize import optimize
from bench.steps.prepare import prepare
from bench.tracking.queries import fetch_artifact
from bench.tracking.store import Store

# What tells two stores, datasets or runs apart, and no choice.
OF_THE_STORE = ("evaluation", "trained_run")


@dataclass(frozen=True)
class Searched:
    """A store in which a search was made."""

    store: Store
    dataset: Path
    trained: tuple[str, ...]
    validations: tuple[str, ...]
    tests: tuple[str, ...]
    output: Path
    optimized: str

    def config(self, output: Path, **settings) -> OptimizeConfig:
        return OptimizeConfig(dataset=str(self.dataset), output=str(output), **settings)


def search_tree(tree: Path, folder: Path, make_store, tiny) -> Searched:
    store = make_store(folder / "store")
    dataset, output = folder / "prepared", folder / "optimize"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store.uri)
        patch.setenv("MLFLOW_EXPERIMENT_ID", store.experiment_id)
        prepare(PrepareConfig(input=str(tree), output=str(dataset), pixel_size_nm=5.0))
        methods = ("scratch", "scratch_dice")
        trained = tuple(
            finetune(FinetuneConfig(dataset=str(dataset), method=method, **tiny), store)
            for method in methods
        )
        evaluations = {
            split: tuple(
                evaluate(
                    EvaluateConfig(
                        dataset=str(dataset),
                        run_id=run_id,
                        split=split,
                        augmentations="all",
                        device="cpu",
                    ),
                    store,
                )
                for run_id in trained
            )
            for split in ("val", "test")
        }
        optimized = optimize(OptimizeConfig(dataset=str(dataset), output=str(output)), store)
    return Searched(
        store, dataset, trained, evaluations["val"], evaluations["test"], output, optimized
    )


@pytest.fixture(scope="module")
def searched(make_store, tiny_tree, tiny, tmp_path_factory) -> Searched:
    return search_tree(tiny_tree, tmp_path_factory.mktemp("searched"), make_store, tiny)


@pytest.fixture(autouse=True)
def in_the_store(searched, use_store):
    use_store(searched.store)


def test_what_the_run_keeps(searched):
    run = searched.store.client.get_run(searched.optimized)
    names = {item.path for item in searched.store.client.list_artifacts(searched.optimized)}
    files = {"recipe.json", "search.csv", "blends.csv", "ablation.csv"}
    files |= {"surface.png", "ablation.png"}
    assert {path.name for path in searched.output.iterdir()} == files
    # As of an evaluation, for the table, the page and the pictures side by side.
    of_test = {"scores.json", "sections.csv", "overlays", "overlays.json", "table_images", "crops"}
    of_test |= {"precision_recall.csv", "precision_recall.png", "config.json"}
    # Of validation sections, for the model card.
    of_test |= {"validation_scores.json"}
    assert names == files | of_test
    assert run.data.tags["bench.step"] == "optimize"
    assert run.data.tags["bench.method"] == "best_by_dice"
    assert run.data.tags["bench.chosen_by"] == "val/dice"
    assert float(run.data.tags["bench.search.combinations"]) > 100_000
    search = pd.read_csv(searched.output / "search.csv")
    assert (search["dice"].diff().dropna() <= 1e-10).all()
    assert search["dice"].iloc[0] == pytest.approx(run.data.metrics["val/dice"])


def test_validation_and_test_scores_are_those_of_the_recipe(searched):
    recipe = read_recipe(searched.output / "recipe.json")
    run = searched.store.client.get_run(searched.optimized)
    dataset = PreparedDataset.open(searched.dataset)
    evaluations = {"val": searched.validations, "test": searched.tests}
    files = {
        (split, searched.store.client.get_run(run_id).data.tags["bench.method"]): fetch_artifact(
            searched.store, run_id, "predictions.h5"
        )
        for split, run_ids in evaluations.items()
        for run_id in run_ids
    }
    for split, expected in (("val", recipe.validation), ("test", recipe.test)):
        counts = []
        for section in dataset.sections(split):
            maps = [
                [
                    read_prediction(files[split, member.method], section, name)
                    for name in recipe.augmentations
                ]
                for member in recipe.members
            ]
            blended = recipe.blend.apply(maps)
            labels = segment_by_recipe(recipe, blended, 5.0, lambda: pytest.fail("read")).labels
            truth = dataset.read_labels(section, "mitochondria")
            counts.append(count_pixels(truth=truth, prediction=labels))
        assert dice_score(sum(counts[1:], counts[0])) == pytest.approx(expected["dice"])
        assert run.data.metrics[f"{split}/dice"] == pytest.approx(expected["dice"])


def test_the_winner_is_no_worse_than_any_model_as_it_is_evaluated(searched):
    winner = searched.store.client.get_run(searched.optimized).data.metrics
    singles = []
    for run_id in searched.trained:
        config = EvaluateConfig(dataset=str(searched.dataset), run_id=run_id, device="cpu")
        singles.append(searched.store.client.get_run(evaluate(config, searched.store)).data)
    best = max(singles, key=lambda single: single.metrics["val/dice"])
    assert winner["val/dice"] >= best.metrics["val/dice"]
    table = pd.read_csv(searched.output / "ablation.csv").set_index("ingredient")
    assert table.loc["plain model", "dice"] == pytest.approx(best.metrics["val/dice"])
    assert table.loc["all together", "gain"] == pytest.approx(
        winner["val/dice"] - best.metrics["val/dice"]
    )
    config = EvaluateConfig(
        dataset=str(searched.dataset),
        run_id=best.tags["bench.trained_run"],
        split="test",
        device="cpu",
    )
    test = searched.store.client.get_run(evaluate(config, searched.store)).data.metrics
    assert winner["gain/test_dice"] == pytest.approx(winner["test/dice"] - test["test/dice"])
    assert winner["gain/test_dice_low"] <= winner["gain/test_dice_high"]


def test_the_combination_is_a_row_of_the_table(searched, tmp_path):
    compare(CompareConfig(dataset=str(searched.dataset), output=str(tmp_path)), searched.store)
    table = pd.read_csv(tmp_path / "benchmark.csv").set_index("method")
    row, run = table.loc["best_by_dice"], searched.store.client.get_run(searched.optimized)
    assert row["label"] == "Best combination by Dice"
    assert row["structure"] == "mitochondria"
    assert row["dice"] == pytest.approx(run.data.metrics["test/dice"])
    assert "chosen by Dice on validation" in row["warnings"]
    recipe = read_recipe(searched.output / "recipe.json")
    assert str(recipe.blend) in row["warnings"]
    trained = [searched.store.client.get_run(m.trained_run).data for m in recipe.members]
    assert row["parameters"] == sum(float(data.tags["bench.model.parameters"]) for data in trained)
    assert row["train_seconds"] == pytest.approx(
        sum(float(data.tags["bench.train_seconds"]) for data in trained)
    )
    speeds = [
        float(
            searched.store.client.get_run(m.evaluation).data.tags["bench.predict.megapixels_per_s"]
        )
        for m in recipe.members
    ]
    # The evaluations made eight passes each.
    seconds = sum(len(recipe.augmentations) / 8 / speed for speed in speeds)
    assert row["predict_megapixels_per_s"] == pytest.approx(1 / seconds)
    assert "Best combination by Dice" in (tmp_path / "benchmark.html").read_text()


def test_the_same_search_is_not_made_twice(searched, tmp_path):
    named = ",".join(searched.trained)
    output = tmp_path / "again"
    assert optimize(searched.config(output, runs=named), searched.store) == searched.optimized
    # The files are written all the same.
    first = {path.name: path.read_bytes() for path in searched.output.iterdir()}
    assert {path.name: path.read_bytes() for path in output.iterdir()} == first


def test_runs_methods_and_metrics_can_be_named(searched, tmp_path):
    config = searched.config(tmp_path / "a", methods="scratch_dice", metric="instance_f1")
    run = searched.store.client.get_run(optimize(config, searched.store))
    recipe = read_recipe(tmp_path / "a" / "recipe.json")
    assert {member.method for member in recipe.members} == {"scratch_dice"}
    assert recipe.metric == "instance_f1"
    assert "gain/test_instance_f1" in run.data.metrics
    config = searched.config(tmp_path / "b", runs=searched.tests[0], ensembles="none")
    optimize(config, searched.store)
    recipe = read_recipe(tmp_path / "b" / "recipe.json")
    assert [member.evaluation for member in recipe.members] == [searched.validations[0]]


def test_without_predictions_of_the_test_split_the_winner_has_no_test_score(
    searched, tmp_path, monkeypatch
):
    from bench.steps.scoring import optimize_members

    monkeypatch.setattr(optimize_members, "find_test", lambda *_: None)
    run_id = optimize(searched.config(tmp_path, finalists=2), searched.store)
    run = searched.store.client.get_run(run_id)
    assert not [name for name in run.data.metrics if name.startswith(("test/", "gain/"))]
    assert "evaluate with split=test augmentations=all" in run.data.tags["bench.warning"]
    assert read_recipe(tmp_path / "recipe.json").test == {}


def test_choices_stay_the_same_with_noise_for_test_labels(
    searched, tiny_tree, make_store, tiny, tmp_path
):
    tree = tmp_path / "tree"
    shutil.copytree(tiny_tree, tree)
    rng = np.random.default_rng(0)
    masks = [p for p in (tree / "test").rglob("*") if p.is_file() and p.parent.name != "raw"]
    assert masks
    for path in masks:
        mask = skimage.io.imread(path)
        noise = (rng.random(mask.shape) < 0.3) * 255
        skimage.io.imsave(path, noise.astype(np.uint8), check_contrast=False)
    noisy = search_tree(tree, tmp_path / "noisy", make_store, tiny)
    choices = []
    for each in (searched, noisy):
        content = json.loads((each.output / "recipe.json").read_text())
        assert (
            content.pop("test")["dice"]
            == each.store.client.get_run(each.optimized).data.metrics["test/dice"]
        )
        del content["dataset"]
        for member in content["members"]:
            for name in OF_THE_STORE:
                del member[name]
        choices.append(content)
    assert choices[0] == choices[1]
    for name in ("search.csv", "blends.csv", "ablation.csv"):
        assert (searched.output / name).read_text() == (noisy.output / name).read_text()
    first, second = (each.store.client.get_run(each.optimized).data for each in (searched, noisy))
    assert first.metrics["test/dice"] != second.metrics["test/dice"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metric": "average_precision"}, "needs a metric of a segmentation"),
        ({"metric": "dicee"}, "received 'dicee': choose one of dice, iou"),
        ({"ensembles": "median"}, "unknown ensemble"),
        ({"opening_radii_px": "0,x"}, "opening_radii_px must be whole numbers"),
        ({"opening_radii_px": "9"}, "opening_radii_px must be 0 to 6, received 9"),
        ({"min_areas_px": ","}, "min_areas_px must be whole numbers"),
        ({"methods": "finetuned"}, "there are none of mitochondria .* by finetuned"),
        ({"structure": "vesicles"}, "there are none of vesicles"),
        ({"runs": "nonsense"}, "no run has the id 'nonsense'"),
        ({"structure": "membrane"}, "unknown structure 'membrane': choose one of mitochondria"),
    ],
)
def test_bad_settings_are_said_in_one_line(searched, tmp_path, settings, message):
    with pytest.raises(BenchError, match=message) as error:
        optimize(searched.config(tmp_path / "out", **settings), searched.store)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_refused_before_the_search(searched, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BenchError, match="output must be a folder that can be written"):
        optimize(searched.config(tmp_path / "file", finalists=1), searched.store)


def test_runs_of_another_structure_are_refused(searched, tmp_path, tiny):
    run_id = finetune(
        FinetuneConfig(
            dataset=str(searched.dataset), structure="vesicles", source="random", **tiny
        ),
        searched.store,
    )
    with pytest.raises(BenchError, match=f"model of run {run_id} has none of mitochondria"):
        optimize(searched.config(tmp_path, runs=run_id), searched.store)
    evaluated = evaluate(
        EvaluateConfig(dataset=str(searched.dataset), run_id=run_id, device="cpu"), searched.store
    )
    with pytest.raises(BenchError, match=r"one structure, received run \w+ of vesicles"):
        optimize(searched.config(tmp_path, runs=evaluated), searched.store)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file, name: file.pop(name), "must have predicted section .*, its file has none"),
        (
            lambda file, name: file.move(name, "elsewhere"),
            "must have predicted section .*, its file has none",
        ),
        (lambda file, name: crop(file[name]), r"of shape \(.*its file has \(8, 8\)"),
        (lambda file, name: file.attrs.pop("format"), "must be a prediction file of this suite"),
    ],
)
def test_predictions_that_do_not_fit_the_dataset(searched, tmp_path, monkeypatch, damage, message):
    from bench.steps.scoring import optimize_members

    def fetch(store, run_id, path):
        copy = tmp_path / f"{run_id}.h5"
        shutil.copy(fetch_artifact(store, run_id, path), copy)
        with h5py.File(copy, "r+") as file:
            damage(file, next(iter(file)))
        return copy

    monkeypatch.setattr(optimize_members, "fetch_artifact", fetch)
    with pytest.raises(BenchError, match=message):
        optimize(searched.config(tmp_path / "out", finalists=3), searched.store)
    assert not (tmp_path / "out").exists()


def crop(group):
    for name in list(group):
        pixels = group[name][:8, :8]
        del group[name]
        group[name] = pixels


def test_evaluations_of_an_early_version_are_left_out(searched, tmp_path):
    tags = searched.store.client.get_run(searched.validations[0]).data.tags
    names = ("bench.step", "bench.method", "bench.structure", "bench.dataset", "bench.split")
    early = searched.store.client.create_run(
        searched.store.experiment_id, tags={name: tags[name] for name in names}
    )
    searched.store.client.log_param(early.info.run_id, "cfg.threshold", "0.5")
    searched.store.client.set_terminated(early.info.run_id)
    assert optimize(searched.config(tmp_path), searched.store) == searched.optimized
    with pytest.raises(BenchError, match=r"no recipe.json and no parameters segmentation, resca"):
        optimize(searched.config(tmp_path, runs=early.info.run_id), searched.store)
    searched.store.client.delete_run(early.info.run_id)
