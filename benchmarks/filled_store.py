"""A store of many evaluate runs, as evaluate leaves them, written in seconds.

mlflow's client takes some 20 ms a run; here the same rows go in bulk into the tables that mlflow
made. A test-sized store written through the client reads the same (tests/tracking).
"""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.store.tracking.dbmodels import models
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from bench.config.scoring import EvaluateConfig
from bench.methods import FIRST_RELEASE
from bench.steps.scoring.evaluation_report import pack_scores
from bench.tracking.queries import SCORES_TAG
from bench.tracking.runs import Identity

STRUCTURES = ("vesicles", "mitochondria", "membrane")
SECTIONS = 6
DATASET = "d" * 64
SCORES = (
    "dice",
    "iou",
    "precision",
    "recall",
    "instance_precision",
    "instance_recall",
    "instance_f1",
    "instance_f1_mean",
    "panoptic_quality",
    "average_precision",
)
SPEEDS = ("predict/seconds", "predict/megapixels_per_s")
CHUNK = 1000


def fill_store(
    folder: Path, runs: int, seeds: int, *, served: bool, uri: str = ""
) -> tuple[str, str]:
    """Writes a store; returns its address and the id of the experiment.

    Args:
        folder: A new folder for the database and the artifacts.
        runs: Finished evaluations on the test split, of 8 methods x 3 structures x seeds; more than
            that are older versions of the same cells.
        seeds: Number of seeds.
        served: Whether artifacts are those of a server, in its folder ``artifacts``, or are read
            from the folder itself.
        uri: An empty database; an SQLite file in the folder where it is not given.
    """
    folder.mkdir(parents=True)
    uri = uri or f"sqlite:///{folder}/mlflow.db"
    store = SqlAlchemyStore(uri, str(folder / "artifacts"))
    location = "mlflow-artifacts:" if served else str(folder / "artifacts")
    experiment = store.create_experiment("many", artifact_location=location)
    drawn = np.random.default_rng(0)
    for start in range(0, runs, CHUNK):
        rows: dict[Any, list[dict[str, Any]]] = {
            table: [] for table in (models.SqlRun, models.SqlTag, models.SqlParam)
        }
        rows |= {models.SqlLatestMetric: [], models.SqlMetric: []}
        for number in range(start, min(start + CHUNK, runs)):
            row = {"experiment_id": int(experiment)}
            row["artifact_uri"] = f"{location}/{number:032x}/artifacts"
            add_run(rows, number, seeds, row, folder / "artifacts", drawn)
        with store.engine.begin() as connection:
            for model, values in rows.items():
                connection.execute(model.__table__.insert(), values)
    store.engine.dispose()
    return uri, experiment


def add_run(
    rows: dict[Any, list[dict[str, Any]]],
    number: int,
    seeds: int,
    row: dict[str, Any],
    artifacts: Path,
    drawn: np.random.Generator,
) -> None:
    """Adds the rows of a run, and writes its scores file."""
    run, now = f"{number:032x}", 1_700_000_000_000 + 1000 * number
    scores = {name: float(drawn.random()) for name in SCORES}
    metrics = {f"test/{name}": value for name, value in scores.items()}
    metrics |= {name: float(drawn.random()) for name in SPEEDS}
    location = artifacts / run / "artifacts"
    rows[models.SqlRun].append(
        row
        | {
            "run_uuid": run,
            "name": f"evaluate-{number}",
            "source_type": "LOCAL",
            "user_id": "user",
            "status": "FINISHED",
            "start_time": now,
            "end_time": now + 900,
            "lifecycle_stage": "active",
        }
    )
    values = drawn.random((SECTIONS, len(SCORES) - 1)).tolist()
    sections = {f"s{n}": dict(zip(SCORES, row, strict=False)) for n, row in enumerate(values)}
    content = {"split": "test", "pooled": scores, "sections": sections}
    location.mkdir(parents=True)
    (location / "scores.json").write_text(json.dumps(content, indent=2))
    pairs = {
        models.SqlTag: tags_of(number, seeds) | {SCORES_TAG: pack_scores(scores, sections) or ""},
        models.SqlParam: dict(params_of()),
    }
    for model, values in pairs.items():
        rows[model] += [{"run_uuid": run, "key": k, "value": v} for k, v in values.items()]
    values = [
        {"run_uuid": run, "key": k, "value": v, "timestamp": now, "step": 0, "is_nan": False}
        for k, v in metrics.items()
    ]
    rows[models.SqlLatestMetric] += values
    rows[models.SqlMetric] += values


def tags_of(number: int, seeds: int) -> dict[str, str]:
    """The tags of a run."""
    method = FIRST_RELEASE[number % len(FIRST_RELEASE)]
    cell = number // len(FIRST_RELEASE)
    structure, seed = STRUCTURES[cell % len(STRUCTURES)], cell // len(STRUCTURES) % seeds
    identity = Identity("evaluate", {"run": number}, {}, method, structure, DATASET, seed)
    return identity.tags() | {
        "bench.dataset_name": "epfl6",
        "bench.split": "test",
        "bench.protocol": "data",
        "bench.augmentations": "none",
        "bench.trained_run": f"{number + 2**64:032x}",
        "mlflow.runName": identity.name(),
        "mlflow.user": "user",
        "mlflow.source.name": "entrypoints/benchmark.py",
        "mlflow.source.type": "LOCAL",
        "mlflow.parentRunId": "0" * 32,
    }


def params_of() -> Iterator[tuple[str, str]]:
    """The parameters of a run."""
    yield from (
        (f"cfg.{field.name}", str(field.default)) for field in dataclasses.fields(EvaluateConfig)
    )
    known = ("postprocess_origin", "watershed", "weights_sha256", "tile_px", "halo_px", "precision")
    yield from ((f"cfg.{name}", "0123456789abcdef" * 4) for name in known)
