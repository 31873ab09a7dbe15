import json
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from bench.config.training import FinetuneConfig
from bench.core.version import VERSIONS
from bench.errors import BenchError
from bench.postprocess.segmentation import PostprocessSettings
from bench.tracking import opening, runs
from bench.tracking.datasets import UsedDataset, find_used_dataset
from bench.tracking.opening import open_run, report_failure
from bench.tracking.ownership.claims import take_hold
from bench.tracking.ownership.heartbeat import HEARTBEAT_TAG
from bench.tracking.queries import read_settings
from bench.tracking.runs import Identity
from bench.tracking.store import open_store

IDENTITY = Identity(
    "finetune",
    {"lr": 0.1, "iterations": 5},
    {"source": "abc"},
    method="scratch",
    structure="vesicles",
    dataset="d" * 64,
    seed=3,
)

# Opens a run and holds it.
HOLD_A_RUN = """
import sys, time
from bench.tracking.opening import open_run
from bench.tracking.runs import Identity
from bench.tracking.store import open_store
run = open_run(open_store(), Identity("finetune", {}, {}))
(run.work / "state").write_text("half")
print(run.id, flush=True)
time.sleep(600)
"""


def finish(store, identity=IDENTITY, **options):
    run = open_run(store, identity, **options)
    with run:
        pass
    return run


def status_of(store, run_id):
    return store.client.get_run(run_id).info.status


def tags_of(store, run_id):
    return store.client.get_run(run_id).data.tags


@pytest.fixture
def adopt(store, monkeypatch):
    """A store opened as `mlflow run` opens it for a step: with a run that is there already."""

    def open_adopted():
        made = store.client.create_run(store.experiment_id, run_name="made by mlflow run")
        monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
        return open_store(), made.info.run_id

    return open_adopted


def test_a_name_begins_with_what_differs():
    identity = replace(IDENTITY, step="evaluate", settings={"split": "test"})
    assert identity.name() == "vesicles scratch s3 test"
    assert replace(identity, labelled=2).name() == "vesicles scratch 2 labelled s3 test"
    assert replace(identity, step="finetune").name() == "vesicles scratch s3 finetune"
    assert Identity("benchmark", {"split": "test"}, {}).name() == "benchmark"


def test_a_run_that_cannot_be_made_holds_nothing(store, monkeypatch):
    held = []

    def take(*args):
        held.append(take_hold(*args))
        return held[0]

    def refuse(*_, **__):
        raise BenchError("no room for another run")

    monkeypatch.setattr(opening, "take_hold", take)
    monkeypatch.setattr(store.client, "create_run", refuse)
    with pytest.raises(BenchError, match="no room"):
        open_run(store, IDENTITY, reuse=False)
    assert held[0]._lock is None


def test_a_new_run_is_tagged_and_finishes(store):
    with open_run(store, IDENTITY) as run:
        assert run.state == "new"
        assert not run.reused
        assert status_of(store, run.id) == "RUNNING"
        (run.work / "state").write_text("x")
    found = store.client.get_run(run.id)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "vesicles scratch s3 finetune"
    assert found.data.tags[HEARTBEAT_TAG]
    tags = {name: value for name, value in found.data.tags.items() if name.startswith("bench.")}
    assert tags == {
        "bench.step": "finetune",
        "bench.method": "scratch",
        "bench.structure": "vesicles",
        "bench.dataset": "d" * 64,
        "bench.seed": "3",
        "bench.fingerprint": IDENTITY.fingerprint(),
        "bench.versions": ", ".join(f"{name} {v}" for name, v in IDENTITY.versions().items()),
        "bench.code": runs.code_version(),
    }
    assert not run.work.exists()


def test_a_finished_run_is_reused(store, caplog):
    first = finish(store)
    with caplog.at_level("INFO"):
        again = open_run(store, IDENTITY)
    assert (again.id, again.state, again.reused) == (first.id, "reused", True)
    assert f"reusing finished run {first.id}" in caplog.text
    assert len(store.client.search_runs([store.experiment_id])) == 1
    assert not again.work.exists()


@pytest.mark.parametrize("resumed", [False, True])
def test_a_run_whose_clock_is_set_back_does_not_end_before_it_began(store, monkeypatch, resumed):
    run = open_run(store, IDENTITY)
    if resumed:
        run.close()
        run = open_run(store, IDENTITY)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    with run:
        run.log_metrics({"loss": 1.0})
    info = store.client.get_run(run.id).info
    assert 0 <= info.end_time - info.start_time < 60_000


