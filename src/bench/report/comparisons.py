"""Pairs of methods compared on the sections and seeds that both were scored on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, product

import numpy as np

from bench.metrics.table import HEADLINE, METRICS
from bench.report.data_facts import merge_facts
from bench.report.intervals import section_interval
from bench.report.power import SMALL_DIFFERENCE, Needed, Spread, measure_spread
from bench.report.serial import smallest_corrected_p
from bench.report.statistics import ALPHA, Significance, holm, mann_whitney_u, wilcoxon_signed_rank
from bench.report.tables import ScoreRecord, TableRow, group_records, section_means
from bench.report.variants import is_oracle_variant
from bench.words import SECTION_UNIT


@dataclass(frozen=True)
class _MethodScores:
    """A method's score of each section, averaged over seeds and by seed, and of the whole split."""

    method: str
    sections: Mapping[str, float]
    seeds: Mapping[int, float]
    unit: str
    by_seed: Sequence[Mapping[str, float]]

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.sections.values())))


@dataclass(frozen=True)
class Comparison:
    """Two methods on one structure of one dataset.

    Attributes:
        dataset: Name or content hash of the prepared dataset.
        structure: What was segmented.
        first: The method of the better mean score of a section.
        second: The other.
        sections: Number of sections that both were scored on.
        difference: Mean over these of the score of first less that of second; None without any.
        interval: Its 95 % interval over sections; None below two.
        over_sections: Wilcoxon signed-rank test of the sections, its p corrected for what
            neighbours have in common; None without any.
        p_holm: Its p, corrected for the pairs of this structure and dataset.
        smallest_p_holm: The smallest corrected p that these numbers of sections can reach.
        over_seeds: Mann-Whitney U test of the seeds; None unless both have two or more.
        seeds_p_holm: Its p, corrected likewise.
        seeds_smallest_p_holm: The smallest that these numbers of seeds can reach.
        metric: What the scores are of.
        unit: What is called a section here: one, or a volume.
        independent: As many independent sections would tell as much of the difference; None where
            they count as independent.
        spread: How the differences vary; None below two sections.
    """

    dataset: str
    structure: str
    first: str
    second: str
    sections: int
    difference: float | None
    interval: tuple[float, float] | None
    over_sections: Significance | None
    p_holm: float | None = None
    smallest_p_holm: float | None = None
    over_seeds: Significance | None = None
    seeds_p_holm: float | None = None
    seeds_smallest_p_holm: float | None = None
    metric: str = HEADLINE
    unit: str = SECTION_UNIT
    independent: float | None = None
    spread: Spread | None = None

    @property
    def distinguishable(self) -> bool:
        """Whether the sections tell the two apart, at 0.05 after correction."""
        return self.p_holm is not None and self.p_holm <= ALPHA

    @property
    def testable(self) -> bool:
        """Whether any outcome on these sections could tell the two apart."""
        return self.smallest_p_holm is not None and self.smallest_p_holm <= ALPHA

    @cached_property
    def needed(self) -> tuple[Needed | None, Needed | None]:
        """What it takes to see the difference, and one of 0.02, where the pair is not told apart.

        None of a difference of zero, and of 0.02 where that is no share of what can be.
        """
        if self.spread is None or self.difference is None or self.distinguishable:
            return None, None
        small = SMALL_DIFFERENCE if METRICS[self.metric].span == 1 else 0.0
        return self.spread.needed(self.difference), self.spread.needed(small)


@dataclass(frozen=True)
class MeanRank:
    """The mean rank of a method over the structures of a dataset; 1 is best."""

    dataset: str
    method: str
    rank: float
    structures: int


def compare_pairs(
    records: Sequence[ScoreRecord], structures_order: Sequence[str], metric: str = HEADLINE
) -> list[Comparison]:
    """Compares every pair of methods per dataset and structure, best methods first.

    Sections are paired by name. The sections of a pair are averaged over the seeds of each
    method first: seeds of a section are no independent observations. Methods that read the truth
    are left out.

    Args:
        records: The records of a benchmark table.
        structures_order: The structures to compare on, in this order.
        metric: What is compared.
    """
    comparisons = []
    datasets = dict.fromkeys(record.dataset for record in records)
    members: dict[tuple[str, str], dict[str, list[ScoreRecord]]] = {}
    for (method, structure, dataset), found in group_records(records).items():
        if is_oracle_variant(method):
            continue
        members.setdefault((dataset, structure), {})[method] = found
    for dataset, structure in product(datasets, structures_order):
        methods = members.get((dataset, structure), {})
        scored = _collect_scores(methods, metric)
        scored.sort(key=lambda scores: -METRICS[metric].merit(scores.mean))
        pairs = [
            _compare_pair(dataset, structure, a, b, metric) for a, b in combinations(scored, 2)
        ]
        comparisons += _correct(pairs)
    return comparisons


