"""Candidates of the search, how they are scored, and which one of equals is taken."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.errors import BenchError
from bench.inference.blends import Blend, describe_blend
from bench.metrics.curves import TOP_LEVEL, ScoreHistogram
from bench.metrics.table import METRICS
from bench.postprocess.watershed import WatershedSettings
from bench.search.threshold_counts import ThresholdCounts

PIXEL_METRICS = ("dice", "iou", "precision", "recall")
# Average precision is of all thresholds, so none is the best by it.
SEARCHABLE = tuple(name for name in METRICS if name != "average_precision")
# Where the metric says nothing of instances, they decide between equals, and the other way round.
SECOND = {True: "instance_f1", False: "dice"}


@dataclass(frozen=True)
class Candidate:
    """A combination: a blend, its threshold and its post-processing.

    Attributes:
        blend: The maps made one.
        level: A pixel is foreground from this level on, 0 to 255.
        opening_radius_px: Radius of the opening.
        min_area_px: Smallest instance kept.
        scores: Metrics on validation.
        watershed: How touching instances are separated; None leaves them together.
    """

    blend: Blend
    level: int
    opening_radius_px: int
    min_area_px: int
    scores: Mapping[str, float] = field(compare=False)
    watershed: WatershedSettings | None = None

    @property
    def threshold(self) -> float:
        """The threshold as a probability, exactly that of the level."""
        return self.level / TOP_LEVEL

    def describe(self) -> dict[str, Any]:
        """A row of the search table."""
        return {
            **describe_blend(self.blend),
            "threshold": round(self.threshold, 4),
            "level": self.level,
            "opening_radius_px": self.opening_radius_px,
            "min_area_px": self.min_area_px,
            "watershed": self.watershed is not None,
            **self.scores,
        }


def check_metric(metric: str) -> None:
    """Raises BenchError for a metric that no threshold can be chosen by."""
    if metric not in SEARCHABLE:
        raise BenchError(
            f"the search needs a metric of a segmentation, received {metric!r}: choose one of "
            f"{', '.join(SEARCHABLE)}"
        )


def pixel_counts(histogram: ScoreHistogram) -> ThresholdCounts:
    """The counts of a histogram: of pixels only, for one minimum area of nothing."""
    found, wrong = (
        np.cumsum(part[::-1])[::-1][None] for part in (histogram.foreground, histogram.background)
    )
    nothing = np.zeros_like(found)
    return ThresholdCounts(
        truth_px=int(histogram.foreground.sum()),
        truth_instances=0,
        instances=nothing,
        predicted_px=found + wrong,
        true_px=found,
        matched=nothing[None],
        matched_iou=nothing,
    )


def pixel_curve(histogram: ScoreHistogram, metric: str) -> np.ndarray:
    """A pixel metric at every threshold, (256,)."""
    return np.asarray(pixel_counts(histogram).score(metric)[0])


def middle_of_best(scores: np.ndarray) -> int:
    """The place of the highest score; of several, the middle one: far from where it gets worse."""
    best = np.flatnonzero(scores == scores.max())
    return int(best[(best.size - 1) // 2])


def best_by_area(
    blend: Blend, counts: ThresholdCounts, radius: int, min_areas: Iterable[int], metric: str
) -> list[Candidate]:
    """The best threshold for each minimum area."""
    curves = {name: counts.score(name) for name in SEARCHABLE}
    found = []
    for place, area in enumerate(min_areas):
        level = middle_of_best(curves[metric][place])
        scores = {name: float(curve[place, level]) for name, curve in curves.items()}
        found.append(Candidate(blend, level, radius, area, scores))
    return found


def preference(candidate: Candidate, metric: str) -> tuple[float, ...]:
    """By what candidates are ordered, the best highest: score, then what is simpler.

    Differences in the tenth digit are of rounding, not of segmentation.
    """
    scores = candidate.scores
    return (
        round(scores[metric], 10),
        round(scores[SECOND[metric in PIXEL_METRICS]], 10),
        -candidate.blend.passes,
        -len(candidate.blend.members),
        -candidate.opening_radius_px,
        -candidate.min_area_px,
    )


def best_of(candidates: Iterable[Candidate], metric: str) -> Candidate:
    """The best candidate; the first of those that nothing tells apart."""
    return max(candidates, key=lambda candidate: preference(candidate, metric))
