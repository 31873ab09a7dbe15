"""Scores of a prediction against the truth, one definition each.

``METRICS`` says how each score is shown; the modules of this package compute them. In all of
them both-empty is 1 and one-empty is 0, and sections are pooled by adding their counts with
``+`` before the score is taken.
"""

from dataclasses import dataclass
from typing import Literal

from bench.errors import unknown_name


@dataclass(frozen=True)
class _Metric:
    """How a score is shown and compared.

    Attributes:
        label: The name in tables and charts.
        direction: Whether the better method has the higher or the lower value.
        meaning: One sentence for the report.
    """

    label: str
    direction: Literal["higher", "lower"]
    meaning: str


# A new metric is one row here and one function in a module of this package.
METRICS: dict[str, _Metric] = {
    "dice": _Metric("Dice", "higher", "2 TP / (2 TP + FP + FN) over pixels."),
    "iou": _Metric("IoU", "higher", "TP / (TP + FP + FN) over pixels."),
    "precision": _Metric("Precision", "higher", "TP / (TP + FP) over pixels."),
    "recall": _Metric("Recall", "higher", "TP / (TP + FN) over pixels."),
    "average_precision": _Metric(
        "Average precision", "higher", "Precision over pixels, averaged over recall."
    ),
    "instance_precision": _Metric(
        "Inst. precision", "higher", "Predicted instances with a match at IoU > 0.5."
    ),
    "instance_recall": _Metric(
        "Inst. recall", "higher", "Instances of the truth with a match at IoU > 0.5."
    ),
    "instance_f1": _Metric("Inst. F1", "higher", "F1 of instances matched at IoU > 0.5."),
    "instance_f1_mean": _Metric(
        "Inst. F1 (mean)", "higher", "Instance F1, mean over IoU > 0.50, 0.55 .. 0.95."
    ),
    "panoptic_quality": _Metric(
        "PQ", "higher", "Instance F1 at IoU > 0.5 times the mean IoU of the matches."
    ),
}


def find_metric(name: str) -> _Metric:
    """Returns the metric of a name.

    Raises:
        BenchError: If the table has no such name.
    """
    if name not in METRICS:
        raise unknown_name("metric", name, METRICS)
    return METRICS[name]
