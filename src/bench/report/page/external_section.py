"""The part of the page with scores on other data than methods were trained on."""

from collections.abc import Sequence

from bench.report import external_formats
from bench.report.external import ExternalRow
from bench.report.page.elements import Markup, element, join, plain_table


def external_section(rows: Sequence[ExternalRow]) -> Markup:
    """Writes a table per dataset, with its notes, and what the columns mean."""
    parts = []
    for dataset, members in external_formats.blocks(rows):
        table = plain_table(
            external_formats.headers(members),
            external_formats.cells(members),
            names=external_formats.NAMES,
        )
        notes = external_formats.numbered(members)
        below = [element("li", note, value=number) for note, number in notes.items()]
        parts.append(element("h3", dataset))
        parts.append(join(table, element("ol", below, class_="notes") if below else ""))
    return join(parts, element("p", external_formats.caption(rows), class_="caption"))
