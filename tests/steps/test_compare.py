import csv
import json

import pytest

from bench.config.scoring import CompareConfig
from bench.errors import BenchError
from bench.methods import METHODS, Method
from bench.steps.compare import compare
from bench.tracking.queries import SCORES_TAG, Cell

DATASET = "d" * 64


@pytest.fixture
def tabulate(store, tmp_path):
    """Compares, and returns the rows of the CSV file by method and structure."""

    def read(failures=None, **settings):
        config = CompareConfig(output=str(tmp_path / "out"), **settings)
        compare(config, store, failures=failures)
        with (tmp_path / "out" / "benchmark.csv").open() as file:
            return {(row["method"], row["structure"]): row for row in csv.DictReader(file)}

    return read


def test_the_newest_evaluation_of_a_cell_counts(evaluated, tabulate):
    evaluated(0.9)
    evaluated(0.5)
    evaluated(0.1, status="FAILED")
    evaluated(0.2, split="val")
    evaluated(0.3, protocol="paper")
    ((_, row),) = tabulate().items()
    assert float(row["dice"]) == 0.5
    assert float(tabulate(split="val")["scratch", "vesicles"]["dice"]) == 0.2
    assert float(tabulate(protocol="paper")["scratch", "vesicles"]["dice"]) == 0.3


def test_an_augmented_evaluation_does_not_replace_the_plain_one(evaluated, tabulate):
    evaluated(0.3)
    evaluated(0.5, tags={"bench.augmentations": "none"})
    evaluated(0.9, tags={"bench.augmentations": "all"})
    assert float(tabulate()["scratch", "vesicles"]["dice"]) == 0.5
    row = tabulate(augmentations="all")["scratch", "vesicles"]
    assert float(row["dice"]) == 0.9
    assert row["warnings"] == "mean over 8 symmetries (augmentations=all)"
    with pytest.raises(BenchError, match="split test with protocol data and augmentations paper"):
        tabulate(augmentations="paper")


def test_a_cell_without_augmentations_says_why(record, evaluated, tabulate):
    evaluated(0.9, tags={"bench.augmentations": "all"})
    evaluated(0.5, method="finetuned")
    plain = record("finetune", method="finetuned")
    sam = record("microsam", method="microsam_finetuned")
    rows = tabulate(augmentations="all")
    reasons = {method: row["reason"] for (method, _), row in rows.items()}
    assert reasons == {
        "scratch": "",
        "finetuned": f"trained, not evaluated on test with augmentations=all: evaluate run {plain}",
        "microsam_finetuned": f"trained, not evaluated on test: evaluate run {sam}",
    }


def test_instances_stand_beside_augmented_scores_with_a_note(evaluated, tabulate):
    evaluated(0.4, tags={"bench.augmentations": "paper"})
    evaluated(0.6, method="microsam_zero_shot")
    rows = tabulate(augmentations="paper")
    assert float(rows["microsam_zero_shot", "vesicles"]["dice"]) == 0.6
    assert rows["microsam_zero_shot", "vesicles"]["warnings"] == (
        "without augmentations=paper: its network finds instances, whose ids have no mean over "
        "symmetries"
    )
    assert rows["scratch", "vesicles"]["warnings"].startswith("mean over 7 symmetries")
    assert tabulate()["microsam_zero_shot", "vesicles"]["warnings"] == ""


def test_seeds_are_averaged(evaluated, tabulate):
    for seed, dice in enumerate((0.4, 0.6)):
        evaluated(dice, seed=seed)
    row = tabulate()["scratch", "vesicles"]
    assert float(row["dice"]) == pytest.approx(0.5)
    assert row["seeds"] == "0 1"


