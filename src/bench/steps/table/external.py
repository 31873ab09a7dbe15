"""What models score on other data than they were trained on, beside their scores on their own."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from bench.config.scoring import CompareConfig
from bench.report.external import ExternalRow, TrainedElsewhere, external_rows
from bench.report.tables import ScoreRecord
from bench.steps.table.records import (
    collect_records,
    find_stages,
    read_scores,
    scored_record,
    sum_costs,
    wanted_augmentations,
)
from bench.tracking.newest import newest_trainings
from bench.tracking.queries import FoundRun
from bench.tracking.store import Store


def find_external(
    store: Store,
    experiment: str,
    config: CompareConfig,
    digest: str,
    evaluations: Sequence[FoundRun],
) -> list[ExternalRow]:
    """The newest scores of every cell on other data; empty where there are none.

    Args:
        store: The tracking store.
        experiment: Id of the experiment that is compared.
        config: The settings of compare.
        digest: Content hash, or its start, of a dataset that they were trained or scored on;
            empty for any.
        evaluations: The newest of the experiment.
    """
    chosen = [
        run
        for run in evaluations
        if run.trained_on
        and run.augmentations == wanted_augmentations(run.cell, config)
        and (run.cell.dataset.startswith(digest) or _digest_of(run).startswith(digest))
    ]
    if not chosen:
        return []
    own = _find_own(chosen, (run for run in evaluations if not run.trained_on))
    labels: dict[str, str] = {}
    for run in chosen:
        labels.setdefault(run.cell.dataset, run.dataset_label)
        labels.setdefault(_digest_of(run), _label_of(run))
    stages = find_stages(store, experiment, chosen, newest_trainings(store, experiment))

    def record_of(runs: Iterable[FoundRun]) -> list[ScoreRecord]:
        found = read_scores(store, list(runs))
        made = (scored_record(r, labels, s, sum_costs(r, stages), config) for r, s in found)
        return [record for record in made if record.scores]

    groups = [
        TrainedElsewhere(
            labels[origin],
            record_of(run for run in chosen if _digest_of(run) == origin),
            record_of(run for run in own if run.cell.dataset == origin),
        )
        for origin in dict.fromkeys(map(_digest_of, chosen))
    ]
    wanted = {(run.cell.dataset, run.cell.structure) for run in chosen}
    # What was trained there, for comparison. Its dataset may have another name in other runs.
    at_home = [
        replace(record, dataset=labels[digest])
        for digest in dict.fromkeys(digest for digest, _ in wanted)
        for record in collect_records(store, experiment, config, digest, evaluations)
        if record.scores and (digest, record.structure) in wanted
    ]
    return external_rows(groups, at_home, config.metric)


def _find_own(chosen: Iterable[FoundRun], evaluations: Iterable[FoundRun]) -> list[FoundRun]:
    """Of the evaluations on their own data, those of the very models that are scored on other."""
    models = {(run.trained_run, run.cell.structure, run.augmentations) for run in chosen}
    return [
        run
        for run in evaluations
        if (run.trained_run, run.cell.structure, run.augmentations) in models
    ]


def _digest_of(run: FoundRun) -> str:
    """Content hash of what its model was trained on."""
    return run.trained_on.rpartition("@")[2]


def _label_of(run: FoundRun) -> str:
    """What its model was trained on, as people read it."""
    name, _, digest = run.trained_on.rpartition("@")
    return f"{name}@{digest[:8]}"
