"""What `make ui` says, and the views that it prepares; tests of the UI itself are by eye."""

import json
from pathlib import Path

import pytest

from bench.tracking import views
from bench.tracking.opening import open_run
from bench.tracking.runs import Identity
from bench.tracking.views import VIEWS, describe_links, write_views

ADDRESS = "http://localhost:5000"


@pytest.fixture
def scored(store):
    """An evaluation and a comparison; returns the page of the latter."""
    evaluation = Identity(
        "evaluate", {"split": "test"}, {}, method="scratch", structure="vesicles", dataset="d" * 64
    )
    with open_run(store, evaluation) as run:
        run.set_tags({"bench.split": "test"})
        run.log_metrics({"test/dice": 0.5})
    with open_run(store, Identity("compare", {}, {}), reuse=False) as run:
        run.log_text("<html>", views.PAGE_FILE)
    folder = store.client.get_run(run.id).info.artifact_uri
    return Path(folder.removeprefix("file://")) / views.PAGE_FILE


def test_links_lead_to_the_page_and_to_the_views(store, scored):
    lines = describe_links(store, ADDRESS)
    experiment = store.client.get_experiment(store.experiment_id)
    assert lines[0] == f"Experiment {experiment.name}:"
    assert lines[1].split() == ["the", "page", scored.as_uri()]
    assert scored.read_text() == "<html>"
    for view, line in zip(VIEWS, lines[2:4], strict=True):
        assert line.strip().startswith(view.name)
        link = line.split()[-1]
        assert link.startswith(f"{ADDRESS}/#/experiments/{store.experiment_id}/runs?")
        assert link.endswith(f"&viewStateShareKey={view.key}")
        assert json.loads(experiment.tags[f"mlflow.sharedViewState.{view.key}"]) == view.state()
    assert len(lines) == 5


def test_experiments_without_scores_are_left_alone(store):
    with open_run(store, Identity("prepare", {}, {})):
        pass
    assert write_views(store) == []
    (only,) = describe_links(store, ADDRESS)
    assert only == f"All runs: {ADDRESS}/#/experiments?workflowType=machine_learning"
    tags = store.client.get_experiment(store.experiment_id).tags
    assert not [name for name in tags if name.startswith("mlflow.sharedViewState")]


def test_the_condition_of_the_first_view_is_one_that_the_store_understands(store, scored):
    (found,) = store.client.search_runs([store.experiment_id], VIEWS[0].found)
    assert found.info.run_name == "vesicles scratch test"
    state = VIEWS[0].state()
    assert state["selectedColumns"][:3] == [
        f"metrics.`test/{name}`" for name in ("dice", "iou", "instance_f1")
    ]
    assert state["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "bench.structure"}]


def test_the_charts_of_trainings_begin_with_dice_and_loss(store):
    charts = VIEWS[1].state()["compareRunCharts"]
    assert [(chart["metricKey"], chart["type"]) for chart in charts] == [
        ("best/dice", "BAR"),
        ("val/dice", "LINE"),
        ("train/loss", "LINE"),
    ]
    assert list(store.client.search_runs([store.experiment_id], VIEWS[1].found)) == []