def test_a_cell_without_a_score_says_why(record, evaluated, tabulate):
    evaluated(0.5, structure="membrane")
    trained = record("finetune", structure="vesicles")
    record("finetune", structure="mitochondria", status="FAILED", reason="the disk is full")
    record("finetune", method="scratch_dice", structure="membrane", status="KILLED")
    running = record("finetune", method="scratch_dice", structure="vesicles", status="RUNNING")
    rows = tabulate()
    reasons = {cell: row["reason"] for cell, row in rows.items()}
    assert reasons == {
        ("scratch", "vesicles"): f"trained, not evaluated on test: evaluate run {trained}",
        ("scratch", "mitochondria"): "training failed: the disk is full",
        ("scratch", "membrane"): "",
        ("scratch_dice", "vesicles"): f"training has not ended (run {running})",
        ("scratch_dice", "membrane"): "training killed: no reason known",
    }


def test_what_just_failed_is_not_shown_by_an_older_score(evaluated, tabulate):
    evaluated(0.9)
    evaluated(0.5, method="scratch_dice")
    failed = Cell("scratch", "vesicles", DATASET, 0)
    never_run = Cell("finetuned", "vesicles", DATASET, 0)
    rows = tabulate({failed: "the loss is nan", never_run: "no source"})
    assert (rows["scratch", "vesicles"]["dice"], rows["scratch", "vesicles"]["reason"]) == (
        "",
        "the loss is nan",
    )
    assert rows["finetuned", "vesicles"]["reason"] == "no source"
    assert {row["dataset"] for row in rows.values()} == {"tiny@dddddddd"}


def test_datasets_are_told_apart_by_content_not_by_folder(evaluated, tabulate, tmp_path):
    evaluated(0.5)
    evaluated(0.6, method="scratch_dice", tags={"bench.dataset_name": "a-copy"})
    assert {row["dataset"] for row in tabulate().values()} == {"a-copy@dddddddd"}
    evaluated(0.7, dataset="e" * 64)
    tabulate()
    text = (tmp_path / "out" / "benchmark.csv").read_text()
    assert "a-copy@dddddddd" in text
    assert "tiny@eeeeeeee" in text
    ((_, row),) = tabulate(dataset="eeeeeeee").items()
    assert float(row["dice"]) == 0.7


def test_another_experiment_is_read_by_name(store, evaluated, tabulate):
    evaluated(0.5)
    store.experiment_id = store.client.create_experiment("where the tables go")
    assert float(tabulate(experiment="tests")["scratch", "vesicles"]["dice"]) == 0.5


def test_nothing_to_tabulate(store, record, evaluated, tmp_path):
    output = tmp_path / "out"
    config = CompareConfig(output=str(output))
    message = "there must be an evaluation to tabulate, the experiment has none of split test"
    with pytest.raises(BenchError, match=message):
        compare(config, store)
    record("finetune")
    evaluated(0.5, split="val")
    with pytest.raises(BenchError, match=message):
        compare(config, store)
    assert not output.exists()


@pytest.mark.parametrize("dataset", ["data/no-such", "facade"])
def test_a_dataset_that_is_not_there(store, evaluated, tmp_path, dataset):
    evaluated(0.5)
    config = CompareConfig(output=str(tmp_path / "out"), dataset=dataset)
    with pytest.raises(BenchError, match=f"{dataset} must be a prepared dataset, received no such"):
        compare(config, store)


def test_pairs_of_methods_are_compared(store, evaluated, tmp_path, capsys):
    evaluated(0.9)
    evaluated(0.5, method="scratch_dice")
    output = tmp_path / "out"
    run_id = compare(CompareConfig(output=str(output)), store)
    (row,) = csv.DictReader((output / "comparisons.csv").open())
    assert (row["first"], row["second"], row["sections"]) == ("scratch", "scratch_dice", "1")
    assert float(row["difference"]) == pytest.approx(0.4)
    assert "From scratch" in (output / "comparisons.md").read_text()
    assert "cannot be told from it by 1 section, whatever the outcome" in " ".join(
        capsys.readouterr().out.split()
    )
    kept = {file.path for file in store.client.list_artifacts(run_id)}
    assert kept >= {"comparisons.csv", "comparisons.md"}


