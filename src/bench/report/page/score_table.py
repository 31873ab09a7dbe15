"""The tables of the page: scores, sorted by a click, paired tests, ranks, other data."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from bench.metrics.metric import Metric
from bench.report import external_formats
from bench.report.comparison_formats import (
    caption,
    describe_best,
    pair_cells,
    pair_headers,
)
from bench.report.comparisons import Comparison, MeanRank
from bench.report.external import ExternalRow
from bench.report.page.elements import Markup, element, join, plain_table, scrolling
from bench.report.table_formats import (
    COST_COLUMNS,
    MISSING,
    format_cost,
    metric_columns,
    name_cells,
    name_columns,
    number_notes,
    score_cells,
    score_columns,
    shorten_dataset,
)
from bench.report.tables import TableRow
from bench.report.variants import variant_label
from bench.structures import title_of

# More pairs than these wait behind a click.
_OPEN_PAIRS = 10


def score_table(
    ours: Sequence[TableRow], published: Sequence[TableRow], anchors: Mapping[int, str]
) -> Markup:
    """Writes the table with its notes.

    Args:
        ours: Our rows.
        published: Published rows, which stand below in a part of their own.
        anchors: From the place of a row of ours to the id of its pictures on the page.
    """
    rows = [*ours, *published]
    names, notes, metrics = name_columns(ours), number_notes(rows), metric_columns(rows)
    costs = [cost for cost in COST_COLUMNS if any(cost in row.costs for row in rows)]
    headers = [*names, *score_columns(metrics), *(COST_COLUMNS[cost] for cost in costs)]
    lines: dict[bool, list[Markup]] = {False: [], True: []}
    for place, row in enumerate(rows):
        cells = [
            *_describe(row, names, anchors.get(place, "")),
            *_scores(row, metrics, notes),
            *(_cost_cell(row, cost) for cost in costs),
        ]
        lines[row.published].append(element("tr", cells, data_structure=row.structure))
    bodies = [element("tbody", lines[False])]
    if published:
        sources = "; ".join(dict.fromkeys(row.dataset for row in published))
        title = f"{sources}: scores of other data, not compared with ours"
        head = element("th", element("span", title), colspan=len(headers), scope="rowgroup")
        part = element("tr", head, class_="part")
        bodies.append(element("tbody", part, lines[True], class_="published"))
    kinds = ["name" if header in names else "number" for header in headers]
    columns = zip(headers, kinds, strict=True)
    head = element("tr", (element("th", h, scope="col", class_=kind) for h, kind in columns))
    table = element("table", element("thead", head), bodies, class_="sortable")
    below = [
        element("li", note, value=number, id=f"note-{number}") for note, number in notes.items()
    ]
    return element(
        "div",
        scrolling(table, "Scores of all methods"),
        element("ol", below, class_="notes") if below else "",
    )


def _describe(row: TableRow, names: Sequence[str], anchor: str) -> list[Markup]:
    cells = []
    for column, text in zip(names, name_cells(row, names), strict=True):
        if column == "Method":
            method = element("a", text, href=f"#{anchor}") if anchor else text
            cells.append(element("th", method, scope="row"))
        else:
            cells.append(element("td", text, class_="name"))
    return cells


def _scores(row: TableRow, metrics: Mapping[str, Metric], notes: Mapping[str, int]) -> list[Markup]:
    # The notes are links here, not text.
    cells = score_cells(row, metrics, {}, deviations=metrics)
    values = [row.scores.get(metric) for metric in metrics]
    values += [row.interval[0] if row.interval else None, row.sections or None]
    values += [None if row.published else row.n]
    written = []
    for cell, value in zip(cells, values, strict=True):
        text = element("strong", cell.text) if cell.best else cell.text
        numbers = [notes[note] for note in row.notes] if cell is cells[-1] else []
        links = [element("a", f"[{n}]", href=f"#note-{n}") for n in numbers]
        written.append(
            _number_cell((text, *(part for link in links for part in (" ", link))), value)
        )
    return written


def _cost_cell(row: TableRow, cost: str) -> Markup:
    value = row.costs.get(cost)
    return _number_cell((MISSING if value is None else format_cost(value),), value)


def _number_cell(content: tuple[str, ...], value: float | None) -> Markup:
    """A cell that is sorted by a number; without one it stays last."""
    return element("td", content, class_="number", data_value="" if value is None else repr(value))


def comparisons_section(comparisons: Sequence[Comparison], ranks: Sequence[MeanRank]) -> Markup:
    """Writes, per structure and dataset, what follows and every pair; then the ranks."""
    parts = []
    several = len({pair.dataset for pair in comparisons}) > 1
    for (dataset, structure), group in groupby(comparisons, key=lambda c: (c.dataset, c.structure)):
        pairs = list(group)
        seeds = any(pair.over_seeds for pair in pairs)
        title = title_of(structure) + (f", {shorten_dataset(dataset)}" if several else "")
        headers = pair_headers(pairs, seeds=seeds)
        lines = (pair_cells(pair, seeds=seeds) for pair in pairs)
        parts.append(
            element(
                "section",
                element("h3", title),
                element("ul", (element("li", line) for line in describe_best(pairs))),
                element(
                    "details",
                    element("summary", f"All {len(pairs)} pairs" if len(pairs) > 1 else "The pair"),
                    plain_table(headers, lines, names=2),
                    open=len(pairs) <= _OPEN_PAIRS,
                ),
                data_structure=structure,
            )
        )
    if not comparisons:
        parts.append(
            element("p", "No structure has two scored methods: there is nothing to compare.")
        )
    return join(parts, _rank_tables(ranks), element("p", caption(comparisons), class_="caption"))


def _rank_tables(ranks: Sequence[MeanRank]) -> Markup:
    parts, several = [], len({rank.dataset for rank in ranks}) > 1
    for dataset, group in groupby(ranks, key=lambda rank: rank.dataset):
        members = list(group)
        headers = [
            shorten_dataset(dataset) if several else "Method",
            f"Mean rank of {members[0].structures}",
        ]
        lines = [[variant_label(rank.method), f"{rank.rank:.2f}"] for rank in members]
        parts.append(plain_table(headers, lines, names=1))
    return join(element("h3", "Mean ranks over structures"), parts) if parts else Markup("")


def external_section(rows: Sequence[ExternalRow]) -> list[Markup]:
    """Writes a table per dataset, with its notes, and what the columns mean; nothing of none."""
    parts: list[Markup] = []
    for dataset, members in external_formats.external_blocks(rows):
        table = plain_table(
            external_formats.external_headers(members),
            external_formats.external_cells(members),
            names=external_formats.EXTERNAL_NAMES,
        )
        notes = external_formats.external_notes(members)
        below = [element("li", note, value=number) for note, number in notes.items()]
        parts.append(element("h3", dataset))
        parts.append(join(table, element("ol", below, class_="notes") if below else ""))
    if rows:
        text = external_formats.external_caption(rows)
        parts.append(element("p", text, class_="caption"))
    return parts
