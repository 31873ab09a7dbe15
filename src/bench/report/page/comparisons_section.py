"""The paired tests and the mean ranks of the page, as tables."""

from collections.abc import Sequence
from itertools import groupby

from bench.report.comparison_formats import (
    CAPTION,
    HEADERS,
    SEED_HEADERS,
    describe_best,
    pair_cells,
)
from bench.report.comparisons import Comparison, MeanRank
from bench.report.page.elements import Markup, element, join, plain_table
from bench.report.table_formats import shorten_dataset
from bench.report.variants import variant_label

# More pairs than these wait behind a click.
OPEN_PAIRS = 10


def comparisons_section(comparisons: Sequence[Comparison], ranks: Sequence[MeanRank]) -> Markup:
    """Writes, per structure and dataset, what follows and every pair; then the ranks."""
    parts = []
    several = len({pair.dataset for pair in comparisons}) > 1
    for (dataset, structure), group in groupby(comparisons, key=lambda c: (c.dataset, c.structure)):
        pairs = list(group)
        seeds = any(pair.over_seeds for pair in pairs)
        title = structure.capitalize() + (f", {shorten_dataset(dataset)}" if several else "")
        headers = HEADERS + SEED_HEADERS if seeds else HEADERS
        lines = (pair_cells(pair, seeds=seeds) for pair in pairs)
        parts.append(
            element(
                "section",
                element("h3", title),
                element("ul", (element("li", line) for line in describe_best(pairs))),
                element(
                    "details",
                    element("summary", f"All {len(pairs)} pairs"),
                    plain_table(headers, lines, names=2),
                    open=len(pairs) <= OPEN_PAIRS,
                ),
                data_structure=structure,
            )
        )
    if not comparisons:
        parts.append(
            element("p", "No structure has two scored methods: there is nothing to compare.")
        )
    return join(parts, rank_tables(ranks), element("p", CAPTION, class_="caption"))


def rank_tables(ranks: Sequence[MeanRank]) -> Markup:
    """A table of mean ranks per dataset."""
    parts = []
    for dataset, group in groupby(ranks, key=lambda rank: rank.dataset):
        members = list(group)
        headers = [shorten_dataset(dataset), f"Mean rank of {members[0].structures}"]
        lines = [[variant_label(rank.method), f"{rank.rank:.2f}"] for rank in members]
        parts.append(plain_table(headers, lines, names=1))
    return join(element("h3", "Mean ranks over structures"), parts) if parts else Markup("")
