"""The records of the benchmark table: the newest score of every cell, or why there is none."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.config.scoring import CompareConfig
from bench.errors import BenchError
from bench.inference.symmetries import find_augmentations
from bench.methods import METHODS, find_start
from bench.models.networks import find_network
from bench.report.data_facts import DataFacts
from bench.report.tables import ScoreRecord
from bench.report.variants import variant_name
from bench.steps.scoring.score_files import SCORES_FILE, unpack_scores
from bench.structures import split_structures
from bench.tracking.newest import (
    newest_combinations,
    newest_trainings,
    select_runs,
)
from bench.tracking.queries import Cell, FoundRun, fetch_files
from bench.tracking.store import Store
from bench.words import NONE

_NO_MEAN = "its network finds instances, whose ids have no mean over symmetries"


def collect_records(
    store: Store,
    experiment: str,
    config: CompareConfig,
    digest: str,
    evaluations: Sequence[FoundRun],
    failures: Mapping[Cell, str] | None = None,
) -> list[ScoreRecord]:
    """One record per cell and seed: of the newest evaluation, else why there is none.

    Args:
        store: The tracking store.
        experiment: Id of the experiment that is compared.
        config: The settings of compare.
        digest: Content hash of the dataset, or its start; empty for any.
        evaluations: The newest of the experiment. Those on other data than the model's are not
            of the table.
        failures: Why cells have no score, where that is known.
    """
    failures = failures or {}
    evaluations = [evaluation for evaluation in evaluations if not evaluation.trained_on]
    trainings = newest_trainings(store, experiment)
    # Folders of other names may hold the same dataset: the newest name stands for all.
    labels: dict[str, str] = {}
    for run in (*evaluations, *trainings):
        labels.setdefault(run.cell.dataset, run.dataset_label)
    chosen = [
        evaluation
        for evaluation in evaluations
        if evaluation.cell.dataset.startswith(digest)
        and evaluation.augmentations == wanted_augmentations(evaluation.cell, config)
        and evaluation.cell not in failures
    ]
    reasons = {**_find_reasons(trainings, config, digest), **failures}
    for evaluation in chosen:
        reasons.pop(evaluation.cell, None)
    stages = find_stages(store, experiment, chosen, trainings)
    combinations = [
        combination
        for combination in newest_combinations(store, experiment, config.split)
        if combination.cell.dataset.startswith(digest)
    ]
    for run in combinations:
        labels.setdefault(run.cell.dataset, run.dataset_label)
    return [
        *(_reason_record(cell, labels, reason) for cell, reason in reasons.items()),
        *(
            scored_record(evaluation, labels, scores, sum_costs(evaluation, stages), config)
            for evaluation, scores in read_scores(store, chosen)
        ),
        *(
            scored_record(combination, labels, scores, combination.costs, None)
            for combination, scores in read_scores(store, combinations)
        ),
    ]


def _find_reasons(
    trainings: Iterable[FoundRun], config: CompareConfig, digest: str
) -> dict[Cell, str]:
    """Of every cell that was trained, why it has no score, should it have none."""
    reasons: dict[Cell, str] = {}
    for training in trainings:
        # A model of classes has a score of each of its structures.
        for structure in split_structures(training.cell.structure):
            if training.cell.dataset.startswith(digest):
                cell = replace(training.cell, structure=structure)
                reasons.setdefault(cell, _why_no_score(training, config))
    return reasons


def find_stages(
    store: Store, experiment: str, evaluations: Iterable[FoundRun], trainings: Iterable[FoundRun]
) -> dict[str, FoundRun]:
    """The trainings that the evaluations' models come from, and all that those started from."""
    stages = {training.id: training for training in trainings}
    wanted, asked = {run.trained_run for run in evaluations} - {""}, set[str]()
    while wanted:
        stages |= {run.id: run for run in select_runs(store, experiment, wanted - stages.keys())}
        asked |= wanted
        # What is in another experiment, or gone, is asked for once.
        wanted = {stages[run].source_run for run in wanted & stages.keys()} - {""} - asked
    return stages