def test_a_run_is_not_reused_in_another_experiment(store):
    first = finish(store)
    store.experiment_id = store.client.create_experiment("another")
    assert finish(store).id != first.id


def test_reuse_can_be_declined(store):
    first = finish(store)
    second = finish(store, reuse=False)
    assert (second.state, first.id != second.id) == ("new", True)


def test_a_failed_run_tells_why_and_is_resumed_under_its_id(store, caplog):
    run = open_run(store, IDENTITY)
    (run.work / "state").write_text("half")
    with pytest.raises(BenchError), run:
        raise BenchError("the disk is full")
    assert status_of(store, run.id) == "FAILED"
    assert tags_of(store, run.id)["bench.reason"] == "the disk is full"
    with caplog.at_level("INFO"), open_run(store, IDENTITY) as again:
        assert (again.id, again.state) == (run.id, "resumed")
        assert (again.work / "state").read_text() == "half"
        assert status_of(store, run.id) == "RUNNING"
    assert f"resuming run {run.id}, which was FAILED" in caplog.text
    assert status_of(store, run.id) == "FINISHED"
    assert "bench.reason" not in tags_of(store, run.id)


def test_an_error_without_a_message_still_has_a_reason(store):
    with pytest.raises(ZeroDivisionError), open_run(store, IDENTITY) as run:
        raise ZeroDivisionError
    assert tags_of(store, run.id)["bench.reason"] == "ZeroDivisionError"


def test_an_interrupted_run_is_killed_and_resumed(store):
    with pytest.raises(KeyboardInterrupt), open_run(store, IDENTITY) as run:
        raise KeyboardInterrupt
    assert status_of(store, run.id) == "KILLED"
    assert tags_of(store, run.id)["bench.reason"].startswith("interrupted")
    again = open_run(store, IDENTITY)
    assert (again.id, again.state) == (run.id, "resumed")
    again.finish("FINISHED")


def test_a_finished_run_is_preferred_to_a_newer_failed_one(store):
    finished = finish(store)
    with pytest.raises(BenchError), open_run(store, IDENTITY, reuse=False):
        raise BenchError("no")
    assert open_run(store, IDENTITY).id == finished.id


def test_the_run_that_mlflow_made_is_taken_once(store, adopt):
    adopted_store, adopted = adopt()
    run = open_run(adopted_store, IDENTITY)
    assert (run.id, run.state) == (adopted, "new")
    found = store.client.get_run(adopted)
    assert found.info.run_name == "vesicles scratch s3 finetune"
    assert found.data.tags["bench.fingerprint"] == IDENTITY.fingerprint()
    other = open_run(adopted_store, replace(IDENTITY, seed=4))
    assert other.id != adopted
    for each in (run, other):
        each.finish("FINISHED")


@pytest.mark.parametrize("failed", [False, True])
def test_the_run_that_mlflow_made_points_to_the_one_that_has_the_result(store, adopt, failed):
    first = open_run(store, IDENTITY)
    first.finish("FAILED" if failed else "FINISHED")
    adopted_store, adopted = adopt()
    run = open_run(adopted_store, IDENTITY)
    assert (run.id, run.state) == (first.id, "resumed" if failed else "reused")
    run.close()
    pointer = store.client.get_run(adopted)
    assert pointer.data.tags["bench.see"] == first.id
    assert first.id in pointer.data.tags["mlflow.note.content"]
    assert pointer.info.run_name == "see vesicles scratch s3 finetune"
    # It is no second run of the identity.
    assert "bench.fingerprint" not in pointer.data.tags


def test_a_run_that_is_named_again_is_resumed_not_pointed_to_itself(store, monkeypatch):
    first = open_run(store, IDENTITY)
    first.finish("KILLED")
    monkeypatch.setenv("MLFLOW_RUN_ID", first.id)
    run = open_run(open_store(), IDENTITY)
    assert (run.id, run.state) == (first.id, "resumed")
    run.finish("FINISHED")
    assert "bench.see" not in tags_of(store, first.id)


def test_a_child_leaves_the_run_of_mlflow_to_its_parent(store, adopt):
    adopted_store, adopted = adopt()
    child = finish(adopted_store, parent="p" * 32)
    assert child.id != adopted
    assert tags_of(store, child.id)["mlflow.parentRunId"] == "p" * 32
    assert adopted_store.take_adopted() == adopted


