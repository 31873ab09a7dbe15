"""Published scores, to stand beside the benchmark table; of other data, so never compared."""

import csv
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from bench.errors import BenchError, unknown_name
from bench.metrics.table import METRICS, table_columns
from bench.report.tables import TableRow, mark_best
from bench.structures import find_structure

_NAMES = ("method", "structure")
# Columns that a file may have besides: which of several data sets, and what to know of a row.
_DATASET, _NOTE = "dataset", "note"
NO_NUMBER = "no number was published"
_OTHER_DATA = "published scores, of other data: not compared with ours"


def read_reference(path: Path) -> list[TableRow]:
    """Reads published scores as rows of a dataset of their own, best values marked among them.

    The file is a CSV table with the columns method, structure, and any of the metrics that are
    columns of ours (dice, iou, precision ..); a cell is empty where nothing was published. Where
    the scores are of several data sets, a column dataset names that of each row: the best is marked
    within each. A column note holds what a reader of a row must know.

    Args:
        path: The file; its name becomes that of the dataset, or the first part of it.

    Raises:
        BenchError: If the file cannot be read, lacks a column or has another one, names a method
            and structure of a dataset twice, or a score is no number that its metric can be.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey="", restval=None)
            columns = list(reader.fieldnames or [])
            lines = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise BenchError(
            f"reference must be a CSV table of published scores, {path} cannot be read: {reason}"
        ) from error
    _check_columns(path, columns)
    rows = [_read_line(path, number, line) for number, line in enumerate(lines, start=2)]
    cells = Counter((r.method, r.structure, r.dataset) for r in rows)
    twice = [cell for cell, n in cells.items() if n > 1]
    if twice:
        raise BenchError(
            f"{path} must name a method and structure once, received {', '.join(twice[0][:2])} "
            "twice: "
            "keep one of them"
        )
    if not rows:
        raise BenchError(f"{path} must have a row of published scores, received none")
    return mark_best(rows)


def _check_columns(path: Path, columns: list[str]) -> None:
    for name in _NAMES:
        if name not in columns:
            raise BenchError(
                f"{path} must have the columns method and structure, received "
                f"{', '.join(columns) or 'none'}: add {name}"
            )
    for name in columns:
        known = (*_NAMES, _DATASET, _NOTE, *table_columns())
        if name not in known:
            raise unknown_name(f"column of {path}", name, known)
    if len(set(columns)) < len(columns):
        raise BenchError(f"{path} must name a column once, received {', '.join(columns)}")


def _read_line(path: Path, number: int, line: Mapping[str, str | None]) -> TableRow:
    if "" in line or None in line.values():
        raise BenchError(f"line {number} of {path} must have as many cells as the first line")
    cells = {name: str(text).strip() for name, text in line.items()}
    if not cells["method"]:
        raise BenchError(f"line {number} of {path} must name a method, received an empty cell")
    metrics = [metric for metric in table_columns() if cells.get(metric)]
    scores = {metric: _read_score(path, number, metric, cells[metric]) for metric in metrics}
    return TableRow(
        method=cells["method"],
        label=f"{cells['method']} (published)",
        structure=find_structure(cells["structure"]).name,
        dataset=", ".join(filter(None, [f"published: {path.stem}", cells.get(_DATASET)])),
        seeds=(),
        run_ids=(),
        scores=scores,
        deviations={},
        interval=None,
        sections=0,
        reason=None if scores else NO_NUMBER,
        warnings=tuple(filter(None, [_OTHER_DATA, cells.get(_NOTE)])),
        published=True,
    )


def _read_score(path: Path, number: int, metric: str, text: str) -> float:
    row = METRICS[metric]
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not (math.isfinite(score) and row.low <= score <= row.high):
        raise BenchError(
            f"{metric} in line {number} of {path} must be a number from {row.low:g} to "
            f"{row.high:g} or empty, received {text!r}"
        )
    return score
