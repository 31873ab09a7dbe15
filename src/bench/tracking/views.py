"""Where results are seen: the page, and prepared views of MLflow's UI.

``python -m bench.tracking.views PORT`` prints the links, for the server of `make ui`.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException

from bench.metrics.table import HEADLINE
from bench.tracking.opening import remove_mistyped
from bench.tracking.searching import search
from bench.tracking.store import Store, open_store

# The artifact of compare that has everything.
PAGE_FILE = "benchmark.html"
# The chart beside it.
CHART_FILE = "benchmark.png"
# What the UI keeps a shared view under, a tag of the experiment.
_SHARED = "mlflow.sharedViewState."
# Else the UI opens its pages for language models.
_TRAINING = "workflowType=machine_learning"
_SHOWN_RUNS = 20


@dataclass(frozen=True)
class _RunsView:
    """A state of MLflow's page of runs.

    Attributes:
        name: What people read.
        key: What the UI finds it by.
        found: Which runs are listed.
        columns: Metrics that are columns, the first of which orders the runs.
        charts: Metrics that are charts, in this order, and what they are drawn as.
    """

    name: str
    key: str
    found: str
    columns: tuple[str, ...]
    charts: Mapping[str, str]

    def state(self) -> dict[str, Any]:
        """As the UI reads it: runs are grouped by structure, and only our charts are shown."""
        tags = ("bench.method", "bench.seed", "bench.dataset_name")
        columns = [f"metrics.`{name}`" for name in self.columns]
        return {
            "searchFilter": self.found,
            "orderByKey": columns[0],
            "orderByAsc": False,
            "startTime": "ALL",
            "lifecycleFilter": "Active",
            "modelVersionFilter": "All Runs",
            "datasetsFilter": [],
            "selectedColumns": [*columns, *(f"tags.`{name}`" for name in tags)],
            "groupBy": {
                "aggregateFunction": "average",
                "groupByKeys": [{"mode": "tag", "groupByData": "bench.structure"}],
            },
            "runsHiddenMode": f"FIRST_{_SHOWN_RUNS}_RUNS",
            "useGroupedValuesInCharts": False,
            "compareRunSections": [
                {"uuid": self.key, "name": self.name, "display": True, "isReordered": True}
            ],
            "compareRunCharts": [
                _chart(kind, name, self.key) for name, kind in self.charts.items()
            ],
            "isAccordionReordered": True,
        }


def _chart(kind: str, metric: str, section: str) -> dict[str, Any]:
    common = {
        "type": kind,
        "uuid": f"{section} {metric}",
        "metricSectionId": section,
        "metricKey": metric,
        "dataAccessKey": metric,
        "deleted": False,
        "isGenerated": False,
    }
    if kind == _BARS:
        return common | {"runsCountToCompare": _SHOWN_RUNS}
    return common | {
        "selectedMetricKeys": [metric],
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "lineSmoothness": 0,
        "range": {},
    }


_BARS, _LINES = "BAR", "LINE"
_SCORES = tuple(f"test/{name}" for name in (HEADLINE, "iou", "instance_f1"))
VIEWS = (
    _RunsView(
        "test scores",
        "bench-test-scores",
        "tags.`bench.step` = 'evaluate' AND tags.`bench.split` = 'test'",
        _SCORES,
        dict.fromkeys(_SCORES, _BARS),
    ),
    _RunsView(
        "trainings",
        "bench-trainings",
        "metrics.`best/dice` >= 0",
        ("best/dice",),
        {"best/dice": _BARS, "val/dice": _LINES, "train/loss": _LINES},
    ),
)


def write_views(store: Store) -> list[Experiment]:
    """Keeps the views in every experiment that has scores; returns these, newest first.

    Runs of mistyped commands are removed first.
    """
    shown = []
    for experiment in store.client.search_experiments(order_by=["last_update_time DESC"]):
        remove_mistyped(store, experiment.experiment_id)
        if not store.client.search_runs([experiment.experiment_id], VIEWS[0].found, max_results=1):
            continue
        for view in VIEWS:
            name, text = f"{_SHARED}{view.key}", json.dumps(view.state())
            if experiment.tags.get(name) != text:
                store.client.set_experiment_tag(experiment.experiment_id, name, text)
        shown.append(experiment)
    return shown


def _find_page(store: Store, experiment_id: str) -> Path | None:
    """The page of an experiment's newest comparison, where it is on this machine."""
    for run in search(store, experiment_id, {"bench.step": "compare"}, finished=True):
        page = Path(str(run.info.artifact_uri).removeprefix("file://")) / PAGE_FILE
        if page.is_file():
            return page
    return None


def describe_links(store: Store, address: str) -> list[str]:
    """A line for every experiment with results, and where they are seen."""
    lines = []
    try:
        experiments = write_views(store)
    except MlflowException as error:
        return [f"the views could not be prepared ({error})"]
    for experiment in experiments:
        page = _find_page(store, experiment.experiment_id)
        lines.append(f"Experiment {experiment.name}:")
        if page:
            lines.append(f"  the page     {page.as_uri()}")
        runs = f"{address}/#/experiments/{experiment.experiment_id}/runs?{_TRAINING}"
        lines += [f"  {view.name:<12} {runs}&viewStateShareKey={view.key}" for view in VIEWS]
    return [*lines, f"All runs: {address}/#/experiments?{_TRAINING}"]


if __name__ == "__main__":
    opened = open_store()
    sys.stdout.write("\n".join(describe_links(opened, f"http://localhost:{sys.argv[1]}")) + "\n")
