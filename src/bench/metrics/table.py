"""Scores of a prediction against the truth, one row each.

A row of ``METRICS`` says all that the suite knows of a metric: what is measured of a section and
how the sum over sections becomes a score, how it is shown and compared, and whether a search may
choose by it. Whoever scores, searches, tabulates or draws asks the row. In all rows of this table
that score a share both-empty is 1 and one-empty is 0; errors of pairs are not defined without one.

What is scored is a section (y, x), or in a dataset of volumes a whole volume (z, y, x).
"""

import math
import re
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from bench.errors import BenchError, unknown_name
from bench.metrics.curves import (
    ThresholdCounts,
    average_precision,
)
from bench.metrics.instances import (
    instance_f1,
    instance_f1_mean,
    instance_precision,
    instance_recall,
    panoptic_quality,
)
from bench.metrics.measures import (
    Measure,
    ScoredSection,
    dice_of_masks,
    measure_histogram,
    measure_mask_pixels,
    measure_matching,
    measure_pixels,
    measure_vesicles,
    pool_vesicles,
)
from bench.metrics.overlap import (
    dice_score,
    iou_score,
    precision_score,
    recall_score,
)
from bench.metrics.vesicles import (
    centre_error_nm,
    diameter_error,
    vesicle_f1,
    vesicle_precision,
    vesicle_recall,
)

