from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.tracking import queries
from bench.tracking.opening import open_run
from bench.tracking.queries import Cell, fetch_artifact, find_trained, get_trained
from bench.tracking.runs import Identity

DATASET = "d" * 64


def find(store, **wanted):
    defaults = {"method": "auto", "structure": "vesicles", "dataset": DATASET, "seed": None}
    return find_trained(store, **(defaults | wanted)).id


def test_a_trained_run_is_read(store, record):
    run_id = record(tags={"bench.dataset_name": "tiny"}, seed=7)
    found = get_trained(store, run_id)
    assert found.cell == Cell("scratch", "vesicles", DATASET, 7)
    assert (found.id, found.status, found.reason) == (run_id, "FINISHED", "")
    assert found.dataset_label == "tiny@dddddddd"


@pytest.mark.parametrize(
    ("source", "run_id"),
    [
        ("runs:/abc", "abc"),
        ("runs:/abc/checkpoint", "abc"),
        ("runs:/abc/checkpoint/best.safetensors", "abc"),
        ("synapsenet:vesicles_2d", ""),
        ("models:/m@champion", ""),
        ("random", ""),
    ],
)
def test_the_run_that_a_training_started_from(store, record, source, run_id):
    trained = record()
    store.client.log_param(trained, "cfg.source", source)
    assert get_trained(store, trained).source_run == run_id


@pytest.mark.parametrize("run_id", ["0" * 32, "mitochondria", "a'b", "", "../../etc"])
def test_a_run_that_does_not_exist(store, run_id):
    with pytest.raises(BenchError, match=r"no run has the id .* look it up in the MLflow UI"):
        get_trained(store, run_id)


@pytest.mark.parametrize("status", ["RUNNING", "FAILED", "KILLED"])
def test_a_run_that_is_not_finished(store, record, status):
    run_id = record(status=status)
    with pytest.raises(BenchError, match=f"must be FINISHED, {run_id} is {status}"):
        get_trained(store, run_id)


def test_a_run_of_another_step(store, record):
    with pytest.raises(BenchError, match=r"must have trained a model, .* is evaluate: give the id"):
        get_trained(store, record("evaluate"))
    foreign = store.client.create_run(store.experiment_id)
    with pytest.raises(BenchError, match="is no step of this suite"):
        get_trained(store, foreign.info.run_id)


def test_a_pointer_is_followed(store, record):
    run_id = record()
    pointer = store.client.create_run(store.experiment_id, tags={"bench.see": run_id})
    assert get_trained(store, pointer.info.run_id).id == run_id


def test_the_newest_training_is_found(store, record):
    old, new = record(), record()
    record(status="FAILED")
    record(status="RUNNING")
    record("evaluate")
    assert new != old
    assert find(store) == new


def test_a_training_is_found_by_all_that_is_said_of_it(store, record):
    wanted = record(method="scratch_dice", seed=1)
    record(method="scratch", seed=1)
    record(method="scratch_dice", seed=2)
    record(method="scratch_dice", seed=1, structure="membrane")
    record(method="scratch_dice", seed=1, dataset="e" * 64)
    assert find(store, method="scratch_dice", seed=1) == wanted
    assert find(store, method="scratch_dice") != wanted


def test_a_model_of_classes_is_found_by_each_of_them(store, record):
    older = record(method="scratch_classes", structure="vesicles+membrane")
    alone = record(structure="vesicles")
    assert find(store) == alone
    assert find(store, method="scratch_classes") == older
    newer = record(method="scratch_classes", structure="membrane+ribbon+vesicles")
    assert find(store) == find(store, method="scratch_classes") == newer
    assert find(store, structure="ribbon") == find(store, structure="all") == newer
    record(method="scratch_classes", structure="mitochondria+ribbon")
    assert find(store) == newer


def test_no_training(store, record):
    record(method="scratch")
    message = "no finished training has structure vesicles, .* method finetuned, seed 3: run fine"
    with pytest.raises(BenchError, match=message):
        find(store, method="finetuned", seed=3)


def test_a_missing_artifact_says_so(store):
    with open_run(store, Identity("finetune", {}, {})) as run:
        run.log_text("hello", "there.txt")
    path = fetch_artifact(store, run.id, "there.txt")
    assert path.read_text() == "hello"
    assert path.is_relative_to(Path(store.uri.removeprefix("sqlite:///")).parent), "no copy is made"
    with pytest.raises(BenchError, match=f"run {run.id} must have the artifact checkpoint, it"):
        fetch_artifact(store, run.id, "checkpoint")


def test_artifacts_kept_elsewhere_are_copied_apart(store, tmp_path):
    """A location that is no plain path stands for a bucket or a server."""
    location = f"file://{tmp_path}/far%20away"
    store.experiment_id = store.client.create_experiment("far", artifact_location=location)
    paths = []
    for number in range(2):
        with open_run(store, Identity("finetune", {"number": number}, {})) as run:
            run.log_text(f"text {number}", "folder/there.txt")
        paths.append(fetch_artifact(store, run.id, "folder") / "there.txt")
    assert [path.read_text() for path in paths] == ["text 0", "text 1"]
    folder = queries.copies_folder().name
    assert all(path.is_relative_to(folder) for path in paths)
    assert fetch_artifact(store, run.id, "folder/there.txt").read_text() == "text 1"
