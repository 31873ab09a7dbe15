"""Rows that a laboratory adds to METRICS, from evaluate to compare."""

import csv
import json
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bench.config.scoring import CompareConfig, EvaluateConfig, OptimizeConfig
from bench.errors import BenchError
from bench.metrics.table import METRICS
from bench.steps.compare import compare
from bench.steps.evaluate import evaluate
from bench.steps.optimize import optimize
from bench.tracking.queries import fetch_artifact
from bench.tracking.store import Store

SEARCH_TABLES = ("search", "blends", "ablation")


@dataclass(frozen=True)
class Scored:
    """A trained model evaluated as it is, and a search over it, in a store of their own."""

    store: Store
    folder: Path
    on_val: str
    on_test: str
    searched: str

    def search(self, dataset: Path, metric: str) -> str:
        config = OptimizeConfig(
            dataset=str(dataset),
            output=str(self.folder / metric),
            metric=metric,
            opening_radii_px="0,1",
        )
        return optimize(config, self.store)


@pytest.fixture(scope="module")
def evaluate_both(pipeline):
    """Evaluates the checkpoint of the pipeline on both splits, in a store."""
    weights = fetch_artifact(pipeline.store, pipeline.trained, "checkpoint") / "best.safetensors"
    given = {"dataset": str(pipeline.dataset), "structure": "mito", "device": "cpu"}
    given |= {"method": "unadapted", "source": str(weights), "min_area_px": 20}

    def run(store):
        return [evaluate(EvaluateConfig(split=split, **given), store) for split in ("val", "test")]

    return run


@pytest.fixture(scope="module")
def scored(pipeline, evaluate_both, make_store, with_rows, tmp_path_factory):
    """The same before two rows are registered, and with them."""

    def run(folder):
        store = make_store(folder / "store")
        found = Scored(store, folder, *evaluate_both(store), "")
        return replace(found, searched=found.search(pipeline.dataset, "dice"))

    before = run(tmp_path_factory.mktemp("before"))
    with with_rows():
        after = run(tmp_path_factory.mktemp("after"))
    return before, after


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open()))


def scores_of(store, run_id):
    """The metrics of a run that do not depend on the clock."""
    metrics = store.client.get_run(run_id).data.metrics
    return {name: value for name, value in metrics.items() if name[:3] in ("val", "tes", "gai")}


def test_a_row_goes_from_evaluate_to_every_table(two_rows, scored, use_store, tmp_path):
    _, after = scored
    store, search = use_store(after.store), after.folder / "dice"
    nm, missed = two_rows
    for run_id, split in ((after.on_val, "val"), (after.on_test, "test")):
        found = scores_of(store, run_id)
        assert 0 < found[f"{split}/{nm}"] < 64 * 5
        assert found[f"{split}/{missed}"] == pytest.approx(1 - found[f"{split}/recall"])
        content = json.loads(fetch_artifact(store, run_id, "scores.json").read_text())
        assert content["pooled"][nm] == found[f"{split}/{nm}"]
        assert nm in next(iter(content["sections"].values()))
        assert nm in read_csv(fetch_artifact(store, run_id, "sections.csv"))[0]
    # The winner of a search by Dice has all scores of the test split, those of a search on val.
    winner = scores_of(store, after.searched)
    assert f"test/{nm}" in winner
    assert f"val/{nm}" not in winner
    assert winner[f"val/{missed}"] == pytest.approx(1 - winner["val/recall"])
    assert missed in read_csv(search / "search.csv")[0]
    assert nm not in read_csv(search / "search.csv")[0]
    recipe = json.loads((search / "recipe.json").read_text())
    assert recipe["test"][nm] == winner[f"test/{nm}"]
    out = tmp_path / "tables"
    compare(CompareConfig(output=str(out), metric=nm), store)
    rows = {row["method"]: row for row in read_csv(out / "benchmark.csv")}
    assert float(rows["unadapted"][nm]) == scores_of(store, after.on_test)[f"test/{nm}"]
    assert float(rows["best_by_dice"][nm]) == winner[f"test/{nm}"]
    heading = "Boundary distance (nm)"
    for name in ("benchmark.md", "benchmark.tex", "benchmark.html", "comparisons.md"):
        assert heading in (out / name).read_text(), name
    (pair,) = read_csv(out / "comparisons.csv")
    assert float(pair["difference"]) <= 0, "the first is the nearer"
    whole = json.loads((out / "benchmark.json").read_text())
    assert whole["metric"] == nm
    assert {nm, missed} <= whole["rows"][0]["scores"].keys()


def test_a_row_changes_no_number_that_was_there(scored, use_store, with_rows, tmp_path):
    kept = []
    for each, rows in zip(scored, (nullcontext, with_rows), strict=True):
        out = tmp_path / each.folder.name
        with rows():
            compare(CompareConfig(output=str(out)), use_store(each.store))
        recipe = json.loads((each.folder / "dice" / "recipe.json").read_text())
        for member in recipe["members"]:
            del member["evaluation"]
        run_ids = (each.on_val, each.on_test, each.searched)
        texts = [fetch_artifact(each.store, run_id, "scores.json") for run_id in run_ids]
        kept.append(
            [
                [scores_of(each.store, run_id) for run_id in run_ids],
                [json.loads(text.read_text()) for text in texts],
                [read_csv(each.folder / "dice" / f"{f}.csv") for f in SEARCH_TABLES],
                recipe,
                read_csv(out / "comparisons.csv"),
            ]
        )
    before, after = kept
    assert_holds(after, before)