def test_the_whole_table_is_in_one_json_file(store, evaluated, tmp_path):
    first, second = evaluated(0.4, seed=0), evaluated(0.6, seed=1)
    evaluated(0.9, method="scratch_dice")
    compare(CompareConfig(output=str(tmp_path)), store)
    whole = json.loads((tmp_path / "benchmark.json").read_text())
    row, other = whole["rows"]
    assert row["scores"]["dice"] == pytest.approx(0.5)
    assert [(run["seed"], run["run_id"], run["sections"]) for run in row["runs"]] == [
        (0, first, {"s1": {"dice": 0.4}}),
        (1, second, {"s1": {"dice": 0.6}}),
    ]
    assert other["best"] == ["dice"]
    (pair,) = whole["comparisons"]
    assert (pair["first"], pair["second"], pair["testable"]) == ("scratch_dice", "scratch", False)
    assert [(rank["method"], rank["rank"]) for rank in whole["ranks"]] == [
        ("scratch_dice", 1),
        ("scratch", 2),
    ]


def test_published_scores_stand_beside_ours_and_are_not_compared(store, evaluated, tmp_path):
    evaluated(0.4)
    evaluated(0.3, method="scratch_dice")
    reference = tmp_path / "paper.csv"
    reference.write_text("method,structure,dice\nscratch,vesicles,0.9\nOurs,vesicles,\n")
    output = tmp_path / "out"
    compare(CompareConfig(output=str(output), reference=str(reference)), store)
    rows = list(csv.DictReader((output / "benchmark.csv").open()))
    assert [(row["label"], row["dataset"], row["dice"], row["published"]) for row in rows] == [
        ("From scratch (focal-Dice)", "tiny@dddddddd", "0.4", "false"),
        ("From scratch (Dice)", "tiny@dddddddd", "0.3", "false"),
        ("scratch (published)", "published: paper", "0.9", "true"),
        ("Ours (published)", "published: paper", "", "true"),
    ]
    text = (output / "benchmark.md").read_text()
    ours = next(line for line in text.splitlines() if "From scratch (focal" in line)
    assert "**0.400**" in ours
    assert "not compared with ours" in text
    # The header, and our two methods.
    assert (output / "comparisons.csv").read_text().count("\n") == 2


def test_a_wrong_reference_stops_before_anything_is_written(store, evaluated, tmp_path):
    evaluated(0.4)
    output = tmp_path / "out"
    with pytest.raises(BenchError, match="reference must be a CSV table"):
        compare(CompareConfig(output=str(output), reference="no-such.csv"), store)
    assert not output.exists()


def test_costs_stand_beside_the_scores(record, evaluated, tabulate, tmp_path):
    adapted = record("domain_adapt", method="domain_adapted", tags={"bench.train_seconds": "30.0"})
    trained = record(
        "finetune",
        method="da_finetuned",
        tags={"bench.train_seconds": "12.5"},
        logged={"cfg.source": f"runs:/{adapted}", "model/parameters": 7e6},
    )
    evaluated(0.5, method="da_finetuned", tags={"bench.trained_run": trained})
    evaluated(
        0.4,
        method="unadapted",
        tags={"bench.trained_run": "none"},
        logged={"model/parameters": 9.0},
    )
    rows = tabulate()
    costs = [rows[method, "vesicles"] for method in ("da_finetuned", "unadapted")]
    assert [(row["train_seconds"], row["parameters"]) for row in costs] == [
        ("42.5", "7000000.0"),
        ("", "9.0"),
    ]
    assert {row["peak_gpu_mib"] for row in costs} == {""}
    text = (tmp_path / "out" / "benchmark.md").read_text()
    assert "| tiny@dddddddd | DA + fine-tuned | 42.5 | – | 7,000,000 | – | – |" in text
    assert "| tiny@dddddddd | Unadapted | – | – | 9 | – | – |" in text


def test_a_source_that_is_no_stage_of_the_method_is_not_its_cost(record, evaluated, tabulate):
    mine = record("finetune", tags={"bench.train_seconds": "30.0"}, structure="membrane")
    trained = record(
        "finetune",
        method="finetuned",
        tags={"bench.train_seconds": "12.5"},
        logged={"cfg.source": f"runs:/{mine}"},
    )
    evaluated(0.5, method="finetuned", tags={"bench.trained_run": trained})
    assert tabulate()["finetuned", "vesicles"]["train_seconds"] == "12.5"