def test_two_processes_do_not_do_the_same_work_and_a_kill_frees_it(store, python_environment):
    environment = python_environment | {
        "MLFLOW_TRACKING_URI": store.uri,
        "MLFLOW_EXPERIMENT_ID": store.experiment_id,
    }
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_A_RUN], env=environment, stdout=subprocess.PIPE, text=True
    ) as other:
        run_id = other.stdout.readline().strip()
        try:
            with pytest.raises(BenchError, match="another is doing this finetune now: wait"):
                open_run(store, Identity("finetune", {}, {}))
            open_run(store, Identity("finetune", {"lr": 1}, {})).finish("FINISHED")
        finally:
            other.kill()
    assert status_of(store, run_id) == "RUNNING"
    run = open_run(store, Identity("finetune", {}, {}))
    assert (run.id, run.state) == (run_id, "resumed")
    assert (run.work / "state").read_text() == "half"
    run.finish("FINISHED")


@pytest.mark.parametrize(
    "change",
    [
        {"step": "evaluate"},
        {"settings": {"lr": 0.2, "iterations": 5}},
        {"settings": {"lr": 0.1}},
        {"inputs": {"source": "abd"}},
        {"inputs": {}},
        {"method": "scratch_dice"},
        {"structure": "membrane"},
        {"dataset": "e" * 64},
        {"seed": 4},
        {"seed": None},
    ],
)
def test_the_fingerprint_tells_what_changes_a_result(change):
    assert replace(IDENTITY, **change).fingerprint() != IDENTITY.fingerprint()


def test_the_fingerprint_does_not_depend_on_the_order_of_settings():
    same = replace(IDENTITY, settings={"iterations": 5, "lr": 0.1})
    assert same.fingerprint() == IDENTITY.fingerprint()


def test_the_fingerprint_tells_versions_and_not_the_code(monkeypatch):
    before = IDENTITY.fingerprint()
    monkeypatch.setattr(runs, "code_version", lambda: "0123456789abcdef")
    monkeypatch.setitem(VERSIONS, "search", VERSIONS["search"] + 1)
    assert IDENTITY.fingerprint() == before
    monkeypatch.setitem(VERSIONS, "augmentation", VERSIONS["augmentation"] + 1)
    assert IDENTITY.fingerprint() != before


def test_the_fingerprint_tells_the_version_of_what_only_this_run_uses(monkeypatch):
    with_network = replace(IDENTITY, parts=("network unet2d",))
    before = with_network.fingerprint(), IDENTITY.fingerprint()
    monkeypatch.setitem(VERSIONS, "network unet2d", VERSIONS["network unet2d"] + 1)
    assert with_network.fingerprint() != before[0]
    assert IDENTITY.fingerprint() == before[1]


def test_prose_is_no_part_of_an_identity():
    def identity(origin, area=8):
        settings = {"postprocess": PostprocessSettings(1, area, origin)}
        return replace(IDENTITY, settings=settings).fingerprint()

    assert identity("from annotations") == identity("From the annotated instances.")
    assert identity("the same", 9) != identity("the same")


def test_params_of_a_resumed_run_are_kept(store):
    run = open_run(store, IDENTITY)
    run.log_params({"lr": 0.1, "device": "cpu"})
    run.finish("KILLED")
    with open_run(store, IDENTITY) as again:
        again.log_params(
            {"lr": 0.1, "device": "cuda", "extra": None} | {f"p{i}": i for i in range(150)}
        )
    params = store.client.get_run(run.id).data.params
    assert len(params) == 153
    assert (params["device"], params["extra"], params["p149"]) == ("cpu", "None", "149")


def test_a_long_parameter_and_a_long_reason_are_cut_to_what_the_store_takes(store):
    run = open_run(store, IDENTITY)
    run.log_params({"origin": "x" * 10_000})
    with pytest.raises(BenchError), run:
        raise BenchError("y" * 10_000)
    found = store.client.get_run(run.id).data
    assert found.params["origin"] == "x" * 6000
    assert found.tags["bench.reason"] == "y" * 8000


def test_a_long_series_goes_to_the_store_whole(store):
    with open_run(store, IDENTITY) as run:
        assert run.last_step("train/loss") == 0
        run.log_series(
            [(step, {"train/loss": 1 / step, "train/lr": 0.1}) for step in range(1, 1202)]
        )
        assert run.last_step("train/loss") == 1201
    history = store.client.get_metric_history(run.id, "train/loss")
    assert sorted(point.step for point in history) == list(range(1, 1202))


