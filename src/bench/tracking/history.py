"""What the store knows of single runs, beyond their scores."""

from datetime import UTC, datetime

from mlflow.exceptions import MlflowException

from bench.tracking.store import Store


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


def metric_history(store: Store, run_id: str, metric: str) -> list[tuple[int, float]]:
    """Step and value of a metric, by step; empty if the run never logged it or is gone."""
    try:
        history = store.client.get_metric_history(run_id, metric)
    except MlflowException:
        return []
    # What a resumed run logged again counts once.
    return sorted({point.step: float(point.value) for point in history}.items())
