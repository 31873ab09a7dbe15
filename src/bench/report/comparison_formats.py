"""The comparisons of methods as CSV, Markdown and terminal text."""

import csv
import io
from collections.abc import Sequence
from itertools import groupby

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from bench.metrics.table import HEADLINE, METRICS
from bench.report.comparisons import Comparison, MeanRank
from bench.report.serial import write_count
from bench.report.statistics import ALPHA, Significance
from bench.report.table_formats import MISSING, escape_markdown, markdown_table, shorten_dataset
from bench.report.variants import variant_label
from bench.structures import title_of
from bench.words import of_units

_COLUMNS = (
    *("dataset", "structure", "first", "second", "sections", "independent_sections"),
    *("difference", "low", "high"),
    *("p", "p_holm", "smallest_p_holm", "rank_biserial", "differing_sections"),
    *("seeds", "seeds_p", "seeds_p_holm", "seeds_smallest_p_holm", "cliffs_delta"),
    *("needed_sections", "needed_seeds", "needed_sections_0.02", "needed_seeds_0.02"),
)
_HEADERS = (
    *("First", "Second", "Sections", "Difference", "95 % interval"),
    *("p", "p (Holm)", "Effect", "Needs", "0.02 needs"),
)
_SEED_HEADERS = ("Seeds", "p over seeds (Holm)", "Cliff's delta")
_CAPTION = (
    "Difference is the mean over sections of {heading} (averaged over seeds) of the first method "
    "less the second, with its 95 % bootstrap interval, stretched by Student's t as sections are "
    "few. p is of the "
    "Wilcoxon signed-rank test over sections, also corrected by Holm over the pairs of a "
    "structure; a number in brackets is the smallest p that so many sections, or seeds, could "
    "give, shown where it is above 0.05: such a pair cannot be told apart by any outcome. Effect "
    "is the rank-biserial correlation. p over seeds is of the Mann-Whitney U test. Where sections "
    "follow one another, how alike neighbours are widens the interval and raises p: the number in "
    "brackets says how many independent sections tell as much of the difference. Sections without "
    "such a number count as independent. Needs is what would tell the two apart by that test, at "
    "0.05 and without correction for several pairs, in 80 of 100 studies, were the difference as "
    "it was seen, or 0.02: so many independent sections in all (where neighbours are alike: far "
    "apart, or of other series) or, after the stroke, so many seeds of each method on the same "
    "sections (– where no number is enough; nothing where there is one seed)."
)


def pair_headers(pairs: Sequence[Comparison], *, seeds: bool) -> list[str]:
    """The headers over the cells of pairs."""
    units = {pair.unit for pair in pairs}
    return [of_units(header, units) for header in (*_HEADERS, *(_SEED_HEADERS if seeds else ()))]


def caption(comparisons: Sequence[Comparison]) -> str:
    """How comparisons were made."""
    metric = METRICS[comparisons[0].metric if comparisons else HEADLINE]
    text = of_units(_CAPTION, {pair.unit for pair in comparisons}).format(heading=metric.heading)
    better = "" if metric.direction == "higher" else f" Lower {metric.label} is better."
    return text + better


