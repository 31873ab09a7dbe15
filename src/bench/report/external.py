"""Models scored on other data than they were trained on, and what they lose there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bench.metrics.table import HEADLINE, METRICS
from bench.report.data_facts import merge_facts
from bench.report.intervals import difference_interval
from bench.report.serial import measure_dependence
from bench.report.tables import (
    ScoreRecord,
    TableRow,
    benchmark_table,
    group_records,
    section_means,
)
from bench.report.variants import variant_order
from bench.structures import order_structures


@dataclass(frozen=True)
class _Change:
    """How a method scores on other data, less how it scores on its own.

    Attributes:
        difference: Mean score of a section of the other data less that of a section of its own,
            each section averaged over the seeds that both have.
        interval: Its 95 % bootstrap interval over the sections of both; None below two in either.
        sections: Sections of its own data that were scored.
        other_sections: Sections of the other data that were scored.
        seeds: The seeds that both have.
        independent: As many independent sections of its own data would tell as much; None where
            they count as independent.
        other_independent: The same of the other data.
    """

    difference: float
    interval: tuple[float, float] | None
    sections: int
    other_sections: int
    seeds: tuple[int, ...]
    independent: float | None = None
    other_independent: float | None = None


@dataclass(frozen=True)
class ExternalRow:
    """One method on one structure of a dataset, and what it was trained on.

    Attributes:
        row: Its scores there; no value is marked as best.
        trained_on: Name or content hash of what it was trained on; that of ``row`` for a method
            that was trained there.
        own_scores: Mean of each metric over its seeds on its own data; empty where the same
            models have no scores there, and where it was trained there.
        change: What it loses or gains; None where that is not known.
    """

    row: TableRow
    trained_on: str
    own_scores: Mapping[str, float] = field(default_factory=dict)
    change: _Change | None = None

    @property
    def at_home(self) -> bool:
        """Whether it was trained on what it is scored on."""
        return self.trained_on == self.row.dataset


@dataclass(frozen=True)
class TrainedElsewhere:
    """The records of models that were trained on one dataset and scored on others.

    Attributes:
        trained_on: Name or content hash of that dataset.
        external: Their records on the others.
        own: Records of the same models, where they have them, on that dataset.
    """

    trained_on: str
    external: Sequence[ScoreRecord]
    own: Sequence[ScoreRecord]


def external_rows(
    groups: Sequence[TrainedElsewhere],
    at_home: Sequence[ScoreRecord] = (),
    metric: str = HEADLINE,
) -> list[ExternalRow]:
    """The rows of all that was scored on other data, by what they are scored on.

    Args:
        groups: The models, by what they were trained on.
        at_home: Records of models that were trained on what others are scored on.
        metric: What intervals and changes are of.
    """
    found = [ExternalRow(row, row.dataset) for row in _tabulate(at_home, metric)]
    for group in groups:
        own = group_records(group.own)
        other = group_records(group.external)
        for row in _tabulate(group.external, metric):
            same = own.get((row.method, row.structure, group.trained_on), [])
            records = other[row.method, row.structure, row.dataset]
            averages = _tabulate(same, metric)[0].scores if same else {}
            change = measure_change(same, records, metric)
            found.append(ExternalRow(row, group.trained_on, averages, change))
    datasets = list(dict.fromkeys(row.row.dataset for row in found if not row.at_home))
    shown = [row for row in found if row.row.dataset in datasets]
    # What was trained there comes first, for comparison.
    return sorted(shown, key=lambda e: (datasets.index(e.row.dataset), not e.at_home, e.trained_on))


def _tabulate(records: Sequence[ScoreRecord], metric: str) -> list[TableRow]:
    methods = sorted({record.method for record in records}, key=variant_order)
    structures = order_structures(record.structure for record in records)
    rows = benchmark_table(records, methods, structures, metric)
    return [replace(row, best=frozenset()) for row in rows]


def measure_change(
    own: Sequence[ScoreRecord], other: Sequence[ScoreRecord], metric: str
) -> _Change | None:
    """Compares a method on other data with itself on its own; None without a common seed.

    Args:
        own: Its records on its own data, one a seed.
        other: Those on the other data.
        metric: What is compared.
    """
    both = [[record for record in records if record.scores] for records in (own, other)]
    seeds = set.intersection(*({record.seed for record in records} for records in both))
    scores = [section_means((r for r in records if r.seed in seeds), metric) for records in both]
    if not all(scores):
        return None
    here, there = (list(each.values()) for each in scores)
    dependence, other_dependence = (
        measure_dependence(each, merge_facts(record.data for record in records).unit)
        for each, records in zip(scores, both, strict=True)
    )
    span = METRICS[metric].span
    return _Change(
        float(np.mean(there) - np.mean(here)),
        difference_interval(
            there, here, limits=(-span, span), dependences=(other_dependence, dependence)
        ),
        len(here),
        len(there),
        tuple(sorted(seeds)),
        dependence.effective if dependence else None,
        other_dependence.effective if other_dependence else None,
    )
