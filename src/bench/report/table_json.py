"""The benchmark table as JSON: all that is known of every row, down to the single section."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bench.metrics.table import HEADLINE
from bench.report.comparisons import Comparison, MeanRank
from bench.report.tables import ScoreRecord, TableRow, group_records

_SCHEMA_VERSION = 1


def to_json(
    rows: Sequence[TableRow],
    records: Sequence[ScoreRecord],
    comparisons: Sequence[Comparison],
    ranks: Sequence[MeanRank],
) -> dict[str, Any]:
    """Collects a benchmark in one dictionary of plain values.

    Args:
        rows: The rows of the table, published ones included.
        records: The records that the rows were made of: a row's ``runs`` have their scores, also
            per section.
        comparisons: Every pair of methods.
        ranks: Mean ranks of the methods.
    """
    members = group_records(records)
    metric = rows[0].metric if rows else HEADLINE
    # Files were of Dice alone before another metric could be chosen, and those of Dice stay so.
    of_metric = {} if metric == HEADLINE else {"metric": metric}
    return {
        "schema_version": _SCHEMA_VERSION,
        **of_metric,
        "rows": [
            _describe_row(row, members.get((row.method, row.structure, row.dataset), []))
            for row in rows
        ],
        "comparisons": [
            {name: value for name, value in asdict(pair).items() if name != "metric"}
            | {"distinguishable": pair.distinguishable, "testable": pair.testable}
            | {"needed": [needed and asdict(needed) for needed in pair.needed]}
            for pair in comparisons
        ],
        "ranks": [asdict(rank) for rank in ranks],
    }


def _describe_row(row: TableRow, records: Sequence[ScoreRecord]) -> dict[str, Any]:
    runs = [
        {
            "seed": record.seed,
            "run_id": record.run_id,
            "scores": dict(record.scores),
            "sections": {name: dict(scores) for name, scores in record.section_scores.items()},
            "costs": dict(record.costs),
        }
        for record in sorted(records, key=lambda record: record.seed)
        if record.scores
    ]
    left_out = ("seeds", "run_ids", "metric")
    fields = {name: value for name, value in vars(row).items() if name not in left_out}
    return fields | {
        "oracle": row.oracle,
        "scores": dict(row.scores),
        "deviations": dict(row.deviations),
        "best": sorted(row.best),
        "costs": dict(row.costs),
        "data": asdict(row.data),
        "runs": runs,
    }