def to_csv(comparisons: Sequence[Comparison]) -> str:
    """Writes the comparisons as CSV: full precision, empty where there is no value."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for pair in comparisons:
        low, high = pair.interval or (None, None)
        sections, seeds = pair.over_sections, pair.over_seeds
        writer.writerow(
            [
                *(pair.dataset, pair.structure, pair.first, pair.second),
                *(pair.sections, pair.independent, pair.difference, low, high),
                *(sections and sections.p, pair.p_holm, pair.smallest_p_holm),
                *((sections.effect, sections.n) if sections else ("", "")),
                *(seeds and seeds.n, seeds and seeds.p, pair.seeds_p_holm),
                *(pair.seeds_smallest_p_holm, seeds.effect if seeds else ""),
                *(
                    "" if needed is None or number is None else number
                    for needed in pair.needed
                    for number in (needed and needed.sections, needed and needed.seeds)
                ),
            ]
        )
    return text.getvalue()


def to_markdown(comparisons: Sequence[Comparison], ranks: Sequence[MeanRank]) -> str:
    """Writes a section per structure and dataset, with what follows and every pair; then ranks."""
    parts = ["# Comparisons"]
    for (dataset, structure), group in groupby(comparisons, key=lambda c: (c.dataset, c.structure)):
        pairs = list(group)
        seeds = any(pair.over_seeds for pair in pairs)
        headers = pair_headers(pairs, seeds=seeds)
        parts.append(f"## {escape_markdown(f'{title_of(structure)}, {dataset}')}")
        parts.append("\n".join(f"- {escape_markdown(line)}" for line in describe_best(pairs)))
        cells = [[escape_markdown(c) for c in pair_cells(pair, seeds=seeds)] for pair in pairs]
        parts.append(markdown_table(headers, cells, names=2))
    if not comparisons:
        parts.append("No structure has two scored methods: there is nothing to compare.")
    if ranks:
        parts += ["## Mean ranks over structures", *_rank_tables(ranks)]
    return "\n\n".join([*parts, caption(comparisons)]) + "\n"


def pair_cells(pair: Comparison, *, seeds: bool) -> list[str]:
    """The cells of a pair."""
    cells = [variant_label(pair.first), variant_label(pair.second)]
    cells.append(write_count(pair.sections, pair.independent))
    write = METRICS[pair.metric].write_change
    cells.append(MISSING if pair.difference is None else write(pair.difference))
    cells.append(" to ".join(map(write, pair.interval)) if pair.interval else MISSING)
    cells.append(f"{pair.over_sections.p:.3g}" if pair.over_sections else MISSING)
    cells.append(_p_text(pair.p_holm, pair.smallest_p_holm))
    cells.append(_effect_text(pair.over_sections))
    cells += [needed.write() if needed else MISSING for needed in pair.needed]
    if seeds:
        cells.append(str(pair.over_seeds.n) if pair.over_seeds else MISSING)
        cells.append(_p_text(pair.seeds_p_holm, pair.seeds_smallest_p_holm))
        cells.append(_effect_text(pair.over_seeds))
    return cells


def _p_text(p: float | None, smallest: float | None) -> str:
    """A corrected p, and in brackets the smallest it could be where that is not significant."""
    if p is None or smallest is None:
        return MISSING
    return f"{p:.3g}" if smallest <= ALPHA else f"{p:.3g} [{smallest:.3g}]"


def _effect_text(test: Significance | None) -> str:
    return MISSING if test is None else f"{test.effect:+.2f}"


def _rank_tables(ranks: Sequence[MeanRank]) -> list[str]:
    tables = []
    for dataset, group in groupby(ranks, key=lambda rank: rank.dataset):
        members = list(group)
        headers = [escape_markdown(dataset), f"Mean rank of {members[0].structures}"]
        lines = [[escape_markdown(variant_label(r.method)), f"{r.rank:.2f}"] for r in members]
        tables.append(markdown_table(headers, lines, names=1))
    return tables


def print_comparisons(comparisons: Sequence[Comparison], console: Console) -> None:
    """Prints, for each structure, the best method and what is not distinguishable from it."""
    several = len({pair.dataset for pair in comparisons}) > 1
    for (dataset, structure), group in groupby(comparisons, key=lambda c: (c.dataset, c.structure)):
        title = title_of(structure)
        title += f", {shorten_dataset(dataset)}" if several else ""
        console.print(Text(f"\n{title}", style="bold"))
        for line in describe_best(list(group)):
            console.print(Padding(Text(line), (0, 0, 0, 2), expand=False))


def describe_best(comparisons: Sequence[Comparison]) -> list[str]:
    """Says, for one structure and dataset, which method is best and which are as good.

    Args:
        comparisons: The comparisons of one structure and dataset, in the order of compare_pairs.

    Returns:
        Lines; none without a comparison.
    """
    if not comparisons:
        return []
    best, metric = comparisons[0].first, METRICS[comparisons[0].metric]
    extreme = "highest" if metric.direction == "higher" else "lowest"
    pairs = [pair for pair in comparisons if pair.first == best]
    unit = comparisons[0].unit
    lines = [f"{extreme} mean {metric.label} of a {unit}: {variant_label(best)}"]
    blind = [pair for pair in pairs if not pair.testable]
    for limit in dict.fromkeys(map(_describe_limit, blind)):
        few = [variant_label(pair.second) for pair in blind if _describe_limit(pair) == limit]
        lines.append(f"{limit}: {'; '.join(few)}")
    if alike := [pair for pair in pairs if pair.testable and not pair.distinguishable]:
        names = "; ".join(
            f"{variant_label(p.second)} (p = {p.p_holm:.2g}{_describe_needs(p)})" for p in alike
        )
        lines.append(f"not distinguishable from it: {names}")
    if apart := [pair for pair in pairs if pair.distinguishable]:
        names = "; ".join(f"{variant_label(p.second)} (p = {p.p_holm:.2g})" for p in apart)
        lines.append(f"distinguishable from it: {names}")
    return lines


def _describe_needs(pair: Comparison) -> str:
    """What it takes to see the difference; empty where there is none."""
    needed, _ = pair.needed
    return f"; {needed.describe(pair.sections, pair.unit)}" if needed else ""


def _describe_limit(pair: Comparison) -> str:
    test = pair.over_sections
    if test is None:
        return f"cannot be compared with it, no {pair.unit} in common"
    few = f"{pair.sections} {pair.unit}{'s' * (pair.sections != 1)}"
    if test.n < pair.sections:
        few += f" ({test.n} of which differ)"
    return (
        f"cannot be told from it by {few}, whatever the outcome (smallest p {test.smallest_p:.2g}, "
        f"corrected for all pairs {pair.smallest_p_holm:.2g})"
    )
