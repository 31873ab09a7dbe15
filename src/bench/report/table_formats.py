"""The benchmark table and its costs as Markdown, CSV, LaTeX and terminal text."""

import csv
import io
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.methods import ORACLE
from bench.metrics.metric import Metric
from bench.metrics.table import HEADLINE, METRICS, table_columns
from bench.report.serial import write_count
from bench.report.tables import TableRow
from bench.report.variants import variant_label
from bench.structures import title_of
from bench.words import of_units

COST_COLUMNS: dict[str, str] = {
    "train_seconds": "Training (s)",
    "seconds_per_iteration": "Iteration (s)",
    "parameters": "Parameters",
    "peak_gpu_mib": "GPU memory (MiB)",
    "predict_megapixels_per_s": "Prediction (Mpx/s)",
}
# Of a terminal's table: metrics before the interval, and the width from which names are folded.
_FIRST_METRICS, _LABEL_WIDTH = 5, 12
MISSING = "–"
_GAP = (
    f"{MISSING} in a row that has scores: not computed, as the metric is not defined there or was "
    "not known when the run was evaluated."
)
_ORACLE = (
    f"A row marked {ORACLE} reads the annotation that it is scored on: it is told where every "
    "object is. It is not compared with the other rows, and never the best."
)
_LATEX_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "–": "--",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
MEANING = (
    "Training is the time in the training loop, that of the stage it started from included; an "
    "iteration is a batch of the last stage, without validations; GPU memory is the peak of the "
    "tensors in training, empty on a CPU."
)
_COST_CAPTION = f"Means over structures and seeds, of whatever machine each run was on. {MEANING}"


def scored_rows(rows: Sequence[TableRow]) -> list[TableRow]:
    """The rows that a table shows; what has no score is said by ``describe_failures``."""
    return [row for row in rows if row.scores or row.published]


def describe_failures(rows: Sequence[TableRow]) -> list[str]:
    """A line per reason for which methods have no score, with the methods it is about."""
    reasons: dict[str, dict[str, list[str]]] = {}
    several = len({row.dataset for row in rows}) > 1
    for row in rows:
        if not (row.scores or row.published):
            where = f"{row.structure}, {shorten_dataset(row.dataset)}" if several else row.structure
            reason = " ".join(str(row.reason).split())
            reasons.setdefault(reason, {}).setdefault(where, []).append(row.label)
    lines = []
    for reason, places in reasons.items():
        by_methods: dict[str, list[str]] = {}
        for where, labels in places.items():
            by_methods.setdefault("; ".join(labels), []).append(where)
        named = " | ".join(f"{', '.join(where)}: {names}" for names, where in by_methods.items())
        lines.append(f"Not scored ({named}): {reason}")
    return lines


def metric_columns(rows: Sequence[TableRow]) -> dict[str, Metric]:
    """The metrics that are columns of a table of these rows."""
    return table_columns(row.scores for row in rows)


def score_columns(columns: Mapping[str, Metric]) -> list[str]:
    """Headers of the columns after the names."""
    return [*(c.heading for c in columns.values()), "95 % interval", "Sections", "Seeds"]


def units_of(rows: Sequence[TableRow]) -> set[str]:
    """What has scores of its own in a table: sections, volumes, or both."""
    return {row.data.unit for row in rows if row.scores and not row.published}


def captions(rows: Sequence[TableRow]) -> list[str]:
    """What stands below the table: metrics that are no shares, gaps, and how it was made."""
    columns = metric_columns(rows)
    lines = [
        f"{column.heading}: {column.meaning} {column.direction.capitalize()} is better."
        for column in columns.values()
        if (column.low, column.high, column.direction) != (0, 1, "higher")
    ]
    if any(row.oracle for row in rows):
        lines.append(_ORACLE)
    if any(row.scores and not row.published and columns.keys() - row.scores for row in rows):
        lines.append(_GAP)
    uncounted = {row.structure: row.data.uncounted for row in rows if row.data.uncounted}
    lines += [f"Instances of {name} say nothing: {why}." for name, why in uncounted.items()]
    label = METRICS[rows[0].metric].label if rows else ""
    caption = (
        "Scores are computed once over the pooled pixels and instances of all sections of the "
        "split, then averaged over seeds (± standard deviation where there are several). The "
        f"interval is the 95 % bootstrap interval of the mean {label} of a section{_alike(rows)}. "
        "The best value of each structure and column is marked, ties included unless all rows tie."
    )
    return [*lines, of_units(caption, units_of(rows))]