def assert_holds(after, before):
    """Asserts that all of ``before`` is in ``after``, in its order."""
    if isinstance(before, dict):
        assert [name for name in after if name in before] == list(before)
        assert set(after) - set(before) <= {"boundary_nm", "missed"} | {
            f"{split}/{name}" for split in ("val", "test") for name in ("boundary_nm", "missed")
        }
        for name, value in before.items():
            assert_holds(after[name], value)
    elif isinstance(before, (list, tuple)):
        assert len(after) == len(before)
        for one, other in zip(after, before, strict=True):
            assert_holds(one, other)
    else:
        assert after == before


def test_a_search_by_a_row_where_less_is_better_finds_the_lowest(
    two_rows, scored, pipeline, use_store
):
    _, after = scored
    store, output = use_store(after.store), after.folder / "missed"
    searched = after.search(pipeline.dataset, "missed")
    rows = [float(row["missed"]) for row in read_csv(output / "search.csv")]
    assert rows == sorted(rows)
    found = scores_of(store, searched)
    assert found["val/missed"] == rows[0] == 0
    plain, *_, winner = read_csv(output / "ablation.csv")
    assert float(winner["gain"]) == float(plain["missed"]) - float(winner["missed"])


def test_a_search_by_a_row_without_thresholds_is_refused(two_rows, pipeline, tmp_path):
    config = OptimizeConfig(
        dataset=str(pipeline.dataset), output=str(tmp_path / "out"), metric="boundary_nm"
    )
    with pytest.raises(
        BenchError, match=r"received 'boundary_nm': choose one of dice, iou, .*, missed$"
    ) as error:
        optimize(config, pipeline.store)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_runs_of_before_the_row_stand_beside_the_new_ones(pipeline, use_store, request, tmp_path):
    store = use_store(pipeline.store)
    nm, _ = request.getfixturevalue("two_rows")
    config = CompareConfig(dataset=str(pipeline.dataset), output=str(tmp_path), metric=nm)
    compare(config, store)
    # Other tests leave rows of their own there.
    rows = [row for row in read_csv(tmp_path / "benchmark.csv") if row["method"] == "scratch"]
    (row,) = [row for row in rows if row["structure"] == "mitochondria"]
    assert row[nm] == ""
    assert float(row["dice"]) > 0
    assert "not computed" in (tmp_path / "benchmark.md").read_text()
    assert "not computed" in (tmp_path / "benchmark.html").read_text()


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("dise", "unknown metric 'dise': choose one of .*dice"),
        ("average_precision", "average_precision is of a whole split: choose one of pixels or"),
    ],
)
def test_a_table_by_no_metric_of_sections_is_refused(store, tmp_path, metric, message):
    with pytest.raises(BenchError, match=message):
        compare(CompareConfig(output=str(tmp_path / "out"), metric=metric), store)
    assert not (tmp_path / "out").exists()


def test_what_is_not_defined_is_not_logged(evaluate_both, store, two_rows, tmp_path):
    METRICS["boundary_nm"] = replace(METRICS["boundary_nm"], finish=lambda _: float("inf"))
    _, run_id = evaluate_both(store)
    assert "test/boundary_nm" not in store.client.get_run(run_id).data.metrics
    assert "boundary_nm" not in fetch_artifact(store, run_id, "scores.json").read_text()
    compare(CompareConfig(output=str(tmp_path / "out")), store)
    (row,) = read_csv(tmp_path / "out" / "benchmark.csv")
    assert row["boundary_nm"] == ""


def test_metrics_on_request_are_a_run_of_their_own_and_columns(
    pipeline, make_store, use_store, tmp_path
):
    weights = fetch_artifact(pipeline.store, pipeline.trained, "checkpoint") / "best.safetensors"
    given = {"dataset": str(pipeline.dataset), "structure": "mito", "device": "cpu"}
    given |= {"method": "unadapted", "source": str(weights), "split": "test"}
    store = make_store(tmp_path / "store")
    plain = evaluate(EvaluateConfig(**given), store)
    asked = evaluate(
        EvaluateConfig(**given, metrics="false_distance_*,matched_iou,object_*"), store
    )
    assert asked != plain
    assert evaluate(EvaluateConfig(**given, metrics="none"), store) == plain
    before, after = scores_of(store, plain), scores_of(store, asked)
    new = {name.removeprefix("test/") for name in after.keys() - before.keys()}
    wanted = {name for name in METRICS if name.startswith(("false_", "object_"))}
    assert new == wanted | {"matched_iou"}
    assert before.items() <= after.items()
    # Cubes of 5 nm.
    assert after["test/false_distance_nm"] == pytest.approx(5 * after["test/false_distance_px"])
    out = tmp_path / "tables"
    compare(CompareConfig(output=str(out), metric="false_distance_mean_nm"), use_store(store))
    for name in ("benchmark.md", "benchmark.tex", "benchmark.html"):
        text = (out / name).read_text()
        assert "MFD (mean) (nm)" in text, name
        assert "Matched IoU" in text, name
        assert "OCE (truth)" in text, name
        assert "CREMI" not in text, name
    (row,) = read_csv(out / "benchmark.csv")
    assert float(row["matched_iou"]) == after["test/matched_iou"]


def test_a_request_of_no_metric_is_told_before_a_run(pipeline):
    config = EvaluateConfig(
        dataset=str(pipeline.dataset), run_id=pipeline.trained, metrics="hausdorf"
    )
    runs = len(pipeline.store.client.search_runs([pipeline.store.experiment_id]))
    with pytest.raises(BenchError, match="unknown metric of mitochondria 'hausdorf'"):
        evaluate(config, pipeline.store)
    assert len(pipeline.store.client.search_runs([pipeline.store.experiment_id])) == runs
