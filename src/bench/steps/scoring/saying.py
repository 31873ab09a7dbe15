"""What an evaluation says of its scores when it has ended."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from bench.methods import ORACLE
from bench.metrics.table import HEADLINE, METRICS
from bench.report.data_facts import DataFacts
from bench.report.intervals import section_interval
from bench.report.serial import describe_worth
from bench.report.variants import is_oracle_variant
from bench.steps.saying import say_kept
from bench.steps.scoring.score_files import SCORES_FILE, overlay_file, unpack_scores
from bench.tracking.queries import fetch_artifact, get_run, read_run
from bench.tracking.store import Store

log = logging.getLogger(__name__)

# Of a split, where it has them.
_SHOWN = (HEADLINE, "iou", "instance_f1", "mask_dice", "vesicle_f1", "centre_error_nm", "box_iou")


def say_scores(store: Store, run_id: str) -> None:
    """Says the scores of an evaluation, and where a picture of them is."""
    run = get_run(store, run_id)
    found, scores = read_run(run), dict[str, Any]()
    method = found.cell.method
    if is_oracle_variant(method):
        method = f"{method} {ORACLE}"
    if found.scores:
        scores = unpack_scores(found.scores)
    else:
        scores = json.loads(fetch_artifact(store, run_id, SCORES_FILE).read_text(encoding="utf-8"))
    unit = DataFacts(**json.loads(found.data or "{}")).unit
    log.info(
        "%s by %s, %s %ss of %s: %s",
        found.cell.structure,
        method,
        run.data.tags["bench.split"],
        unit,
        found.dataset_label,
        describe_scores(scores["pooled"], scores["sections"], unit),
    )
    ranked = sorted(scores["sections"], key=lambda name: scores["sections"][name].get(HEADLINE, 0))
    say_kept(store, run_id, overlay_file(ranked[len(ranked) // 2]))


def describe_scores(
    pooled: Mapping[str, float],
    sections: Mapping[str, Mapping[str, float]],
    unit: str = DataFacts.unit,
) -> str:
    """Says the scores of a split in a line, with the interval of the first.

    Args:
        pooled: Metric -> value, over all pixels and instances of the split.
        sections: The same of each section, or volume.
        unit: Which of both.
    """
    row = METRICS[HEADLINE]
    values = {name: scores[HEADLINE] for name, scores in sections.items() if HEADLINE in scores}
    interval, dependence = section_interval(values, limits=(row.low, row.high), unit=unit)
    shown = {name: METRICS[name] for name in _SHOWN if name in pooled}
    parts = [
        f"{metric.label} {metric.write(pooled[name])} {metric.unit}".rstrip()
        for name, metric in shown.items()
    ]
    if interval is None:
        sure = f"one {unit}, which cannot say how sure {row.label} is"
    else:
        low, high = map(row.write, interval)
        count = f"{len(values)} {unit}s" + describe_worth(
            dependence.effective if dependence else None
        )
        sure = f"{count}, 95 % interval of their mean {row.label} {low} to {high}"
    return f"{', '.join(parts)} ({sure})"
