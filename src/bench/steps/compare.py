"""The benchmark table of everything that was evaluated."""

import json
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.comparisons import compare_pairs, mean_ranks
from bench.config import AUTO, NONE, CompareConfig
from bench.data.prepared import PreparedDataset
from bench.errors import BenchError
from bench.inference.symmetries import find_augmentations
from bench.methods import METHODS, variant_name, variant_order
from bench.references import read_reference
from bench.steps.compare_report import Findings, print_findings, write_findings
from bench.steps.evaluation_report import SCORES_FILE
from bench.structures import STRUCTURES
from bench.tables import ScoreRecord, benchmark_table
from bench.tracking.queries import (
    Cell,
    FoundRun,
    fetch_artifact,
    find_evaluations,
    find_trainings,
)
from bench.tracking.runs import Identity, open_run
from bench.tracking.store import Store, experiment_id_of, open_store

log = logging.getLogger(__name__)

NO_MEAN = "micro-SAM finds instances, whose ids have no mean over symmetries"


def compare(
    config: CompareConfig,
    store: Store | None = None,
    parent: str | None = None,
    failures: Mapping[Cell, str] | None = None,
) -> str:
    """Prints and writes the benchmark table; returns the id of the run that keeps it.

    Args:
        config: The settings.
        store: The tracking store; opened if not given.
        parent: Id of the run that this one is a child of.
        failures: Why cells have no score, where that is known; an older score of such a cell is
            left out.

    Raises:
        BenchError: If there is no such experiment or dataset, nothing was evaluated, or the
            reference cannot be read.
    """
    published = [] if config.reference == NONE else read_reference(Path(config.reference))
    store = store or open_store()
    experiment = experiment_id_of(store, config.experiment)
    digest = find_digest(config.dataset)
    records = collect_records(store, experiment, config, digest, failures or {})
    if not any(record.scores for record in records):
        raise BenchError(
            f"there must be an evaluation to tabulate, the experiment has none of split "
            f"{config.split} with protocol {config.protocol} and augmentations "
            f"{config.augmentations}: run evaluate or benchmark first"
        )
    structures = order_names(STRUCTURES, {record.structure for record in records})
    methods = sorted({record.method for record in records}, key=variant_order)
    rows = benchmark_table(records, methods, structures)
    findings = Findings(
        rows, published, records, compare_pairs(records, structures), mean_ranks(rows)
    )
    print_findings(findings, Console())
    files = write_findings(findings, Path(config.output))
    identity = Identity("compare", config.identity(), {"experiment": experiment}, dataset=digest)
    with open_run(store, identity, parent=parent, reuse=False) as run:
        run.log_params(vars(config))
        for file in files:
            run.log_file(file)
        log.info("written: %s (run %s)", ", ".join(str(file) for file in files), run.id)
    return run.id


def find_digest(dataset: str) -> str:
    """The content hash of a dataset given by its folder or (start of its) hash; empty for auto."""
    if dataset == AUTO:
        return ""
    if re.fullmatch("[0-9a-f]{8,64}", dataset) and not Path(dataset).exists():
        return dataset
    return PreparedDataset.open(dataset).content_hash


def collect_records(
    store: Store,
    experiment: str,
    config: CompareConfig,
    digest: str,
    failures: Mapping[Cell, str],
) -> list[ScoreRecord]:
    """One record per cell and seed: of the newest evaluation, else why there is none."""
    records = {cell: reason_record(cell, reason) for cell, reason in failures.items()}
    labels: dict[str, str] = {}
    trainings = {training.id: training for training in find_trainings(store, experiment)}
    for evaluation in find_evaluations(store, experiment, config.split, config.protocol):
        cell = evaluation.cell
        if evaluation.augmentations != wanted_augmentations(cell, config):
            continue
        labels.setdefault(cell.dataset, evaluation.dataset_label)
        if cell.dataset.startswith(digest) and cell not in records:
            costs = sum_costs(evaluation, trainings)
            records[cell] = replace(scored_record(store, evaluation, config), costs=costs)
    for training in trainings.values():
        cell = training.cell
        labels.setdefault(cell.dataset, training.dataset_label)
        if cell.dataset.startswith(digest) and cell not in records:
            records[cell] = reason_record(cell, why_no_score(training, config))
    # Folders of other names may hold the same dataset: the newest name stands for all.
    return [replace(record, dataset=labels[record.dataset]) for record in records.values()]


def scored_record(store: Store, evaluation: FoundRun, config: CompareConfig) -> ScoreRecord:
    """The record of an evaluation, with its scores per section."""
    scores = json.loads(fetch_artifact(store, evaluation.id, SCORES_FILE).read_text())
    return ScoreRecord(
        **identify_cell(evaluation.cell),
        run_id=evaluation.id,
        scores=scores["pooled"],
        section_scores=scores["sections"],
        warnings=(*evaluation.warnings, *describe_augmentations(evaluation, config.augmentations)),
    )


def wanted_augmentations(cell: Cell, config: CompareConfig) -> str:
    """The augmentations of the evaluation that stands for a cell; instances have none."""
    method = METHODS.get(cell.method)
    return config.augmentations if method is None or method.augmentable else NONE


def describe_augmentations(evaluation: FoundRun, choice: str) -> list[str]:
    """What the table says of a score in a table of test-time augmentation."""
    if choice == NONE:
        return []
    if evaluation.augmentations == NONE:
        return [f"without augmentations={choice}: {NO_MEAN}"]
    number = len(find_augmentations(choice))
    return [f"mean over {number} symmetries (augmentations={choice})"]


def sum_costs(evaluation: FoundRun, trainings: Mapping[str, FoundRun]) -> dict[str, float]:
    """What the model of an evaluation cost; a row that starts from another's has its time too."""
    costs = dict(evaluation.costs)
    training = trainings.get(evaluation.trained_run)
    if training is None:
        return costs
    costs |= training.costs
    method = METHODS.get(training.cell.method)
    source = trainings.get(training.source_run)
    if method is not None and method.start in METHODS and source is not None:
        stages = (training, source)
        costs["train_seconds"] = sum(stage.costs.get("train_seconds", 0.0) for stage in stages)
    return costs


def reason_record(cell: Cell, reason: str) -> ScoreRecord:
    """The record of a cell without a score."""
    return ScoreRecord(**identify_cell(cell), run_id="", reason=reason)


def identify_cell(cell: Cell) -> dict[str, Any]:
    """What a record says of its cell; fewer labelled sections make a row of their own."""
    fields = vars(cell) | {"method": variant_name(cell.method, cell.labelled)}
    return {name: value for name, value in fields.items() if name != "labelled"}


def why_no_score(training: FoundRun, config: CompareConfig) -> str:
    """Why a training was not evaluated."""
    if training.status == "FINISHED":
        choice = wanted_augmentations(training.cell, config)
        how = config.split if choice == NONE else f"{config.split} with augmentations={choice}"
        return f"trained, not evaluated on {how}: evaluate run {training.id}"
    if training.status == "RUNNING":
        return f"training has not ended (run {training.id})"
    return f"training {training.status.lower()}: {training.reason or 'no reason known'}"


def order_names(table: Iterable[str], found: set[str]) -> list[str]:
    """The names found, those of a literal table first and in its order."""
    known = [name for name in table if name in found]
    return known + sorted(found - set(known))
