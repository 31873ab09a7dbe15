"""The newest run of every cell: from the database, and by questions or pages as of a server."""

import math
import re

import pytest
from mlflow.exceptions import MlflowException

from bench.tracking import newest, searching, unseen
from bench.tracking.newest import newest_evaluations, newest_trainings, select_runs
from bench.tracking.queries import Cell

DATASET = "d" * 64


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request):
    """The same in SQLite and in PostgreSQL."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgres_store")
    make_store, use_store = (request.getfixturevalue(name) for name in ("make_store", "use_store"))
    return use_store(make_store(request.getfixturevalue("tmp_path") / "store"))


@pytest.fixture(params=["database", "pages", "questions"])
def way(request, monkeypatch):
    """All ways of reading a store; pages are of two runs, so that there are several."""
    if request.param == "database":
        monkeypatch.setattr(newest, "search_pages", None)
        monkeypatch.setattr(newest, "newest_of_each", None)
    else:
        monkeypatch.setattr(newest, "engine_of", lambda store: None)
        monkeypatch.setattr(newest, "IDS_PER_SEARCH", 2)
        monkeypatch.setattr(searching, "PAGE", 2)
        monkeypatch.setattr(unseen, "PAGE", 2)
        monkeypatch.setattr(unseen, "FIRST_PAGE", 2)
        monkeypatch.setattr(unseen, "_WORTH_ASKING", 1 if request.param == "questions" else 0)
        monkeypatch.setattr(unseen, "_RUNS_PER_QUESTION", 0.02)
    return request.param


@pytest.fixture
def evaluated(record):
    def make(split="test", protocol="data", augmentations="none", **options):
        tags = {"bench.split": split, "bench.protocol": protocol} | options.pop("tags", {})
        if augmentations:
            tags["bench.augmentations"] = augmentations
        return record("evaluate", tags=tags, **options)

    return make


def test_the_newest_evaluation_of_every_cell_is_found(way, store, evaluated):
    evaluated(augmentations="")
    scratch = evaluated()
    others = [
        evaluated(seed=1),
        evaluated(labelled=3),
        evaluated(structure="membrane"),
        evaluated(dataset="e" * 64),
        evaluated(method="finetuned"),
        evaluated(augmentations="all"),
    ]
    evaluated(split="val")
    evaluated(protocol="paper")
    for status in ("FAILED", "KILLED", "RUNNING"):
        evaluated(status=status)
    store.client.delete_run(evaluated())
    found = newest_evaluations(store, store.experiment_id, "test", "data")
    assert [run.id for run in found] == [*others[::-1], scratch]
    assert Cell("scratch", "vesicles", DATASET, 0, 3) in {run.cell for run in found}


def test_trainings_are_found_finished_or_not(way, store, record):
    record()
    running = record(status="RUNNING")
    failed = record(seed=1, status="FAILED", tags={"bench.reason": "no space"})
    adapted = record("domain_adapt", method="domain_adapted")
    record("evaluate")
    found = newest_trainings(store, store.experiment_id)
    assert [(run.id, run.status) for run in found] == [
        (failed, "FAILED"),
        (running, "RUNNING"),
        (adapted, "FINISHED"),
    ]
    assert found[0].reason == "no space"


def test_both_ways_read_the_same_of_a_run(store, evaluated, monkeypatch):
    full = evaluated(
        labelled=2,
        tags={
            "bench.warning": "one\ntwo",
            "bench.dataset_name": "tiny",
            "bench.trained_run": "a" * 32,
            "bench.train_seconds": "12.5",
        },
    )
    store.client.log_metric(full, "model/parameters", 7e6)
    store.client.log_metric(full, "predict/megapixels_per_s", 1.0, step=0)
    store.client.log_metric(full, "predict/megapixels_per_s", 2.0, step=1)
    store.client.log_param(full, "cfg.source", f"runs:/{'b' * 32}")
    evaluated(seed=1)
    fast = newest_evaluations(store, store.experiment_id, "test", "data")
    assert fast[1].costs == {
        "train_seconds": 12.5,
        "parameters": 7e6,
        "predict_megapixels_per_s": 2.0,
    }
    monkeypatch.setattr(newest, "engine_of", lambda store: None)
    assert newest_evaluations(store, store.experiment_id, "test", "data") == fast


def test_what_earlier_versions_logged_elsewhere_is_read(way, store, evaluated):
    """Costs as metrics, the source as a parameter, scores under a tag that the UI shows."""
    early = evaluated(seed=0, tags={"bench.scores": "early"})
    store.client.log_metric(early, "model/parameters", 7e6)
    store.client.log_param(early, "cfg.source", f"runs:/{'b' * 32}")
    facts = {"bench.model.parameters": "8000000", "bench.source": f"runs:/{'c' * 32}"}
    evaluated(seed=1, tags=facts | {"mlflow.bench.scores": "now"})
    found = newest_evaluations(store, store.experiment_id, "test", "data")
    # Made at the same moment, they are in any order.
    then, now = sorted(found, key=lambda run: run.cell.seed)
    assert (then.costs, then.source_run, then.scores) == ({"parameters": 7e6}, "b" * 32, "early")
    assert (now.costs, now.source_run, now.scores) == ({"parameters": 8e6}, "c" * 32, "now")


def test_a_cost_that_is_no_number_stays_one(way, store, evaluated):
    run = evaluated()
    store.client.log_metric(run, "model/parameters", math.nan)
    (found,) = newest_evaluations(store, store.experiment_id, "test", "data")
    assert math.isnan(found.costs["parameters"])


def test_runs_are_selected_by_id(way, store, record):
    ids = [record(seed=seed) for seed in range(5)]
    pointer = store.client.create_run(store.experiment_id, tags={"bench.see": ids[0]})
    elsewhere = store.client.create_run("0", tags={"bench.seed": "0"})
    asked = [*ids[:4], pointer.info.run_id, elsewhere.info.run_id, "f" * 32, "it's", ids[0]]
    found = select_runs(store, store.experiment_id, asked)
    assert sorted(run.id for run in found) == sorted(ids[:4])
    assert list(select_runs(store, store.experiment_id, [])) == []


def test_more_ids_than_a_question_takes(store, record, monkeypatch):
    from bench.tracking import newest

    monkeypatch.setattr(newest, "IDS", 2)
    ids = [record(seed=seed) for seed in range(5)]
    found = newest_trainings(store, store.experiment_id)
    assert [run.id for run in found] == ids[::-1]


def _refuse(*_args):
    raise MlflowException.invalid_parameter_value("Invalid comparator 'IS NULL'")


# What cannot be asked, and a server of an earlier version.
OBSTACLES = {
    "_RUNS_PER_QUESTION": 1,
    "_EXCLUDED": 1,
    "_PLAIN": re.compile("none"),
    "_is": _refuse,
}


def test_a_server_is_asked_for_cells_and_not_for_old_runs(store, evaluated, monkeypatch):
    # Long ago, and never again.
    evaluated(method="best_practice", structure="synaptic cleft", labelled=4, augmentations="")
    cells = [{"seed": 0}, {"seed": 1}, {"method": "finetuned"}, {"augmentations": "all"}]
    runs = [evaluated(**cell) for _ in range(4) for cell in cells]
    # The newest of its cell is then an older one.
    store.client.delete_run(runs[-3])
    said = newest_evaluations(store, store.experiment_id, "test", "data")
    assert len(said) == 5

    read = []

    def search_page(*args, **options):
        page = searching.search_page(*args, **options)
        read.extend(run.info.run_id for run in page)
        return page

    monkeypatch.setattr(newest, "engine_of", lambda store: None)
    monkeypatch.setattr(unseen, "search_page", search_page)
    monkeypatch.setattr(unseen, "FIRST_PAGE", 7)
    monkeypatch.setattr(unseen, "_RUNS_PER_QUESTION", 0.1)
    assert newest_evaluations(store, store.experiment_id, "test", "data") == said
    assert len(read) == 7 + 1
    for name, value in OBSTACLES.items():
        read.clear()
        with monkeypatch.context() as patch:
            patch.setattr(unseen, name, value)
            assert newest_evaluations(store, store.experiment_id, "test", "data") == said
        assert len(set(read)) == len(runs), name