@pytest.mark.parametrize("form", ["runs:/{}", "runs:/{}/checkpoint", "runs:/{}/"])
def test_a_chain_of_three_stages_costs_all_of_them(record, evaluated, tabulate, form):
    """DA + fine-tuned starts from an adapted model, which went on from an adapted one."""
    seconds = {"bench.train_seconds": "30.0"}
    first = record("domain_adapt", method="domain_adapted", seed=5, tags=seconds)
    second = record(
        "domain_adapt",
        method="domain_adapted",
        tags={"bench.train_seconds": "9.0"},
        logged={"cfg.source": form.format(first)},
    )
    third = record(
        "finetune",
        method="da_finetuned",
        tags={"bench.train_seconds": "12.5"},
        logged={"cfg.source": form.format(second)},
    )
    evaluated(0.5, method="da_finetuned", tags={"bench.trained_run": third})
    evaluated(0.4, method="domain_adapted", tags={"bench.trained_run": second})
    rows = tabulate()
    assert rows["da_finetuned", "vesicles"]["train_seconds"] == "51.5"
    assert rows["domain_adapted", "vesicles"]["train_seconds"] == "39.0"


def test_rows_that_start_from_rows_cost_every_one(record, evaluated, tabulate, monkeypatch):
    starts = {"a": "source", "b": "a", "c": "b"}
    for name, start in starts.items():
        monkeypatch.setitem(METHODS, name, Method(name, name.upper(), "unet2d", "finetune", start))
    source = record("finetune", tags={"bench.train_seconds": "1000.0"})
    for name, seconds in zip(starts, ("1.0", "10.0", "100.0"), strict=True):
        logged = {"cfg.source": f"runs:/{source}"}
        tags = {"bench.train_seconds": seconds}
        source = record("finetune", method=name, tags=tags, logged=logged)
        evaluated(0.5, method=name, tags={"bench.trained_run": source})
    rows = tabulate()
    costs = [rows[name, "vesicles"]["train_seconds"] for name in starts]
    assert costs == ["1.0", "11.0", "111.0"]


def test_a_training_that_names_itself_ends(store, record, evaluated, tabulate):
    trained = record("domain_adapt", method="domain_adapted", tags={"bench.train_seconds": "3.0"})
    store.client.log_param(trained, "cfg.source", f"runs:/{trained}")
    evaluated(0.5, method="domain_adapted", tags={"bench.trained_run": trained})
    assert tabulate()["domain_adapted", "vesicles"]["train_seconds"] == "3.0"


def test_scores_are_the_same_from_the_tag_and_from_the_file(pipeline, tmp_path, use_store):
    store = use_store(pipeline.store)
    config = CompareConfig(output=str(tmp_path / "out"), dataset=str(pipeline.dataset))
    packed = store.client.get_run(pipeline.on_test).data.tags[SCORES_TAG]
    tables = []
    for _ in range(2):
        compare(config, store)
        tables.append(json.loads((tmp_path / "out" / "benchmark.json").read_text()))
        if len(tables) == 1:
            store.client.delete_tag(pipeline.on_test, SCORES_TAG)
    store.client.set_tag(pipeline.on_test, SCORES_TAG, packed)
    (row,) = tables[0]["rows"]
    assert row["runs"][0]["run_id"] == pipeline.on_test
    assert len(row["runs"][0]["sections"]) == 3
    assert tables[0] == tables[1]


def test_scores_that_are_gone_are_named_in_their_cell(record, evaluated, tabulate):
    evaluated(0.5)
    gone = record(
        "evaluate",
        method="finetuned",
        tags={"bench.split": "test", "bench.protocol": "data"},
    )
    rows = tabulate()
    assert float(rows["scratch", "vesicles"]["dice"]) == 0.5
    assert (
        f"evaluated, but run {gone} must have the artifact scores.json"
        in (rows["finetuned", "vesicles"]["reason"])
    )