# What is compared and drawn where the user names no other, and ranks sections for their pictures.
HEADLINE = "dice"
# A name is part of MLflow's names and a column of CSV files.
_NAME = re.compile("[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Metric:
    """All about a metric.

    Attributes:
        label: The name in tables and charts.
        meaning: One sentence for the report.
        finish: From what was measured, of one section or added up over several, to the score; NaN
            where it is not defined, which a metric that a search may choose by always is.
        search: From counts, what is divided by what at each threshold and minimum area; the
            same numbers as ``finish``. Nothing divided by nothing is the best score, anything
            else by nothing the worst. None where no search may choose by the metric.
        measure: From a section to what is added up with ``+``, such as PixelCounts; metrics that
            share the function share what it returns.
        basis: What it scores: pixels or instances of a segmentation, or the probabilities before
            there is one, which have one score over all sections and none for each.
        direction: Whether the better method has the higher or the lower value.
        low: The lowest value that can be; -inf without one.
        high: The highest; inf without one.
        unit: What its values are in, such as nm; empty for a share.
        decimals: Digits shown after the point; values that look alike with them are equal.
        column: Whether the table has a column of it; CSV and JSON files have every metric.
        volumes: Whether it scores volumes only. Such a metric is no column of a table where no
            method has it, and is not asked of sections.
        about: What the name of a structure must contain for the metric to be asked; empty for all.
        short: The label over a column of a terminal, with line breaks; by default the label, a
            word a line.

    Raises:
        BenchError: If the range is empty, or a search may choose by a metric without bounds.
    """

    label: str
    meaning: str
    finish: Callable[[Any], float]
    search: Callable[[ThresholdCounts], tuple[Any, Any]] | None = None
    _: KW_ONLY
    measure: Measure
    basis: Literal["pixels", "instances", "probability"]
    direction: Literal["higher", "lower"] = "higher"
    low: float = 0.0
    high: float = 1.0
    unit: str = ""
    decimals: int = 3
    column: bool = True
    short: str = ""
    volumes: bool = False
    about: str = ""

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.search and not math.isfinite(self.span)):
            raise BenchError(
                f"metric {self.label!r} must have a range, with two ends where a search may choose "
                f"by it, received {self.low:g} to {self.high:g}: state low and high"
            )

    @property
    def heading(self) -> str:
        """The label with the unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def narrow_heading(self) -> str:
        """The heading over a column of a terminal."""
        label = self.short or self.label.replace(" ", "\n")
        return f"{label}\n({self.unit})" if self.unit else label

    @property
    def span(self) -> float:
        """From the lowest to the highest value, which is the largest difference of two."""
        return self.high - self.low

    @property
    def ends(self) -> tuple[float, float]:
        """The worst and the best value that can be."""
        return (self.low, self.high) if self.direction == "higher" else (self.high, self.low)

    def merit(self, value: Any) -> Any:
        """A value or a difference, or an array, turned so that the highest is the best."""
        return value if self.direction == "higher" else -value

    def write(self, value: float) -> str:
        """A value as a text."""
        return f"{value:.{self.decimals}f}"

    def write_change(self, difference: float) -> str:
        """A difference of two values as a text, with its sign."""
        return f"{difference:+.{self.decimals}f}"

    def at_thresholds(self, counts: ThresholdCounts) -> np.ndarray:
        """The score at each minimum area and threshold, (areas, 256).

        Raises:
            TypeError: If no search may choose by the metric.
        """
        if self.search is None:
            raise TypeError(f"{self.label} is not counted at thresholds")
        part, whole = self.search(counts)
        if self.basis == "instances":
            present = counts.instances + counts.truth_instances
        else:
            present = counts.predicted_px + counts.truth_px
        worst, best = self.ends
        nothing = np.where(present == 0, float(best), float(worst))
        return np.asarray(np.divide(part, whole, out=nothing, where=np.asarray(whole) > 0))


_of_pixels = partial(Metric, measure=measure_pixels, basis="pixels")
_of_instances = partial(Metric, measure=measure_matching, basis="instances")
_of_vesicles = partial(
    Metric, measure=measure_vesicles, basis="instances", volumes=True, about="vesicle"
)

# A new metric is one row here, its functions, and a test.
METRICS: dict[str, Metric] = {
    "dice": _of_pixels(
        "Dice",
        "2 TP / (2 TP + FP + FN) over pixels.",
        dice_score,
        lambda n: (2 * n.true_px, n.predicted_px + n.truth_px),
    ),
    "iou": _of_pixels(
        "IoU",
        "TP / (TP + FP + FN) over pixels.",
        iou_score,
        lambda n: (n.true_px, n.predicted_px + n.truth_px - n.true_px),
    ),
    "precision": _of_pixels(
        "Precision",
        "TP / (TP + FP) over pixels.",
        precision_score,
        lambda n: (n.true_px, n.predicted_px),
        short="Prec.",
    ),
    "recall": _of_pixels(
        "Recall", "TP / (TP + FN) over pixels.", recall_score, lambda n: (n.true_px, n.truth_px)
    ),
    "instance_precision": _of_instances(
        "Inst. precision",
        "Predicted instances with a match at IoU > 0.5.",
        instance_precision,
        lambda n: (n.matched[0], n.instances),
        column=False,
    ),
    "instance_recall": _of_instances(
        "Inst. recall",
        "Instances of the truth with a match at IoU > 0.5.",
        instance_recall,
        lambda n: (n.matched[0], n.truth_instances),
        column=False,
    ),
    "instance_f1": _of_instances(
        "Inst. F1",
        "F1 of instances matched at IoU > 0.5.",
        instance_f1,
        lambda n: (2 * n.matched[0], n.instances + n.truth_instances),
    ),
    "instance_f1_mean": _of_instances(
        "Inst. F1 (mean)",
        "Instance F1, mean over IoU > 0.50, 0.55 .. 0.95.",
        instance_f1_mean,
        lambda n: (2 * n.matched.mean(axis=0), n.instances + n.truth_instances),
        column=False,
    ),
    "panoptic_quality": _of_instances(
        "PQ",
        "Instance F1 at IoU > 0.5 times the mean IoU of the matches.",
        panoptic_quality,
        lambda n: (2 * n.matched_iou, n.instances + n.truth_instances),
        column=False,
    ),
    "average_precision": Metric(
        "Average precision",
        "Precision over pixels, averaged over recall.",
        average_precision,
        measure=measure_histogram,
        basis="probability",
        column=False,
    ),
    "mask_dice": Metric(
        "Mask Dice",
        "Dice of the voxels that reached the threshold, before spheres were found in them.",
        dice_of_masks,
        measure=measure_mask_pixels,
        basis="pixels",
        volumes=True,
    ),
    "vesicle_recall": _of_vesicles(
        "Vesicle recall",
        "Vesicles of the truth with a partner: a ball each of which holds the other's centre.",
        pool_vesicles(vesicle_recall),
    ),
    "vesicle_precision": _of_vesicles(
        "Vesicle precision",
        "Predicted vesicles with a partner: a ball each of which holds the other's centre.",
        pool_vesicles(vesicle_precision),
        short="Vesicle\nprec.",
    ),
    "vesicle_f1": _of_vesicles(
        "Vesicle F1",
        "F1 of vesicles paired by mutual centres.",
        pool_vesicles(vesicle_f1),
    ),
    "diameter_error": _of_vesicles(
        "Diameter error",
        "1 less the ratio of the smaller to the larger diameter, mean over paired vesicles.",
        pool_vesicles(diameter_error),
        direction="lower",
    ),
    "centre_error_nm": _of_vesicles(
        "Centre error",
        "Distance of the centres of paired vesicles, mean.",
        pool_vesicles(centre_error_nm),
        direction="lower",
        high=math.inf,
        unit="nm",
        decimals=2,
    ),
}


def find_metric(name: str) -> Metric:
    """Returns the metric of a name.

    Raises:
        BenchError: If the table has no such name.
    """
    if name not in METRICS:
        raise unknown_name("metric", name, METRICS)
    return METRICS[name]


def register_metric(name: str, row: Metric) -> None:
    """Adds a row to ``METRICS``; the same row twice is one.

    Args:
        name: Of small letters, digits and underscores: a column of CSV files, a part of the names
            in MLflow.
        row: The metric.

    Raises:
        BenchError: If the name is another metric's, or none for a metric.
    """
    if not _NAME.fullmatch(name):
        raise BenchError(
            f"the name of a metric is of small letters, digits and _, received {name!r}: rename it"
        )
    if METRICS.setdefault(name, row) != row:
        raise BenchError(
            f"a metric's name is free, {name!r} is {METRICS[name].label}: register "
            f"{row.label} under another name"
        )


def searchable_metrics() -> tuple[str, ...]:
    """Names of the metrics that a search may choose by."""
    return tuple(name for name, row in METRICS.items() if row.search)


def scored_metrics(structure: str, *, volumes: bool) -> tuple[str, ...]:
    """Names of the metrics that are asked of a structure, in sections or in whole volumes.

    What a step scores is part of its run's identity: a metric of volumes, or of vesicles alone,
    leaves the finished runs of everything else as they are.
    """
    return tuple(
        name
        for name, row in METRICS.items()
        if row.about in structure and (volumes or not row.volumes)
    )


def table_columns(shown: Iterable[Container[str]] | None = None) -> dict[str, Metric]:
    """The metrics that are columns of a table, in its order.

    Args:
        shown: Of each row of the table what it has scores of: a metric of volumes is a column
            where a row has it. None for all that may be columns.
    """
    rows = None if shown is None else list(shown)
    return {
        name: row
        for name, row in METRICS.items()
        if row.column and (rows is None or not row.volumes or any(name in each for each in rows))
    }


def measure_section(section: ScoredSection, names: Iterable[str]) -> dict[Measure, Any]:
    """Measures a section for some metrics, once for those that share what is measured."""
    measures = dict.fromkeys(METRICS[name].measure for name in names)
    return {measure: measure(section) for measure in measures}


def finish_scores(measured: Mapping[Measure, Any], names: Iterable[str]) -> dict[str, float]:
    """The scores of what was measured of a section, or added up over several.

    Args:
        measured: By the function that measured it.
        names: The metrics to finish.

    Returns:
        Metric -> score, without those that are not defined.
    """
    rows = {name: METRICS[name] for name in names}
    scores = {name: float(row.finish(measured[row.measure])) for name, row in rows.items()}
    return {name: score for name, score in scores.items() if math.isfinite(score)}
