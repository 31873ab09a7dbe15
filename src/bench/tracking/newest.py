"""The newest run of every cell, however many older ones there are."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mlflow.entities import Metric, Param, RunData, RunInfo, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlParam, SqlRun, SqlTag
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import ColumnElement, Connection, Engine, and_, select
from sqlalchemy.orm import aliased

from bench.tracking.queries import (
    RUN_METRICS,
    RUN_PARAMS,
    RUN_TAGS,
    TRAINED_ON_TAG,
    TRAINING_STEPS,
    Cell,
    FoundRun,
    read_run,
)
from bench.tracking.runs import PSEUDO_TAG
from bench.tracking.searching import condition_of, search_pages
from bench.tracking.store import Store
from bench.tracking.unseen import newest_of_each

# Ids in one question: a database takes 999 values at least.
IDS = 900
# Ids in one search: mlflow takes long to read a long condition.
IDS_PER_SEARCH = 200
# The tags by which cells, and scores of a cell that stand for themselves, are told apart.
_KEY_TAGS = (
    *("bench.method", "bench.structure", "bench.dataset", "bench.seed", "bench.labelled"),
    *("bench.augmentations", TRAINED_ON_TAG, PSEUDO_TAG),
)


def engine_of(store: Store) -> Engine | None:
    """The database behind a store; None where it is a server's."""
    behind = getattr(getattr(store.client, "_tracking_client", None), "store", None)
    return behind.engine if isinstance(behind, SqlAlchemyStore) else None


def _list_runs(
    engine: Engine, experiment_id: str, wanted: Mapping[str, str], *, status: str | None
) -> Iterator[tuple[str, tuple[str | None, ...]]]:
    """Yields the id of every run that has the wanted tags, newest first, and its key tags.

    A status of None is any; the value of a tag that a run does not have is None.
    """
    columns: list[Any] = []
    question: Any = select(SqlRun.run_uuid).where(*_present(experiment_id))
    if status is not None:
        question = question.where(SqlRun.status == status)
    for name, value in wanted.items():
        tag = aliased(SqlTag)
        has_it = and_(tag.run_uuid == SqlRun.run_uuid, tag.key == name, tag.value == value)
        question = question.join(tag, has_it)
    for name in _KEY_TAGS:
        tag = aliased(SqlTag)
        question = question.outerjoin(tag, and_(tag.run_uuid == SqlRun.run_uuid, tag.key == name))
        columns.append(tag.value)
    question = question.add_columns(*columns)
    # The order of mlflow's search.
    question = question.order_by(SqlRun.start_time.desc(), SqlRun.run_uuid)
    with engine.connect() as connection:
        for run_id, *values in connection.execute(question):
            yield run_id, tuple(values)


def _read_runs(engine: Engine, experiment_id: str, ids: Sequence[str]) -> Iterator[MlflowRun]:
    """Yields the runs of these ids, in their order, with what ``read_run`` reads of them."""
    with engine.connect() as connection:
        for start in range(0, len(ids), IDS):
            part = ids[start : start + IDS]
            tables = [
                _read_values(connection, SqlTag, part, RUN_TAGS),
                _read_values(connection, SqlLatestMetric, part, RUN_METRICS),
                _read_values(connection, SqlParam, part, RUN_PARAMS),
            ]
            question = select(SqlRun).where(SqlRun.run_uuid.in_(part), *_present(experiment_id))
            rows = {row.run_uuid: row for row in connection.execute(question)}
            yield from (_make_run(rows[run_id], *tables) for run_id in part if run_id in rows)


def _present(experiment_id: str) -> tuple[ColumnElement[bool], ...]:
    return SqlRun.experiment_id == int(experiment_id), SqlRun.lifecycle_stage == "active"


def _read_values(
    connection: Connection, table: Any, ids: Sequence[str], names: Sequence[str]
) -> dict[str, list[tuple[str, Any]]]:
    """The named tags, metrics or parameters of some runs: run -> (name, value)."""
    found: dict[str, list[tuple[str, Any]]] = {}
    is_nan = [table.is_nan] if table is SqlLatestMetric else []
    rows = connection.execute(
        select(table.run_uuid, table.key, table.value, *is_nan).where(
            table.run_uuid.in_(ids), table.key.in_(names)
        )
    )
    for run_id, name, value, *nan in rows:
        # mlflow keeps NaN as a zero that says so.
        found.setdefault(run_id, []).append((name, float("nan") if any(nan) else value))
    return found


