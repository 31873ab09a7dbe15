"""The benchmark table: the scores of runs, averaged over seeds, with their uncertainty."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bench.errors import BenchError
from bench.metrics.table import HEADLINE, METRICS
from bench.report.data_facts import DataFacts, merge_facts
from bench.report.intervals import section_interval
from bench.report.variants import is_oracle_variant, variant_label


@dataclass(frozen=True)
class ScoreRecord:
    """The scores of one evaluated run, or why there are none.

    Attributes:
        method: Row of METHODS, or any other name.
        structure: What was segmented.
        dataset: Name or content hash of the prepared dataset.
        seed: Seed of the run.
        run_id: Run the scores come from; empty where nothing ran.
        scores: Value of each metric over the whole split.
        section_scores: The same per section: section -> metric -> value.
        reason: Why the cell was not run; None where it was.
        warnings: What a reader of the scores must know.
        costs: What the run took: training time, parameters, GPU memory, speed of prediction.
        data: What was scored, as far as the run says it.

    Raises:
        BenchError: If a record has both scores and a reason or neither, or a score that is not
            a finite number (leave out a score that is not defined).
    """

    method: str
    structure: str
    dataset: str
    seed: int
    run_id: str
    scores: Mapping[str, float] = field(default_factory=dict)
    section_scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    reason: str | None = None
    warnings: tuple[str, ...] = ()
    costs: Mapping[str, float] = field(default_factory=dict)
    data: DataFacts = field(default_factory=DataFacts)

    def __post_init__(self) -> None:
        cell = f"{self.method} on {self.structure}, seed {self.seed}"
        if bool(self.scores) == bool(self.reason):
            received = "both" if self.scores else "neither"
            raise BenchError(
                f"a record has either scores or a reason, received {received} for {cell}: "
                "give the one that applies"
            )
        for scores in (self.scores, *self.section_scores.values()):
            for metric, value in scores.items():
                if not math.isfinite(value):
                    raise BenchError(
                        f"scores must be finite, received {metric}={value} for {cell}: "
                        "leave out a score that is not defined"
                    )


@dataclass(frozen=True)
class TableRow:
    """One method on one structure of one dataset.

    Attributes:
        method: Row of METHODS, or any other name.
        label: Its name in the table.
        structure: What was segmented.
        dataset: Name or content hash of the prepared dataset.
        seeds: Seeds that were scored, ascending.
        run_ids: The run of each seed.
        scores: Mean of each metric over the seeds; empty where nothing was scored.
        deviations: Standard deviation (n - 1) over the seeds that have the metric; only metrics
            with several seeds.
        interval: 95 % interval of the mean ``metric`` of a section, each section averaged over
            seeds first; None with fewer than two sections.
        sections: Number of sections the interval rests on.
        independent: As many independent sections would tell as much of the mean; None where they
            count as independent.
        reason: Why the cell, or a seed of it, was not scored.
        warnings: What a reader of the scores must know.
        best: Metrics in which no method is better on this structure and dataset.
        costs: Mean of each cost over the seeds.
        published: Whether the scores are from a publication, of other data than ours.
        metric: What intervals, charts and ranks are of.
        data: What was scored, as far as a run says it.
    """

    method: str
    label: str
    structure: str
    dataset: str
    seeds: tuple[int, ...]
    run_ids: tuple[str, ...]
    scores: Mapping[str, float]
    deviations: Mapping[str, float]
    interval: tuple[float, float] | None
    sections: int
    reason: str | None
    warnings: tuple[str, ...] = ()
    best: frozenset[str] = frozenset()
    costs: Mapping[str, float] = field(default_factory=dict)
    published: bool = False
    metric: str = HEADLINE
    data: DataFacts = field(default_factory=DataFacts)
    independent: float | None = None

    @property
    def oracle(self) -> bool:
        """Whether it reads the truth, and is therefore compared with no other row."""
        return is_oracle_variant(self.method)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the table says below of this row."""
        return tuple(" ".join(note.split()) for note in (self.reason, *self.warnings) if note)

    @property
    def n(self) -> int:
        """Number of seeds scored."""
        return len(self.seeds)


def benchmark_table(
    records: Sequence[ScoreRecord],
    methods_order: Sequence[str],
    structures_order: Sequence[str],
    metric: str = HEADLINE,
) -> list[TableRow]:
    """Averages records over seeds into the rows of the benchmark table.

    Rows are ordered as in the paper: by dataset, then method, then structure. What was never tried
    has no row. Names that the orders lack follow at the end, in order of appearance.

    Args:
        records: At most one per method, structure, dataset and seed.
        methods_order: Methods, in the order of the rows.
        structures_order: Structures, in the order of the rows.
        metric: What the intervals are of.

    Raises:
        BenchError: If two records share method, structure, dataset and seed.
    """
    _check_unique(records)
    methods = list(dict.fromkeys([*methods_order, *(record.method for record in records)]))
    structures = list(dict.fromkeys([*structures_order, *(record.structure for record in records)]))
    datasets = list(dict.fromkeys(record.dataset for record in records))
    members = group_records(records)
    rows = [
        _summarise_cell(members[method, structure, data], method, structure, data, metric)
        for data in datasets
        for method in methods
        for structure in structures
        if (method, structure, data) in members
    ]
    return mark_best(rows)