def test_a_dataset_is_an_input_of_the_run(store, tmp_path):
    with open_run(store, IDENTITY) as run:
        run.log_dataset(name="tiny", path=tmp_path, digest="d" * 64, context="training")
    (logged,) = store.client.get_run(run.id).inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest) == ("tiny", "d" * 36)
    assert str(tmp_path) in logged.dataset.source
    assert "d" * 64 in logged.dataset.profile
    assert [(tag.key, tag.value) for tag in logged.tags] == [("mlflow.data.context", "training")]


def test_pictures_become_artifacts(store):
    picture = np.zeros((8, 8, 3), np.uint8)
    with open_run(store, IDENTITY) as run:
        run.log_image(picture, key="val-s1", step=25)
        run.log_image_table({"s1": picture, "s2": picture}, {"s1": 0.5, "s2": 0.25})
    table = store.client.load_table(store.experiment_id, "overlays.json", [run.id])
    assert list(table["section"]) == ["s1", "s2"]
    assert list(table["dice"]) == [0.5, 0.25]
    images = [file.path for file in store.client.list_artifacts(run.id, "images")]
    assert [path for path in images if "val-s1+step+25" in path and path.endswith(".png")]


def test_a_failure_before_a_step_took_its_run_is_reported_on_it(store, adopt):
    _, adopted = adopt()
    report_failure("prepare", "no such folder")
    assert tags_of(store, adopted)["bench.reason"] == "no such folder"


def test_reporting_a_failure_never_hides_it(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_RUN_ID", "a" * 32)
    report_failure("prepare", "the reason")


def test_settings_are_in_one_file_and_chosen_ones_are_parameters(adopt):
    """What `mlflow run` logged as it was typed is not logged once more as it was resolved."""
    store, run_id = adopt()
    store.client.log_param(run_id, "loss", "auto")
    config = FinetuneConfig(dataset="mine", iterations=40, lr=1e-3, structure="mito", seed=3)
    resolved = vars(config) | {"loss": "dice", "schedule": "cosine", "weight": 2.5, "sizes": (1, 2)}
    run = open_run(store, IDENTITY)
    run.log_settings(resolved, config)
    (run.work / "state").write_text("half")
    run.finish("KILLED")
    with open_run(store, IDENTITY) as again:
        assert again.id == run_id
        again.log_settings({"device": "cuda"})
    found = store.client.get_run(run_id).data.params
    assert found == {"loss": "auto", "iterations": "40", "lr": "0.001"}
    settings = read_settings(store, run_id)
    assert set(settings) == {*vars(config), "weight", "sizes"}
    assert (settings["loss"], settings["weight"], settings["device"]) == ("dice", "2.5", "cuda")
    assert settings["sizes"] == "[1, 2]"


def test_settings_of_an_earlier_version_are_its_parameters(store):
    with open_run(store, IDENTITY) as run:
        run.log_params({"cfg.lr": 0.1, "lr": "0.10"})
    assert read_settings(store, run.id) == {"lr": "0.1"}


def test_facts_are_no_charts(store):
    with open_run(store, IDENTITY) as run:
        run.log_facts({"model/parameters": 7_000_000, "predict/seconds": 1 / 3})
    data = store.client.get_run(run.id).data
    assert (data.metrics, data.tags["bench.model.parameters"]) == ({}, "7000000")
    assert float(data.tags["bench.predict.seconds"]) == 1 / 3


def test_the_dataset_says_what_its_sections_have(store, tmp_path):
    with open_run(store, IDENTITY) as run:
        run.log_dataset(
            name="tiny",
            path=tmp_path,
            digest="d" * 64,
            context="training",
            columns={"raw": "grey values", "mitochondria": "ids"},
            sections=3,
        )
    (used,) = store.client.get_run(run.id).inputs.dataset_inputs
    columns = json.loads(used.dataset.schema)["mlflow_colspec"]
    assert [(column["name"], column["type"]) for column in columns] == [
        ("raw", "grey values"),
        ("mitochondria", "ids"),
    ]
    assert json.loads(used.dataset.profile)["num_rows"] == 3
    assert find_used_dataset(store, run.id) == UsedDataset("tiny", "d" * 36, tmp_path)
    assert find_used_dataset(store, "0" * 32) is None