def _alike(rows: Sequence[TableRow]) -> str:
    """How an interval takes sections: as neighbours, as independent, or some of both."""
    known = {row.independent is not None for row in rows if row.interval and not row.published}
    worth = (
        ", wider where neighbours are alike: in brackets how many independent sections tell as much"
    )
    if known == {True}:
        return worth
    if known == {False}:
        return ", which count as independent, as their names say no order"
    return f"{worth}; without brackets they count as independent" if known else ""


@dataclass(frozen=True)
class _Cell:
    text: str
    best: bool = False


def to_markdown(rows: Sequence[TableRow]) -> str:
    """Writes the table in Markdown: best values in bold, notes and caption below it."""
    failures = describe_failures(rows)
    rows = scored_rows(rows)
    names, columns = name_columns(rows), metric_columns(rows)
    notes = number_notes(rows)
    headers = score_columns(columns)
    lines = []
    for row in rows:
        cells = [_Cell(text) for text in name_cells(row, names)]
        cells += score_cells(row, columns, notes, deviations=columns)
        texts = [escape_markdown(cell.text) for cell in cells]
        lines.append(
            [f"**{text}**" if cell.best else text for text, cell in zip(texts, cells, strict=True)]
        )
    table = markdown_table([*names, *headers], lines, names=len(names))
    below = [escape_markdown(f"[{number}] {reason}") for reason, number in notes.items()]
    below += map(escape_markdown, failures)
    return "\n\n".join([table, *below, *captions(rows)]) + "\n"


def to_csv(rows: Sequence[TableRow]) -> str:
    """Writes the table as CSV: full precision, one column per metric, empty where not scored.

    Metrics that are no columns of the table follow in alphabetical order, each with its standard
    deviation (``<metric>_sd``). Several seeds or run ids are separated by blanks.
    """
    columns = metric_columns(rows)
    extra = sorted({metric for row in rows for metric in row.scores} - columns.keys())
    metrics = [*columns, *extra]
    of_interval = rows[0].metric if rows else HEADLINE
    deviations = [f"{metric}_sd" for metric in metrics]
    identity = ["method", "label", "structure", "dataset"]
    support = [f"{of_interval}_low", f"{of_interval}_high", "sections"]
    support += ["independent_sections", "n", "seeds", "run_ids", "reason", "warnings"]
    support += ["published", *COST_COLUMNS, "oracle"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*identity, *metrics, *deviations, *support])
    for row in rows:
        low, high = row.interval or ("", "")
        writer.writerow(
            [
                *(row.method, row.label, row.structure, row.dataset),
                *(row.scores.get(metric, "") for metric in metrics),
                *(row.deviations.get(metric, "") for metric in metrics),
                *(low, high, row.sections),
                *("" if row.independent is None else row.independent, row.n),
                *(" ".join(map(str, row.seeds)), " ".join(row.run_ids), row.reason or ""),
                *("; ".join(row.warnings), str(row.published).lower()),
                *(row.costs.get(cost, "") for cost in COST_COLUMNS),
                str(row.oracle).lower(),
            ]
        )
    return text.getvalue()


