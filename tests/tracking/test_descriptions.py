import re
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from bench.tracking.descriptions import (
    EXPERIMENT,
    MADE_BY_MLFLOW,
    NOTE_TAG,
    RUNS,
    describe_experiment,
)
from bench.tracking.opening import name_adopted, open_run
from bench.tracking.runs import Identity

STEPS = Path(__file__).parents[2] / "src" / "bench" / "steps"


def test_every_step_that_opens_a_run_is_described_and_no_other():
    source = "".join(path.read_text() for path in STEPS.rglob("*.py"))
    opened = re.findall(r'\bIdentity\(\s*(?:step=)?"(\w+)"', source)
    assert set(opened) == set(RUNS)


@pytest.mark.parametrize("step", RUNS)
def test_a_run_says_how_to_read_it(store, step):
    with open_run(store, Identity(step, {}, {})) as run:
        pass
    assert store.client.get_run(run.id).data.tags[NOTE_TAG] == RUNS[step]


def test_an_experiment_says_how_to_read_it_until_somebody_else_does(store):
    with open_run(store, Identity("compare", {}, {})):
        pass
    experiment = store.client.get_experiment(store.experiment_id)
    assert experiment.tags[NOTE_TAG] == EXPERIMENT
    store.client.set_experiment_tag(store.experiment_id, NOTE_TAG, "ours")
    describe_experiment(store.client, store.experiment_id)
    assert store.client.get_experiment(store.experiment_id).tags[NOTE_TAG] == "ours"


def test_a_description_that_cannot_be_given_is_no_reason_to_fail(store, monkeypatch):
    def refuse(*_):
        raise MlflowException("another process was first")

    monkeypatch.setattr(store.client, "set_experiment_tag", refuse)
    describe_experiment(store.client, store.experiment_id)
    assert NOTE_TAG not in store.client.get_experiment(store.experiment_id).tags


@pytest.mark.parametrize("step", MADE_BY_MLFLOW)
def test_the_run_of_mlflow_is_named_where_a_step_keeps_none(store, monkeypatch, step):
    made = store.client.create_run(store.experiment_id).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", made)
    name_adopted(step)
    run = store.client.get_run(made)
    assert run.info.run_name == run.data.tags["bench.step"] == step
    assert run.data.tags[NOTE_TAG] == MADE_BY_MLFLOW[step]


def test_a_step_without_a_run_needs_no_store(monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    name_adopted("phantom")