def _collect_scores(
    methods: Mapping[str, Sequence[ScoreRecord]], metric: str
) -> list[_MethodScores]:
    collected = []
    for method, records in methods.items():
        seeds = {r.seed: r.scores[metric] for r in records if metric in r.scores}
        if sections := section_means(records, metric):
            unit = merge_facts(record.data for record in records).unit
            by_seed = [section_means([r], metric) for r in records if r.scores]
            collected.append(_MethodScores(method, sections, seeds, unit, by_seed))
    return collected


def _compare_pair(
    dataset: str, structure: str, first: _MethodScores, second: _MethodScores, metric: str
) -> Comparison:
    """Compares two methods; no p is corrected yet."""
    span = METRICS[metric].span
    common = [section for section in first.sections if section in second.sections]
    differences = {name: first.sections[name] - second.sections[name] for name in common}
    interval, dependence = section_interval(differences, limits=(-span, span), unit=first.unit)
    test = wilcoxon_signed_rank(list(differences.values())) if common else None
    if test and dependence:
        p = dependence.correct_p(test.p)
        least = smallest_corrected_p(differences, test.smallest_p)
        test = replace(test, p=p, smallest_p=min(p, least))
    seeds = [list(scores.seeds.values()) for scores in (first, second)]
    return Comparison(
        dataset,
        structure,
        first.method,
        second.method,
        sections=len(common),
        difference=float(np.mean(list(differences.values()))) if common else None,
        interval=interval,
        over_sections=test,
        over_seeds=mann_whitney_u(*seeds) if min(map(len, seeds)) >= 2 else None,
        metric=metric,
        unit=first.unit,
        independent=dependence.effective if dependence else None,
        spread=measure_spread(differences, (first.by_seed, second.by_seed), dependence),
    )


def _correct(pairs: Sequence[Comparison]) -> list[Comparison]:
    """Corrects the p values of the pairs of one structure and dataset.

    The smallest p of every test, corrected together, bound the corrected p from below: the
    correction never lowers a value when another rises.
    """
    of_sections = _correct_tests([pair.over_sections for pair in pairs])
    of_seeds = _correct_tests([pair.over_seeds for pair in pairs])
    return [
        replace(
            pair,
            p_holm=p,
            smallest_p_holm=smallest,
            seeds_p_holm=seeds_p,
            seeds_smallest_p_holm=seeds_smallest,
        )
        for pair, (p, smallest), (seeds_p, seeds_smallest) in zip(
            pairs, of_sections, of_seeds, strict=True
        )
    ]


def _correct_tests(
    tests: Sequence[Significance | None],
) -> list[tuple[float, float] | tuple[None, None]]:
    """The corrected p of each test, and the smallest it could have; None where there is none."""
    made = [test for test in tests if test]
    corrected = zip(
        holm([test.p for test in made]), holm([test.smallest_p for test in made]), strict=True
    )
    return [next(corrected) if test else (None, None) for test in tests]


def mean_ranks(rows: Sequence[TableRow]) -> list[MeanRank]:
    """Ranks the methods per structure by the metric of the table, and averages the ranks.

    Scores that print alike tie and share their mean rank. A method that lacks a structure which
    others have is not ranked: its mean would be of other competitions. Nor is one that reads the
    truth.

    Returns:
        Per dataset, the best mean rank first.
    """
    ranks = []
    for dataset in dict.fromkeys(row.dataset for row in rows):
        merits: dict[str, dict[str, float]] = {}
        for row in rows:
            if row.dataset == dataset and row.metric in row.scores and not row.oracle:
                metric = METRICS[row.metric]
                merit = metric.merit(round(row.scores[row.metric], metric.decimals))
                merits.setdefault(row.method, {})[row.structure] = merit
        structures = {structure for found in merits.values() for structure in found}
        ranked = {m: s for m, s in merits.items() if set(s) == structures}
        if not ranked:
            continue
        table = [[-found[structure] for structure in structures] for found in ranked.values()]
        from scipy.stats import rankdata

        means = rankdata(table, axis=0).mean(axis=1)
        found = [
            MeanRank(dataset, method, float(mean), len(structures))
            for method, mean in zip(ranked, means, strict=True)
        ]
        ranks += sorted(found, key=lambda rank: rank.rank)
    return ranks