def to_latex(rows: Sequence[TableRow]) -> str:
    """Writes the table for LaTeX with booktabs: best values in bold, notes below it."""
    failures = describe_failures(rows)
    rows = scored_rows(rows)
    names, columns = name_columns(rows), metric_columns(rows)
    notes = number_notes(rows)
    lines = []
    for _, group in groupby(rows, key=lambda row: (row.dataset, row.method)):
        lines.append(r"\midrule")
        for row in group:
            cells = [_Cell(text) for text in name_cells(row, names)]
            cells += score_cells(row, columns, notes, deviations=(row.metric,))
            texts = [escape_latex(cell.text) for cell in cells]
            lines.append(
                " & ".join(
                    rf"\textbf{{{text}}}" if cell.best else text
                    for text, cell in zip(texts, cells, strict=True)
                )
                + r" \\"
            )
    below = [rf"\par\small [{number}] {escape_latex(text)}" for text, number in notes.items()]
    below += [rf"\par\small {escape_latex(failure)}" for failure in failures]
    headers = score_columns(columns)
    *remarks, caption = captions(rows)
    below += [rf"\par\small {escape_latex(remark)}" for remark in remarks]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape_latex(caption)}}}",
            rf"\begin{{tabular}}{{{'l' * len(names)}{'r' * len(headers)}}}",
            r"\toprule",
            " & ".join(map(escape_latex, [*names, *headers])) + r" \\",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            *below,
            r"\end{table}",
            "",
        ]
    )


def print_table(rows: Sequence[TableRow], console: Console) -> None:
    """Prints the table to a terminal of 80 columns or more, one block of lines per method."""
    failures = describe_failures(rows)
    rows = scored_rows(rows)
    notes, columns = number_notes(rows), metric_columns(rows)
    datasets = "Dataset" in name_columns(rows)
    for dataset, of_dataset in groupby(rows, key=lambda row: row.dataset):
        if datasets:
            console.print(Text(f"\nDataset {shorten_dataset(dataset)}", style="bold"))
        for table in _terminal_tables(list(of_dataset), columns, notes, console.width):
            console.print(table)
    for reason, number in notes.items():
        console.print(Text(f"[{number}] {reason}"))
    for failure in failures:
        console.print(Text(failure))
    for caption in captions(rows):
        console.print(Text(caption, style="dim"))


def _terminal_tables(
    rows: Sequence[TableRow], columns: Mapping[str, Metric], notes: Mapping[str, int], width: int
) -> list[Table]:
    """Tables of as many columns as fit, whose names may be folded and whose numbers may not."""
    headings = [column.narrow_heading for column in columns.values()]
    headings += ["95 %\ninterval", "Sec-\ntions", "Seeds"]
    first = min(_FIRST_METRICS, len(columns))
    places = [*range(first), *range(len(columns), len(headings)), *range(first, len(columns))]
    scores = [score_cells(row, columns, notes, deviations=(row.metric,)) for row in rows]
    lines = [list(map(_terminal_cell, cells)) for cells in scores]
    label = min(_LABEL_WIDTH, max(len(row.label) for row in rows))
    structure = max(len(text) for text in ("Structure", *(title_of(r.structure) for r in rows)))
    blocks: list[list[int]] = []
    left = 0
    for place in places:
        wide = 1 + max(map(len, [*headings[place].splitlines(), *(line[place] for line in lines)]))
        if wide > left:
            left = width - label - 1 - structure
            blocks.append([])
        blocks[-1].append(place)
        left -= wide
    return [_terminal_table(rows, headings, lines, block) for block in blocks]


