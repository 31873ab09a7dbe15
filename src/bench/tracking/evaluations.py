"""Finished evaluations and searches: what they are of, and where they are."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException

from bench.errors import BenchError
from bench.tracking.queries import TRAINED_ON_TAG, get_finished, step_of
from bench.tracking.runs import PSEUDO_TAG
from bench.tracking.searching import search
from bench.tracking.store import Store

_EVALUATION_STEP = "evaluate"
SEARCH_STEP = "optimize"


@dataclass(frozen=True)
class Evaluation:
    """A finished run of evaluate.

    Attributes:
        id: Its id.
        method: Row of METHODS that it scored.
        structure: What was segmented.
        dataset: Content hash of the dataset.
        split: The split predicted.
        seed: Seed of the model's training.
        labelled: Annotated training sections that it used; None for all.
        protocol: How its post-processing was chosen; empty in runs of an early version.
        trained_run: The run that made the model; empty where a source was scored as it is.
        trained_on: Name and content hash of what the model was trained on, where that is other
            data; empty otherwise.
        pseudo: Which pseudo-masks the model learned from besides; empty for none.
    """

    id: str
    method: str
    structure: str
    dataset: str
    split: str
    seed: int
    labelled: int | None
    protocol: str
    trained_run: str
    trained_on: str = ""
    pseudo: str = ""


def get_evaluation(store: Store, run_id: str) -> Evaluation:
    """Returns a finished evaluation.

    Raises:
        BenchError: If the run does not exist, is not finished, or is of another step.
    """
    return _read_evaluation(get_finished(store, run_id, (_EVALUATION_STEP,), "hold predictions"))


def find_evaluation_of(
    store: Store, trained_run: str, structure: str, **chosen: str
) -> Evaluation | None:
    """Returns the newest finished evaluation of a trained model on its own data; None without one.

    Args:
        store: The tracking store.
        trained_run: The run that made the model.
        structure: What was segmented: a model of classes is evaluated for each of its structures.
        chosen: What else it must be of: ``protocol``, ``augmentations``.
    """
    experiment = str(store.client.get_run(trained_run).info.experiment_id)
    wanted = {
        "bench.step": _EVALUATION_STEP,
        "bench.trained_run": trained_run,
        "bench.structure": structure,
        **{f"bench.{name}": value for name, value in chosen.items()},
    }
    found = next(_search_own(store, experiment, wanted), None)
    return _read_evaluation(found) if found else None


def _search_own(store: Store, experiment_id: str, wanted: Mapping[str, str]) -> Iterator[MlflowRun]:
    """Yields the finished evaluations that are not of other data than their model's."""
    for run in search(store, experiment_id, wanted, finished=True):
        if TRAINED_ON_TAG not in run.data.tags:
            yield run


def list_evaluations(
    store: Store, experiment_id: str, *, structure: str, dataset: str, split: str
) -> Iterator[Evaluation]:
    """Yields the finished evaluations of a structure on a split, newest first.

    Models that were trained on other data are not among them.
    """
    wanted = {
        "bench.step": _EVALUATION_STEP,
        "bench.structure": structure,
        "bench.dataset": dataset,
        "bench.split": split,
    }
    for run in _search_own(store, experiment_id, wanted):
        yield _read_evaluation(run)


def is_evaluation(store: Store, run_id: str) -> bool:
    """Whether a run is of the step evaluate.

    Raises:
        BenchError: If the run does not exist.
    """
    return step_of(store, run_id) == _EVALUATION_STEP


def find_test_score(store: Store, trained_run: str, structure: str, metric: str) -> float | None:
    """A score of a trained model's newest evaluation on the test split; None without one."""
    experiment = str(store.client.get_run(trained_run).info.experiment_id)
    wanted = {"bench.step": _EVALUATION_STEP, "bench.trained_run": trained_run}
    wanted |= {"bench.split": "test", "bench.structure": structure}
    found = next(_search_own(store, experiment, wanted), None)
    return found.data.metrics.get(f"test/{metric}") if found else None


def _read_evaluation(run: MlflowRun) -> Evaluation:
    tags = run.data.tags
    trained = tags.get("bench.trained_run", "none")
    return Evaluation(
        id=run.info.run_id,
        method=tags["bench.method"],
        structure=tags["bench.structure"],
        dataset=tags["bench.dataset"],
        split=tags["bench.split"],
        seed=int(tags.get("bench.seed", 0)),
        labelled=int(tags["bench.labelled"]) if "bench.labelled" in tags else None,
        protocol=tags.get("bench.protocol", ""),
        trained_run="" if trained == "none" else trained,
        trained_on=tags.get(TRAINED_ON_TAG, ""),
        pseudo=tags.get(PSEUDO_TAG, ""),
    )


def find_search(store: Store, experiment_id: str, structure: str) -> str:
    """Returns the id of the newest finished search of a structure.

    Raises:
        BenchError: If there is none.
    """
    wanted = {"bench.step": SEARCH_STEP, "bench.structure": structure}
    found = next(search(store, experiment_id, wanted, finished=True), None)
    if found is None:
        searches = search(store, experiment_id, {"bench.step": SEARCH_STEP}, finished=True)
        others = sorted({str(run.data.tags.get("bench.structure")) for run in searches})
        there = f" (there are searches of {', '.join(others)})" if others else ""
        raise BenchError(
            f"a champion comes from a finished search, there is none of {structure} in this "
            f"experiment{there}: run optimize with structure={structure} first, or give run_id "
            "or experiment"
        )
    return str(found.info.run_id)


def get_search(store: Store, run_id: str) -> str:
    """Returns the id of a finished search; that of another run that a pointer names.

    Raises:
        BenchError: If the run does not exist, is not finished, or is of another step.
    """
    return str(get_finished(store, run_id, (SEARCH_STEP,), "hold a recipe").info.run_id)


def experiment_name(store: Store, experiment_id: str) -> str:
    """Name of an experiment."""
    return str(store.client.get_experiment(experiment_id).name)


def day_of_end(store: Store, run_id: str) -> str:
    """The day (UTC) on which a run ended, year-month-day; of one that goes on, its start."""
    info = store.client.get_run(run_id).info
    moment = datetime.fromtimestamp((info.end_time or info.start_time) / 1000, UTC)
    return moment.date().isoformat()


def trained_run_of(store: Store, evaluation_id: str) -> str:
    """Id of the run that trained what an evaluation scored; empty for a source as it is."""
    tags = store.client.get_run(evaluation_id).data.tags
    return str(tags.get("bench.trained_run", "")).removesuffix("none")


def structure_of(store: Store, evaluation_id: str) -> str:
    """The structure that an evaluation scored."""
    return str(store.client.get_run(evaluation_id).data.tags.get("bench.structure", ""))


def metric_history(store: Store, run_id: str, metric: str) -> list[tuple[int, float]]:
    """Step and value of a metric, by step; empty if the run never logged it or is gone."""
    try:
        history = store.client.get_metric_history(run_id, metric)
    except MlflowException:
        return []
    # What a resumed run logged again counts once.
    return sorted({point.step: float(point.value) for point in history}.items())
