"""Models scored on other data than they were trained on, by evaluate, benchmark and compare."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.config.data import PrepareConfig
from bench.config.running import BenchmarkConfig
from bench.config.scoring import EvaluateConfig, OptimizeConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.steps.benchmark import benchmark
from bench.steps.evaluate import evaluate
from bench.steps.optimize import optimize
from bench.steps.prepare import prepare
from bench.tracking.queries import fetch_artifact, read_settings
from bench.tracking.store import Store


@dataclass(frozen=True)
class Ran:
    """A benchmark of one method on its own data and on other.

    Attributes:
        store: Where its runs are.
        config: Its settings.
        prepare: Prepares more data.
    """

    store: Store
    config: BenchmarkConfig
    prepare: Callable[..., Path]

    def runs(self, step):
        """The finished runs of a step, newest first."""
        wanted = f"tags.`bench.step` = '{step}' AND attributes.status = 'FINISHED'"
        return self.store.client.search_runs([self.store.experiment_id], wanted)

    def external(self):
        """The evaluation on other data."""
        other = PreparedDataset.open(self.config.external).content_hash
        runs = [r for r in self.runs("evaluate") if r.data.tags["bench.dataset"] == other]
        (run,) = runs
        return run

    @property
    def trained(self):
        """Id of the one training."""
        (run,) = self.runs("finetune")
        return run.info.run_id


def prepare_turned(write_tree, folder, *, turned=1, without="", **settings):
    """Prepares sections like the tiny ones, turned, so that none of them is the same."""
    tree = write_tree(folder / "tree", {"train": 1, "val": 2, "test": 4})
    # Those that are not turned stay the very files.
    for path in sorted(tree.rglob("*.png")) if turned else ():
        turned_image = np.rot90(np.array(Image.open(path)), turned)
        Image.fromarray(turned_image).save(path)
    for path in tree.glob(f"*/{without}") if without else ():
        shutil.rmtree(path)
    prepare(PrepareConfig(input=str(tree), output=str(folder / "other"), **settings))
    return folder / "other"


@pytest.fixture(scope="module")
def ran(pipeline, tiny, write_tree, make_store, tmp_path_factory):
    store = make_store(tmp_path_factory.mktemp("external") / "store")

    def make(**settings):
        return prepare_turned(write_tree, tmp_path_factory.mktemp("data"), **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store.uri)
        patch.setenv("MLFLOW_EXPERIMENT_ID", store.experiment_id)
        config = BenchmarkConfig(
            dataset=str(pipeline.dataset),
            external=str(make(pixel_size_nm=10.0)),
            methods="scratch",
            structures="mito",
            output=str(tmp_path_factory.mktemp("out")),
            **tiny | {"iterations": 4, "epoch_iterations": 2, "features": 2},
        )
        benchmark(config)
    return Ran(store, config, make)


@pytest.fixture
def in_store(ran, use_store):
    return use_store(ran.store)


def test_a_model_is_applied_to_other_data_by_the_recipe_of_its_own(ran, in_store):
    run, other = ran.external(), PreparedDataset.open(ran.config.external)
    tags, own_digest = run.data.tags, PreparedDataset.open(ran.config.dataset).content_hash
    assert tags["bench.trained_on"] == f"prepared@{own_digest}"
    assert tags["bench.scored_on"] == f"other@{other.content_hash}"
    assert (tags["bench.dataset"], tags["bench.split"]) == (other.content_hash, "test")
    assert "resampled from 10 nm a pixel to the model's 5 nm, and back" in tags["bench.warning"]
    said = read_settings(in_store, run.info.run_id)
    own = read_settings(in_store, said["recipe_of"])
    # Sizes are those of the pixels of its own data, and not what other data's annotation says.
    for name in ("opening_radius_px", "min_area_px", "dataset_pixel_size_nm"):
        assert said[name] == own[name]
    assert said["resampling"].startswith("resampled from 10 nm")
    recipe = json.loads(fetch_artifact(in_store, run.info.run_id, "recipe.json").read_text())
    # None of these scores is one that the recipe was chosen by.
    assert (recipe["validation"], recipe["test"], recipe["pixel_size_nm"]) == ({}, {}, 5.0)


def test_every_format_of_the_table_has_a_block_of_other_data(ran):
    out = Path(ran.config.output)
    digest = PreparedDataset.open(ran.config.external).content_hash[:8]
    with (out / "external.csv").open() as file:
        (line,) = csv.DictReader(file)
    assert (line["scored_on"], line["method"]) == (f"other@{digest}", "scratch")
    assert line["trained_on"].startswith("prepared@")
    content = json.loads((out / "benchmark.json").read_text())
    (row,), (own, *_) = content["external"], content["rows"]
    assert own["method"] == "scratch"
    (own_run,), (run,) = own["runs"], row["run_ids"]
    assert run == ran.external().info.run_id
    assert row["own_scores"] == own["scores"]
    scores = json.loads(fetch_artifact(ran.store, run, "scores.json").read_text())["sections"]
    there = np.mean([each["dice"] for each in scores.values()])
    here = np.mean([each["dice"] for each in own_run["sections"].values()])
    assert row["change"]["difference"] == pytest.approx(there - here)
    assert (row["change"]["sections"], row["change"]["other_sections"]) == (3, 4)
    low, high = row["change"]["interval"]
    assert low <= there - here <= high
    assert float(line["change"]) == row["change"]["difference"]
    titles = {
        "benchmark.md": "## Scored on other data",
        "benchmark.tex": f"Scored on other data: other@{digest}",
        "benchmark.html": '<section id="other-data">',
    }
    for name, title in titles.items():
        assert title in (out / name).read_text()
    # Its own rows, the verdict and the best combination are those of its own data.
    assert {each["dataset"].partition("@")[0] for each in content["rows"]} == {"prepared"}
    assert all(each["dataset"].startswith("prepared") for each in content["comparisons"])


def test_the_same_benchmark_again_scores_nothing_anew(ran, in_store, caplog):
    before = len(ran.runs("evaluate"))
    with caplog.at_level("INFO"):
        benchmark(ran.config)
    # The training of either cell, val, test, the other data, the search.
    assert caplog.text.count("reusing finished run") == 6
    assert len(ran.runs("evaluate")) == before


def test_an_evaluation_that_was_killed_is_done_again(ran, in_store, monkeypatch):
    other = ran.prepare(turned=2, pixel_size_nm=10.0)
    grid = replace(ran.config, external=str(other), optimize=False)

    def be_killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bench.steps.evaluate.log_recipe", be_killed)
        with pytest.raises(KeyboardInterrupt):
            benchmark(grid)
    killed = in_store.client.search_runs(
        [in_store.experiment_id], "attributes.status = 'KILLED' AND tags.`bench.step` = 'evaluate'"
    )
    assert [run.data.tags["bench.scored_on"].partition("@")[0] for run in killed] == ["other"]
    benchmark(grid)
    again = in_store.client.get_run(killed[0].info.run_id)
    assert again.info.status == "FINISHED"


def test_a_search_never_sees_other_data(ran, in_store):
    run = ran.external()
    with pytest.raises(BenchError, match="a search is over models of its own data, run"):
        optimize(
            OptimizeConfig(dataset=ran.config.external, structure="mito", runs=run.info.run_id)
        )
    with pytest.raises(BenchError, match="needs predictions of the validation split, there are"):
        optimize(OptimizeConfig(dataset=ran.config.external, structure="mito"))


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        ({"without": "mitochondria", "pixel_size_nm": 9.0}, {}, "unknown structure of this data"),
        ({}, {}, r"must have a pixel size where the model's own has one \(5 nm\), received"),
        (
            {"turned": 0, "pixel_size_nm": 9.0},
            {},
            "must be unseen, section test-s3 of .* is val-s3 of",
        ),
        (None, {"external": "nowhere"}, "nowhere must be a prepared dataset, received no such"),
        (None, {"external": "{dataset}"}, "external must be other data than the dataset, each"),
    ],
)
def test_what_does_not_fit_is_one_line_before_anything_runs(data, settings, message, ran, in_store):
    external = str(ran.prepare(**data)) if data is not None else settings["external"]
    external = external.format(dataset=ran.config.dataset)
    runs = len(in_store.client.search_runs([in_store.experiment_id]))
    with pytest.raises(BenchError, match=message) as error:
        benchmark(replace(ran.config, external=external))
    assert "\n" not in str(error.value)
    assert len(in_store.client.search_runs([in_store.experiment_id])) == runs
    if data is not None:
        with pytest.raises(BenchError, match=message):
            evaluate(EvaluateConfig(dataset=external, run_id=ran.trained, split="test"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 0.7}, r"there with threshold=0.5 .*, received threshold=0.7: leave it out"),
        ({"min_area_px": 999}, r"there with min_area_px=\d+ .*, received min_area_px=999"),
        ({"augmentations": "all"}, "no evaluation there with protocol=data, augmentations=all"),
    ],
)
def test_other_data_decides_nothing(settings, message, ran, in_store):
    config = EvaluateConfig(
        dataset=ran.config.external, run_id=ran.trained, split="test", **settings
    )
    with pytest.raises(BenchError, match=message):
        evaluate(config)