def group_records(records: Iterable[ScoreRecord]) -> dict[tuple[str, str, str], list[ScoreRecord]]:
    """The records of each row, by method, structure and dataset."""
    members: dict[tuple[str, str, str], list[ScoreRecord]] = {}
    for record in records:
        key = (record.method, record.structure, record.dataset)
        members.setdefault(key, []).append(record)
    return members


def _check_unique(records: Sequence[ScoreRecord]) -> None:
    seen: dict[tuple[str, str, str, int], str] = {}
    for record in records:
        key = (record.method, record.structure, record.dataset, record.seed)
        if key in seen:
            raise BenchError(
                "the table takes one record per method, structure, dataset and seed, received "
                f"runs {seen[key]!r} and {record.run_id!r} of {record.method} on "
                f"{record.structure}, seed {record.seed}: keep one of them"
            )
        seen[key] = record.run_id


def _summarise_cell(
    records: Sequence[ScoreRecord], method: str, structure: str, dataset: str, metric: str
) -> TableRow:
    """Averages the records of one cell over seeds; no best value is marked yet."""
    scored = sorted((r for r in records if r.reason is None), key=lambda r: r.seed)
    values = _collect(record.scores for record in scored)
    sections = section_means(scored, metric)
    shown, data = METRICS[metric], merge_facts(record.data for record in records)
    interval, dependence = section_interval(
        sections, limits=(shown.low, shown.high), unit=data.unit
    )
    return TableRow(
        method=method,
        label=variant_label(method),
        structure=structure,
        dataset=dataset,
        seeds=tuple(record.seed for record in scored),
        run_ids=tuple(record.run_id for record in scored),
        scores=_average(record.scores for record in scored),
        deviations={
            name: float(np.std(seeds, ddof=1)) for name, seeds in values.items() if seeds[1:]
        },
        interval=interval,
        sections=len(sections),
        reason=_reason(records),
        warnings=_warnings(scored),
        costs=_average(record.costs for record in scored),
        metric=metric,
        data=data,
        independent=dependence.effective if dependence else None,
    )


def mark_best(rows: Sequence[TableRow]) -> list[TableRow]:
    """Marks the best value of each structure, dataset and metric.

    Values that print alike tie and are all marked. What says nothing is not: the worst that can be,
    such as a Dice of zero; a value that all rows have; instances of an annotation that has none to
    tell apart. Which value of a metric that is no row of METRICS is the best nobody knows.
    """
    merits: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        for metric, merit in _merits(row).items():
            merits.setdefault((row.dataset, row.structure, metric), []).append(merit)

    def is_best(row: TableRow, metric: str, merit: float) -> bool:
        others = merits[row.dataset, row.structure, metric]
        if row.data.uncounted and METRICS[metric].basis == "instances":
            return False
        return merit == max(others) > -math.inf and merit > min(others)

    return [
        replace(
            row,
            best=frozenset(
                name for name, merit in _merits(row).items() if is_best(row, name, merit)
            ),
        )
        for row in rows
    ]


def _merits(row: TableRow) -> dict[str, float]:
    """Scores of a row as they are printed, the higher the better; minus infinity for the worst.

    None of a row that reads the truth, which is no competitor.
    """
    if row.oracle:
        return {}
    known = {name: METRICS[name] for name in row.scores if name in METRICS}
    printed = {name: round(row.scores[name], known[name].decimals) for name in known}
    return {
        name: -math.inf if value == known[name].ends[0] else known[name].merit(value)
        for name, value in printed.items()
    }


def _collect(scores: Iterable[Mapping[str, float]]) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {}
    for seed in scores:
        for metric, value in seed.items():
            values.setdefault(metric, []).append(value)
    return values


def _average(scores: Iterable[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean(values)) for name, values in _collect(scores).items()}


def section_means(records: Iterable[ScoreRecord], metric: str) -> dict[str, float]:
    """The score of each section that has it, averaged over the seeds that have it."""
    return _average(
        {name: scores[metric] for name, scores in r.section_scores.items() if metric in scores}
        for r in records
    )


def _reason(records: Sequence[ScoreRecord]) -> str | None:
    failed = [record for record in records if record.reason is not None]
    if len(failed) == len(records):
        return "; ".join(dict.fromkeys(str(record.reason) for record in failed))
    return "; ".join(f"seed {r.seed} not scored: {r.reason}" for r in failed) or None


def _warnings(scored: Sequence[ScoreRecord]) -> tuple[str, ...]:
    """The warnings of a cell; with several seeds, each with those that it is about."""
    seeds: dict[str, list[int]] = {}
    for record in scored:
        for warning in record.warnings:
            seeds.setdefault(warning, []).append(record.seed)
    return tuple(
        warning if len(found) == len(scored) else f"seed {', '.join(map(str, found))}: {warning}"
        for warning, found in seeds.items()
    )
