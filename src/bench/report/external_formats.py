"""Scores on other data in every format: Markdown, CSV, LaTeX, the terminal, JSON."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.metrics.metric import Metric
from bench.metrics.table import HEADLINE, METRICS
from bench.report.external import ExternalRow
from bench.report.table_formats import (
    MISSING,
    escape_latex,
    escape_markdown,
    markdown_table,
    metric_columns,
    number_notes,
    score_cells,
    shorten_dataset,
)
from bench.structures import title_of
from bench.words import of_units

_TITLE = "Scored on other data"
# Columns of names.
EXTERNAL_NAMES = 3
_AT_HOME = "itself"
_OF_SECTIONS = ("95 % interval", "Sections")


def external_blocks(rows: Sequence[ExternalRow]) -> Iterator[tuple[str, list[ExternalRow]]]:
    """Yields what was scored on, shortened, and the rows of it."""
    for dataset, group in groupby(rows, key=lambda external: external.row.dataset):
        yield shorten_dataset(dataset), list(group)


def external_headers(rows: Sequence[ExternalRow]) -> list[str]:
    """Headers of the columns of a block; the first three are names."""
    metric = _metric_of(rows)
    scores = [column.heading for column in _columns(rows).values()]
    changes = [f"{metric.label} on its own", "Change", "95 % interval of change"]
    return ["Trained on", "Method", "Structure", *scores, *_OF_SECTIONS, *changes, "Seeds"]


def external_cells(rows: Sequence[ExternalRow]) -> list[list[str]]:
    """The cells of a block, not escaped, as many as headers."""
    columns, notes = _columns(rows), external_notes(rows)
    return [_write_row(external, columns, notes) for external in rows]


def external_notes(rows: Sequence[ExternalRow]) -> dict[str, int]:
    """Numbers the notes of a block."""
    return number_notes([external.row for external in rows])


def external_caption(rows: Sequence[ExternalRow]) -> str:
    """What the columns of all blocks mean."""
    label = _metric_of(rows).label
    text = (
        "Models are applied as on their own data, whose threshold, smallest area and opening are "
        "taken as they are, lengths in nm. Nothing here has chosen anything: verdicts, paired "
        "tests and best combinations are of a method's own data alone. Scores are pooled over the "
        f"sections of the split; the change is the mean {label} of a section of the other data "
        "less that of a section of a model's own, with the 95 % bootstrap interval of this "
        "difference over the sections of both, as two samples, wider where neighbours are alike; "
        "in brackets how many independent sections tell as much. It says nothing of why."
    )
    return of_units(text, {external.row.data.unit for external in rows})


def external_to_markdown(rows: Sequence[ExternalRow]) -> str:
    """Writes a table per dataset; empty text without rows."""
    if not rows:
        return ""
    parts = [f"## {_TITLE}"]
    for dataset, members in external_blocks(rows):
        lines = [[escape_markdown(cell) for cell in line] for line in external_cells(members)]
        parts.append(f"### {escape_markdown(dataset)}")
        parts.append(markdown_table(external_headers(members), lines, names=EXTERNAL_NAMES))
        parts += [escape_markdown(f"[{n}] {note}") for note, n in external_notes(members).items()]
    return "\n\n".join([*parts, escape_markdown(external_caption(rows))]) + "\n"


def external_to_latex(rows: Sequence[ExternalRow]) -> str:
    """Writes a table per dataset with booktabs; empty text without rows."""
    parts = []
    for dataset, members in external_blocks(rows):
        titles, lines = external_headers(members), external_cells(members)
        below = [
            rf"\par\small [{number}] {escape_latex(note)}"
            for note, number in external_notes(members).items()
        ]
        parts += [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape_latex(f'{_TITLE}: {dataset}. {external_caption(members)}')}}}",
            rf"\begin{{tabular}}{{{'l' * EXTERNAL_NAMES}{'r' * (len(titles) - EXTERNAL_NAMES)}}}",
            r"\toprule",
            " & ".join(map(escape_latex, titles)) + r" \\",
            r"\midrule",
            *(" & ".join(map(escape_latex, line)) + r" \\" for line in lines),
            r"\bottomrule",
            r"\end{tabular}",
            *below,
            r"\end{table}",
            "",
        ]
    return "\n".join(parts)


def external_to_csv(rows: Sequence[ExternalRow]) -> str:
    """Writes all rows as CSV, at full precision; empty where something is not known."""
    metrics = sorted({metric for external in rows for metric in external.row.scores})
    of_interval = rows[0].row.metric if rows else HEADLINE
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ["scored_on", "trained_on", "method", "label", "structure"]
    interval = [f"{of_interval}_low", f"{of_interval}_high", "sections", "independent_sections"]
    interval += ["seeds", "run_ids"]
    own = [f"own_{metric}" for metric in metrics]
    change = ["change", "change_low", "change_high", "own_sections"]
    change += ["own_independent_sections", "change_seeds", "warnings"]
    writer.writerow([*names, *metrics, *interval, *own, *change])
    for external in rows:
        row, found = external.row, external.change
        low, high = row.interval or ("", "")
        least, most = (found and found.interval) or ("", "")
        writer.writerow(
            [
                *(row.dataset, external.trained_on, row.method, row.label, row.structure),
                *(row.scores.get(metric, "") for metric in metrics),
                *(low, high, row.sections),
                "" if row.independent is None else row.independent,
                *(" ".join(map(str, row.seeds)), " ".join(row.run_ids)),
                *(external.own_scores.get(metric, "") for metric in metrics),
                *(found.difference if found else "", least, most),
                *(
                    found.sections if found else "",
                    found.independent if found and found.independent else "",
                    " ".join(map(str, found.seeds if found else ())),
                ),
                "; ".join(row.warnings),
            ]
        )
    return text.getvalue()


def external_to_json(rows: Sequence[ExternalRow]) -> list[dict[str, Any]]:
    """Collects the rows as plain values."""
    return [
        {
            "scored_on": external.row.dataset,
            "trained_on": external.trained_on,
            "method": external.row.method,
            "label": external.row.label,
            "structure": external.row.structure,
            "seeds": list(external.row.seeds),
            "run_ids": list(external.row.run_ids),
            "metric": external.row.metric,
            "scores": dict(external.row.scores),
            "interval": external.row.interval,
            "sections": external.row.sections,
            "independent": external.row.independent,
            "own_scores": dict(external.own_scores),
            "change": asdict(external.change) if external.change else None,
            "warnings": list(external.row.warnings),
        }
        for external in rows
    ]


def print_external(rows: Sequence[ExternalRow], console: Console) -> None:
    """Prints a narrow table per dataset, if there is any: score, change and its interval."""
    for dataset, members in external_blocks(rows):
        console.print(Text(f"\n{_TITLE}: {dataset}", style="bold"))
        metric = _metric_of(members)
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0, collapse_padding=True)
        table.add_column("Trained on", overflow="fold")
        table.add_column("Method", overflow="fold")
        table.add_column("Structure", no_wrap=True)
        for title in (metric.narrow_heading, "95 %\ninterval", "Change", "95 % of\nchange"):
            table.add_column(title, justify="right", no_wrap=True)
        for external in members:
            score = external.row.scores.get(external.row.metric)
            table.add_row(
                *map(Text, _names(external)),
                MISSING if score is None else metric.write(score),
                _write_interval(external.row.interval, metric),
                *_write_change(external, metric),
            )
        console.print(table)
    if rows:
        console.print(Text(external_caption(rows), style="dim"))


def _metric_of(rows: Sequence[ExternalRow]) -> Metric:
    return METRICS[rows[0].row.metric]


def _columns(rows: Sequence[ExternalRow]) -> dict[str, Metric]:
    return metric_columns([external.row for external in rows])


def _names(external: ExternalRow) -> list[str]:
    trained_on = _AT_HOME if external.at_home else shorten_dataset(external.trained_on)
    return [trained_on, external.row.label, title_of(external.row.structure)]


def _write_row(
    external: ExternalRow, columns: Mapping[str, Metric], notes: Mapping[str, int]
) -> list[str]:
    row = external.row
    metric = METRICS[row.metric]
    *scores, seeds = [cell.text for cell in score_cells(row, columns, notes, deviations=columns)]
    own = external.own_scores.get(row.metric)
    return [
        *_names(external),
        *scores,
        MISSING if own is None else metric.write(own),
        *_write_change(external, metric),
        seeds,
    ]


def _write_change(external: ExternalRow, metric: Metric) -> list[str]:
    """The change and its interval, with the sections of both."""
    change = external.change
    if change is None:
        return [MISSING, MISSING]
    interval = MISSING
    if change.interval:
        interval = " to ".join(map(metric.write_change, change.interval))
    return [metric.write_change(change.difference), interval]


def _write_interval(interval: tuple[float, float] | None, metric: Metric) -> str:
    return "–".join(map(metric.write, interval)) if interval else MISSING