def read_scores(
    store: Store, evaluations: Sequence[FoundRun]
) -> Iterator[tuple[FoundRun, Mapping[str, Any] | BenchError]]:
    """Yields evaluations with their scores: of the tag, else of the file; else why not."""
    for evaluation in evaluations:
        if evaluation.scores:
            yield evaluation, unpack_scores(evaluation.scores)
    # Many sections do not fit into a tag, and runs of an earlier version have none.
    others = [evaluation for evaluation in evaluations if not evaluation.scores]
    for evaluation, file in zip(others, fetch_files(store, others, SCORES_FILE), strict=True):
        yield evaluation, file if isinstance(file, BenchError) else json.loads(file.read_text())


def scored_record(
    evaluation: FoundRun,
    labels: Mapping[str, str],
    scores: Mapping[str, Any] | BenchError,
    costs: Mapping[str, float],
    config: CompareConfig | None,
) -> ScoreRecord:
    """The record of an evaluation, or of a combination, which no config asks for."""
    if isinstance(scores, BenchError):
        return _reason_record(evaluation.cell, labels, f"evaluated, but {scores}")
    described = _describe_augmentations(evaluation, config.augmentations) if config else []
    return ScoreRecord(
        **_identify_cell(evaluation.cell, labels),
        run_id=evaluation.id,
        scores=scores["pooled"],
        section_scores=scores["sections"],
        warnings=(*evaluation.warnings, *described),
        costs=costs,
        data=DataFacts(**json.loads(evaluation.data or "{}")),
    )


def wanted_augmentations(cell: Cell, config: CompareConfig) -> str:
    """The augmentations of the evaluation that stands for a cell; instances have none."""
    method = METHODS.get(cell.method)
    has_instances = method is not None and find_network(method.network).finds_instances
    return NONE if has_instances else config.augmentations


def _describe_augmentations(evaluation: FoundRun, choice: str) -> list[str]:
    if choice == NONE:
        return []
    if evaluation.augmentations == NONE:
        return [f"without augmentations={choice}: {_NO_MEAN}"]
    method = METHODS.get(evaluation.cell.method)
    if method is not None and find_network(method.network).dims == 3:
        return [f"mean over the symmetries that keep the beam's axis (augmentations={choice})"]
    number = len(find_augmentations(choice))
    return [f"mean over {number} symmetries (augmentations={choice})"]


def sum_costs(evaluation: FoundRun, trainings: Mapping[str, FoundRun]) -> dict[str, float]:
    """What the model of an evaluation cost, with the time of all its stages."""
    costs = dict(evaluation.costs)
    training = trainings.get(evaluation.trained_run)
    if training is None:
        return costs
    costs |= training.costs
    stages = _list_stages(training, trainings)
    if len(stages) > 1:
        costs["train_seconds"] = sum(stage.costs.get("train_seconds", 0.0) for stage in stages)
    return costs


def _list_stages(training: FoundRun, trainings: Mapping[str, FoundRun]) -> list[FoundRun]:
    """The trainings that made a model, the last one first.

    A model that a training started from is a stage of its own where the method starts from
    another row's or from a pretraining, or where it went on from a model of the same row. Any
    other source that a user names is given, as published weights are.
    """
    stages = [training]
    while True:
        last = stages[-1]
        method, source = METHODS.get(last.cell.method), trainings.get(last.source_run)
        if source is None or source in stages:
            return stages
        starts_from_row = method is not None and find_start(method) is not None
        if not (starts_from_row or source.cell.method == last.cell.method):
            return stages
        stages.append(source)


def _reason_record(cell: Cell, labels: Mapping[str, str], reason: str) -> ScoreRecord:
    return ScoreRecord(**_identify_cell(cell, labels), run_id="", reason=reason)


def _identify_cell(cell: Cell, labels: Mapping[str, str]) -> dict[str, Any]:
    """What a record says of its cell; fewer labelled sections make a row of their own."""
    return {
        "method": variant_name(cell.method, cell.labelled, cell.pseudo),
        "structure": cell.structure,
        "dataset": labels[cell.dataset],
        "seed": cell.seed,
    }


def _why_no_score(training: FoundRun, config: CompareConfig) -> str:
    if training.status == "FINISHED":
        choice = wanted_augmentations(training.cell, config)
        how = config.split if choice == NONE else f"{config.split} with augmentations={choice}"
        return f"trained, not evaluated on {how}: evaluate run {training.id}"
    if training.status == "RUNNING":
        return f"training has not ended (run {training.id})"
    return f"training {training.status.lower()}: {training.reason or 'no reason known'}"