def _terminal_table(
    rows: Sequence[TableRow],
    headings: Sequence[str],
    lines: Sequence[Sequence[Text]],
    places: Sequence[int],
) -> Table:
    """The columns of some places."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0, collapse_padding=True)
    table.add_column("Method", overflow="fold")
    table.add_column("Structure", no_wrap=True)
    for place in places:
        table.add_column(headings[place], justify="right", no_wrap=True)
    for label, group in groupby(zip(rows, lines, strict=True), key=lambda each: each[0].label):
        cells = [[Text(title_of(row.structure)), *(line[p] for p in places)] for row, line in group]
        stacked = zip(*cells, strict=True)
        table.add_row(Text(label), *(Text("\n").join(column) for column in stacked))
        table.add_section()
    return table


def _terminal_cell(cell: _Cell) -> Text:
    return Text(cell.text.replace(" ± ", "±"), style="bold green" if cell.best else "")


def number_notes(rows: Sequence[TableRow]) -> dict[str, int]:
    """Numbers the notes of a table; cells of one note share a number."""
    notes = dict.fromkeys(note for row in rows for note in row.notes)
    return {note: number for number, note in enumerate(notes, start=1)}


def name_columns(rows: Sequence[TableRow]) -> list[str]:
    """Headers of the columns that name a row; the dataset only where there are several."""
    several = len({row.dataset for row in rows}) > 1
    return ["Dataset", "Method", "Structure"] if several else ["Method", "Structure"]


def name_cells(row: TableRow, columns: Sequence[str]) -> list[str]:
    """The cells that name a row, for the columns given."""
    cells = [shorten_dataset(row.dataset), row.label, title_of(row.structure)]
    return cells[-len(columns) :]


def score_cells(
    row: TableRow,
    columns: Mapping[str, Metric],
    notes: Mapping[str, int],
    *,
    deviations: Container[str],
) -> list[_Cell]:
    """The cells after the names: scores, interval, sections, and seeds with the notes.

    Args:
        row: Row of the table.
        columns: The metrics that are columns of it.
        notes: Number of each note; those without one are left out.
        deviations: Metrics that are given with their standard deviation.
    """
    cells = []
    for metric, column in columns.items():
        text = column.write(row.scores[metric]) if metric in row.scores else MISSING
        if metric in row.deviations and metric in deviations:
            text += f" ± {column.write(row.deviations[metric])}"
        cells.append(_Cell(text, best=metric in row.best))
    interval = "–".join(map(METRICS[row.metric].write, row.interval)) if row.interval else MISSING
    numbers = ",".join(str(notes[note]) for note in row.notes if note in notes)
    seeds = MISSING if row.published else str(row.n)
    seeds += f" [{numbers}]" if numbers else ""
    sections = write_count(row.sections, row.independent) if row.sections else MISSING
    return [*cells, _Cell(interval), _Cell(sections), _Cell(seeds)]


def shorten_dataset(dataset: str) -> str:
    """The first twelve digits of a content hash; any other name as it is."""
    digits = dataset.rpartition(":")[2]
    return digits[:12] if re.fullmatch("[0-9a-f]{16,}", digits) else dataset


def escape_latex(text: str) -> str:
    """Escapes the characters that have a meaning of their own in LaTeX text."""
    return "".join(_LATEX_ESCAPES.get(character, character) for character in text)


def escape_markdown(text: str) -> str:
    """Escapes the characters that have a meaning of their own inside a Markdown table."""
    return re.sub(r"([\\|*_`<\[\]])", r"\\\1", text)


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, names: int) -> str:
    """Joins escaped cells; the first columns are names, to the left, the others numbers."""
    lines = [headers, ["---"] * names + ["---:"] * (len(headers) - names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cost_table(rows: Sequence[TableRow]) -> str:
    """Writes a row per dataset and method with a cost known; empty text if there is none."""
    costly = [row for row in rows if row.costs]
    if not costly:
        return ""
    lines = []
    for dataset, method in dict.fromkeys((row.dataset, row.method) for row in costly):
        members = [row.costs for row in costly if (row.dataset, row.method) == (dataset, method)]
        cells = []
        for cost in COST_COLUMNS:
            known = [costs[cost] for costs in members if cost in costs]
            cells.append(format_cost(float(np.mean(known))) if known else MISSING)
        lines.append([escape_markdown(dataset), escape_markdown(variant_label(method)), *cells])
    table = markdown_table(["Dataset", "Method", *COST_COLUMNS.values()], lines, names=2)
    return f"## Cost\n\n{table}\n\n{_COST_CAPTION}\n"


def format_cost(value: float) -> str:
    """A cost in three digits, or whole with its thousands marked."""
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"
