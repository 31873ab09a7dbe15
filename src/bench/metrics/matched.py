"""IoU of those predicted instances that touch the truth, as published for Perez's data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.metrics.instances import count_overlaps


@dataclass(frozen=True)
class MatchedOverlap:
    """Pixels of a section or a volume.

    Attributes:
        shared: Of truth and prediction both.
        united: Of the truth, or of a predicted instance that touches it.
        predicted: Whether anything was predicted.
    """

    shared: int
    united: int
    predicted: bool

    @property
    def iou(self) -> float:
        """IoU; both empty is 1, one empty is 0.

        A prediction in a section without truth touches nothing: it is dropped, and scores 0 as in
        any other row, not 1.
        """
        if self.united:
            return self.shared / self.united
        return 0.0 if self.predicted else 1.0


def find_matched_overlap(*, truth: np.ndarray, prediction: np.ndarray) -> MatchedOverlap:
    """Counts the overlap of the truth with the predicted instances that touch it.

    Args:
        truth: Instance ids, 0 background.
        prediction: Instance ids of the same shape.

    Examples:
        >>> truth = np.array([1, 1, 0, 0, 0])
        >>> find_matched_overlap(truth=truth, prediction=np.array([0, 1, 1, 0, 2])).iou
        0.3333333333333333
    """
    found = count_overlaps(truth, prediction)
    kept = np.unique(found.predicted_index)
    shared = int(found.intersections.sum())
    areas = int(found.truth_areas.sum()) + int(found.predicted_areas[kept].sum())
    return MatchedOverlap(shared, areas - shared, bool(found.predicted_areas.size))


def mean_matched_iou(units: Sequence[MatchedOverlap]) -> float:
    """Mean over the sections or volumes."""
    return math.fsum(unit.iou for unit in units) / len(units)