def _make_run(
    row: Any,
    tags: Mapping[str, list[tuple[str, Any]]],
    metrics: Mapping[str, list[tuple[str, Any]]],
    params: Mapping[str, list[tuple[str, Any]]],
) -> MlflowRun:
    run_id = row.run_uuid
    info = RunInfo(
        run_id=run_id,
        experiment_id=str(row.experiment_id),
        user_id="",
        status=row.status,
        start_time=row.start_time,
        end_time=row.end_time,
        lifecycle_stage="active",
        artifact_uri=row.artifact_uri,
    )
    data = RunData(
        metrics=[Metric(name, value, 0, 0) for name, value in metrics.get(run_id, ())],
        params=[Param(name, value) for name, value in params.get(run_id, ())],
        tags=[RunTag(name, value) for name, value in tags.get(run_id, ())],
    )
    return MlflowRun(info, data)


def newest_evaluations(
    store: Store, experiment_id: str, split: str, protocol: str
) -> list[FoundRun]:
    """The newest finished evaluation of every cell and choice of augmentations, newest first.

    Those of models on other data than they were trained on, which say so, stand for themselves.
    """
    wanted = {"bench.step": "evaluate", "bench.split": split, "bench.protocol": protocol}
    return _find_newest(store, experiment_id, wanted, finished=True)


def newest_combinations(store: Store, experiment_id: str, split: str) -> list[FoundRun]:
    """The newest finished search of every structure, dataset and metric that is scored so."""
    wanted = {"bench.step": "optimize", "bench.split": split}
    return _find_newest(store, experiment_id, wanted, finished=True)


def newest_trainings(store: Store, experiment_id: str) -> list[FoundRun]:
    """The newest training of every cell, finished or not."""
    return [
        run
        for step in TRAINING_STEPS
        for run in _find_newest(store, experiment_id, {"bench.step": step}, finished=False)
    ]


def _find_newest(
    store: Store, experiment_id: str, wanted: Mapping[str, str], *, finished: bool
) -> list[FoundRun]:
    """The newest of the runs with these tags, of every cell and choice of augmentations.

    Memory grows with the number of cells, not of runs.
    """
    engine = engine_of(store)
    if engine is None:
        condition = condition_of(wanted, finished=finished)
        return _keep_newest(_read(newest_of_each(store, experiment_id, condition, _KEY_TAGS)))
    ids: dict[tuple[str | None, ...], str] = {}
    status = "FINISHED" if finished else None
    for run_id, tags in _list_runs(engine, experiment_id, wanted, status=status):
        ids.setdefault(tags, run_id)
    return _keep_newest(select_runs(store, experiment_id, ids.values()))


def _keep_newest(runs: Iterable[FoundRun]) -> list[FoundRun]:
    newest: dict[tuple[Cell, str, str], FoundRun] = {}
    for run in runs:
        newest.setdefault((run.cell, run.augmentations, run.trained_on), run)
    return list(newest.values())


def select_runs(store: Store, experiment_id: str, ids: Iterable[str]) -> Iterator[FoundRun]:
    """Yields the runs of these ids that are in the experiment, in any order."""
    wanted = [run_id for run_id in dict.fromkeys(ids) if run_id.isalnum()]
    yield from _read(_select_found(store, experiment_id, wanted))


def _read(runs: Iterable[MlflowRun]) -> Iterator[FoundRun]:
    for run in runs:
        # What `mlflow run` made for a run that was there already has no seed.
        if "bench.seed" in run.data.tags:
            yield read_run(run)


def _select_found(store: Store, experiment_id: str, ids: Sequence[str]) -> Iterator[MlflowRun]:
    engine = engine_of(store)
    if engine is not None:
        yield from _read_runs(engine, experiment_id, ids)
        return
    for start in range(0, len(ids), IDS_PER_SEARCH):
        named = ", ".join(f"'{run_id}'" for run_id in ids[start : start + IDS_PER_SEARCH])
        yield from search_pages(store, experiment_id, f"attributes.run_id IN ({named})")
