"""Finished evaluations: what their predictions are of, and how instances were made of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mlflow.entities import Run as MlflowRun

from bench.tracking.queries import get_finished, search, step_of
from bench.tracking.store import Store

EVALUATION_STEP = "evaluate"


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
        trained_run: The run that made the model; empty where a source was scored as it is.
        settings: Its resolved settings as texts.
    """

    id: str
    method: str
    structure: str
    dataset: str
    split: str
    seed: int
    labelled: int | None
    trained_run: str
    settings: Mapping[str, str]


def get_evaluation(store: Store, run_id: str) -> Evaluation:
    """Returns a finished evaluation.

    Raises:
        BenchError: If the run does not exist, is not finished, or is of another step.
    """
    return read_evaluation(get_finished(store, run_id, (EVALUATION_STEP,), "hold predictions"))


def find_evaluation_of(store: Store, trained_run: str) -> Evaluation | None:
    """Returns the newest finished evaluation of a trained model; None without one."""
    experiment = str(store.client.get_run(trained_run).info.experiment_id)
    wanted = {"bench.step": EVALUATION_STEP, "bench.trained_run": trained_run}
    found = next(search(store, experiment, wanted, finished=True), None)
    return read_evaluation(found) if found else None


def list_evaluations(
    store: Store, experiment_id: str, *, structure: str, dataset: str, split: str
) -> Iterator[Evaluation]:
    """Yields the finished evaluations of a structure on a split, newest first."""
    wanted = {
        "bench.step": EVALUATION_STEP,
        "bench.structure": structure,
        "bench.dataset": dataset,
        "bench.split": split,
    }
    for run in search(store, experiment_id, wanted, finished=True):
        yield read_evaluation(run)


def is_evaluation(store: Store, run_id: str) -> bool:
    """Whether a run is of the step evaluate.

    Raises:
        BenchError: If the run does not exist.
    """
    return step_of(store, run_id) == EVALUATION_STEP


def read_evaluation(run: MlflowRun) -> Evaluation:
    """Reads a run's tags and parameters."""
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
        trained_run="" if trained == "none" else trained,
        settings={
            name.removeprefix("cfg."): value
            for name, value in run.data.params.items()
            if name.startswith("cfg.")
        },
    )
