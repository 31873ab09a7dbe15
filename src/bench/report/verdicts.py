"""What follows for each structure: the best method, what it cannot be told from, what it took."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from bench.metrics.table import METRICS
from bench.report.comparisons import Comparison
from bench.report.serial import describe_worth, fewest_neighbours
from bench.report.statistics import ALPHA
from bench.report.tables import TableRow
from bench.report.variants import variant_label
from bench.structures import order_structures

_SECONDS_PER_MINUTE = 60
_MINUTES_PER_HOUR = 60
_NOTHING = "No method found any of it: every score is the worst that can be."


@dataclass(frozen=True)
class Verdict:
    """The answer for one structure of one dataset.

    Attributes:
        row: The row of the best score; of equal ones the first.
        found: Whether its score says anything, which the worst that can be does not.
        headline: Its score, with its interval and what that is over.
        lines: What it cannot be told from, what is worse, and what it took; a sentence each.
    """

    row: TableRow
    found: bool
    headline: str
    lines: tuple[str, ...]


def find_verdicts(rows: Sequence[TableRow], comparisons: Sequence[Comparison]) -> list[Verdict]:
    """The verdict on every structure and dataset that has a score, in the order of the table.

    Methods that read the truth have no part in it.

    Args:
        rows: Rows of the table.
        comparisons: Every pair of methods.
    """
    verdicts = []
    scored = [row for row in rows if row.metric in row.scores and not row.oracle]
    datasets = dict.fromkeys(row.dataset for row in scored)
    structures = order_structures(row.structure for row in scored)
    for cell in product(datasets, structures):
        members = [row for row in scored if (row.dataset, row.structure) == cell]
        if not members:
            continue
        metric = METRICS[members[0].metric]
        best = max(members, key=lambda row: metric.merit(_printed(row)))
        pairs = [pair for pair in comparisons if (pair.dataset, pair.structure) == cell]
        found = _printed(best) != metric.ends[0]
        lines = [*_compare(best, members, pairs), _describe_cost(best)] if found else [_NOTHING]
        verdicts.append(Verdict(best, found, _describe_score(best), tuple(filter(None, lines))))
    return verdicts


def _printed(row: TableRow) -> float:
    return round(row.scores[row.metric], METRICS[row.metric].decimals)


def _describe_score(row: TableRow) -> str:
    metric = METRICS[row.metric]
    text = f"{metric.label} {metric.write(row.scores[row.metric])}"
    text += f" {metric.unit}" if metric.unit else ""
    if row.metric in row.deviations:
        text += f" ± {metric.write(row.deviations[row.metric])} over {row.n} seeds"
    if row.interval is None:
        return f"{text} (one {row.data.unit} gives no interval)" if row.sections == 1 else text
    low, high = map(metric.write, row.interval)
    count = row.data.count(row.sections) + describe_worth(row.independent)
    return f"{text} (95 % interval {low} to {high} over {count})"


def _compare(
    best: TableRow, rows: Sequence[TableRow], comparisons: Sequence[Comparison]
) -> list[str]:
    """Sentences on the other methods."""
    if len(rows) == 1:
        return ["No other method was scored: there is nothing to compare it with."]
    pairs = [pair for pair in comparisons if best.method in (pair.first, pair.second)]
    groups: dict[str, list[str]] = {}
    for pair in pairs:
        other = pair.second if pair.first == best.method else pair.first
        sentence, (needed, _) = _say(best, pair, len(comparisons)), pair.needed
        needs = ""
        if needed and pair.testable:
            needs = f" ({needed.describe(pair.sections, pair.unit)})"
        groups.setdefault(sentence, []).append(f"{variant_label(other)}{needs}")
    return [f"{sentence}: {'; '.join(names)}." for sentence, names in groups.items()]


def _say(best: TableRow, pair: Comparison, tests: int) -> str:
    """What a comparison says of the best method; the other one's name follows."""
    if not pair.sections:
        return f"It has no {best.data.unit} in common, so cannot be compared, with"
    if not pair.testable:
        enough = math.ceil(1 - math.log2(ALPHA / tests))
        needed = f"at least {enough}"
        if pair.independent is not None:
            needed = f"at least {fewest_neighbours(ALPHA / tests)}, or {enough} far apart,"
        few = f"{best.data.count(pair.sections)} {'is' if pair.sections == 1 else 'are'}"
        return f"{few} too few ({needed} are needed) to tell it from"
    if not pair.distinguishable:
        return "It cannot be told from"
    if pair.first == best.method:
        return "Beyond chance it is better than"
    return f"On the mean {pair.unit}, though not on all pixels together, it is worse than"


def _describe_cost(row: TableRow) -> str:
    """What the model took; empty where that is not known."""
    seconds, sections = row.costs.get("train_seconds"), row.data.training_sections
    parts = []
    if seconds:
        mean = f" (mean of {row.n} seeds)" if row.n > 1 else ""
        parts.append(f"{format_duration(seconds)} of training{mean}")
    if sections:
        number, what = row.data.count(sections).split()
        parts.append(f"{number} annotated {what}")
    return f"It took {' on '.join(parts)}." if parts else ""


def format_duration(seconds: float) -> str:
    """A time in the unit that people say it in.

    Examples:
        >>> format_duration(8.4), format_duration(754), format_duration(9000)
        ('8 s', '13 min', '2 h 30 min')
    """
    if seconds < _SECONDS_PER_MINUTE:
        return f"{seconds:.0f} s"
    minutes = round(seconds / _SECONDS_PER_MINUTE)
    if minutes < _MINUTES_PER_HOUR:
        return f"{minutes} min"
    hours, rest = divmod(minutes, _MINUTES_PER_HOUR)
    return f"{hours} h {rest} min" if rest else f"{hours} h"
