"""What sections brought that were added to a dataset: the same methods before and since."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from bench.metrics.table import METRICS
from bench.report.data_facts import merge_facts
from bench.report.intervals import section_interval
from bench.report.serial import describe_worth
from bench.report.table_formats import escape_markdown
from bench.report.tables import ScoreRecord, group_records, section_means
from bench.report.variants import variant_label
from bench.structures import title_of

_TITLE = "What the added sections brought"
_CAPTION = (
    "Mean over sections of the score on the new version of the dataset less that on the version "
    "before, averaged over the seeds that both have, with its 95 % bootstrap interval over "
    "sections, wider where neighbours are alike. It knows nothing of how much two trainings on the "
    "same data differ: with one seed that may be as much."
)


@dataclass(frozen=True)
class Gain:
    """A method on one structure, before and since sections were added to a dataset.

    Attributes:
        dataset: Name or content hash of the new version.
        before: That of the version before.
        structure: What is segmented.
        method: The method, or combination.
        split: The split that was scored.
        metric: What the scores are of.
        added: Sections that were added.
        annotated_anew: Sections whose annotation was replaced.
        sections: Number of sections that both were scored on.
        seeds: Seeds that both have.
        difference: Mean over these sections of the score since less that before.
        interval: Its 95 % interval over sections; None below two.
        independent: As many independent sections would tell as much; None where they count as
            independent.
    """

    dataset: str
    before: str
    structure: str
    method: str
    split: str
    metric: str
    added: int
    annotated_anew: int
    sections: int
    seeds: tuple[int, ...]
    difference: float
    interval: tuple[float, float] | None
    independent: float | None = None

    def describe(self) -> str:
        """All of it in a sentence."""
        metric = METRICS[self.metric]
        change = metric.write_change(self.difference)
        unsure = "one section has no interval"
        if self.interval:
            low, high = self.interval
            unsure = f"95 % interval {metric.write_change(low)} to {metric.write_change(high)}"
            unsure += ", which may be chance" if low <= 0 <= high else ""
        what = [_count(self.added, "added"), _count(self.annotated_anew, "annotated anew")]
        plural = "s" if self.sections != 1 else ""
        return (
            f"{title_of(self.structure)}, {variant_label(self.method)}: {metric.label} {change} "
            f"({unsure}) on the same {self.sections} {self.split} section{plural}"
            f"{describe_worth(self.independent)} since "
            f"{' and '.join(filter(None, what))}"
        )


def _count(sections: int, done: str) -> str:
    """What was done to some sections; empty for none."""
    were = "section was" if sections == 1 else "sections were"
    return f"{sections} {were} {done}" if sections else ""


def measure_gains(
    before: Sequence[ScoreRecord],
    since: Sequence[ScoreRecord],
    *,
    split: str,
    metric: str,
    added: int,
    annotated_anew: int,
) -> list[Gain]:
    """Compares every method that was scored on both versions of a dataset.

    Sections are paired by name, which those that a version keeps have in both. What scores each
    of them as before, such as a method that learns nothing, is left out.

    Args:
        before: The records of the version before.
        since: Those of the new version.
        split: The split that they are of.
        metric: What is compared.
        added: Sections that were added.
        annotated_anew: Sections whose annotation was replaced.
    """
    old = {key[:2]: records for key, records in group_records(before).items()}
    gains = []
    for (method, structure, dataset), records in group_records(since).items():
        pair = [
            [r for r in found if r.scores] for found in (old.get((method, structure), []), records)
        ]
        seeds = tuple(sorted(set.intersection(*({r.seed for r in found} for found in pair))))
        if not seeds:
            continue
        means = [section_means([r for r in found if r.seed in seeds], metric) for found in pair]
        differences = {n: means[1][n] - means[0][n] for n in means[0] if n in means[1]}
        if not any(differences.values()):
            continue
        span = METRICS[metric].span
        unit = merge_facts(record.data for record in records).unit
        interval, dependence = section_interval(differences, limits=(-span, span), unit=unit)
        gains.append(
            Gain(
                dataset,
                pair[0][0].dataset,
                structure,
                method,
                split,
                metric,
                added,
                annotated_anew,
                len(differences),
                seeds,
                float(np.mean(list(differences.values()))),
                interval,
                dependence.effective if dependence else None,
            )
        )
    return gains


def gains_to_markdown(gains: Sequence[Gain]) -> str:
    """Writes the gains as a section; empty if there is none."""
    if not gains:
        return ""
    lines = [f"- {escape_markdown(gain.describe())}" for gain in gains]
    return "\n".join([f"## {_TITLE}", "", *lines, "", _CAPTION, ""])


def print_gains(gains: Sequence[Gain], console: Console) -> None:
    """Prints the gains, if there are any."""
    if gains:
        console.print(Text(f"\n{_TITLE}", style="bold"))
        for gain in gains:
            console.print(Padding(Text(gain.describe()), (0, 0, 0, 2), expand=False))
