"""What every method costs, as a Markdown table."""

from collections.abc import Sequence

import numpy as np

from bench.report.table_formats import COST_COLUMNS, MISSING, escape_markdown
from bench.report.tables import TableRow
from bench.report.variants import variant_label

MEANING = (
    "Training is the time in the training loop, that of the stage it started from included; GPU "
    "memory is the peak of the tensors in training, empty on a CPU."
)
COST_CAPTION = f"Means over structures and seeds, of whatever machine each run was on. {MEANING}"


def cost_table(rows: Sequence[TableRow]) -> str:
    """Writes a row per dataset and method with a cost known; empty text if there is none."""
    costly = [row for row in rows if row.costs]
    if not costly:
        return ""
    lines = [
        ["Dataset", "Method", *COST_COLUMNS.values()],
        ["---", "---", *(["---:"] * len(COST_COLUMNS))],
    ]
    for dataset, method in dict.fromkeys((row.dataset, row.method) for row in costly):
        members = [row.costs for row in costly if (row.dataset, row.method) == (dataset, method)]
        cells = []
        for cost in COST_COLUMNS:
            known = [costs[cost] for costs in members if cost in costs]
            cells.append(format_cost(float(np.mean(known))) if known else MISSING)
        lines.append([escape_markdown(dataset), escape_markdown(variant_label(method)), *cells])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"## Cost\n\n{table}\n\n{COST_CAPTION}\n"


def format_cost(value: float) -> str:
    """A cost in three digits, or whole with its thousands marked."""
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"
