"""Every score at every threshold and minimum area of a map, from one pass over it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from bench.metrics.instances import THRESHOLDS
from bench.metrics.overlap import check_same_shape
from bench.search.component_tree import (
    build_component_tree,
    count_components,
    match_components,
    measure_nodes,
)

# The thresholds of IoU over a common denominator, for exact comparisons.
DENOMINATOR = 20
NUMERATORS = np.array([int(threshold * DENOMINATOR) for threshold in THRESHOLDS])


@dataclass(frozen=True, eq=False)
class ThresholdCounts:
    """What is found at each minimum area and threshold; counts of several sections add.

    Attributes:
        truth_px: Foreground pixels of the truth.
        truth_instances: Its instances.
        instances: Predicted instances, (areas, 256).
        predicted_px: Their pixels, (areas, 256).
        true_px: Those of them that are true, (areas, 256).
        matched: Matches at each IoU of ``THRESHOLDS``, (10, areas, 256).
        matched_iou: Sum of the IoU of matches at IoU > 0.5, (areas, 256).
    """

    truth_px: int
    truth_instances: int
    instances: np.ndarray
    predicted_px: np.ndarray
    true_px: np.ndarray
    matched: np.ndarray
    matched_iou: np.ndarray

    def __add__(self, other: "ThresholdCounts") -> "ThresholdCounts":
        names = [field.name for field in fields(self)]
        return ThresholdCounts(*(getattr(self, name) + getattr(other, name) for name in names))

    def score(self, metric: str) -> np.ndarray:
        """A metric of ``METRICS`` at each minimum area and threshold, (areas, 256).

        Raises:
            KeyError: If the metric is not one of a segmentation.
        """
        pixels = self.predicted_px + self.truth_px
        instances = self.instances + self.truth_instances
        found = self.matched[0]
        parts = {
            "dice": (2 * self.true_px, pixels, pixels),
            "iou": (self.true_px, pixels - self.true_px, pixels),
            "precision": (self.true_px, self.predicted_px, pixels),
            "recall": (self.true_px, np.full_like(pixels, self.truth_px), pixels),
            "instance_precision": (found, self.instances, instances),
            "instance_recall": (found, np.full_like(instances, self.truth_instances), instances),
            "instance_f1": (2 * found, instances, instances),
            "instance_f1_mean": (2 * self.matched.mean(axis=0), instances, instances),
            "panoptic_quality": (2 * self.matched_iou, instances, instances),
        }
        part, whole, present = parts[metric]
        # Both empty is 1, one empty is 0.
        nothing = np.where(present == 0, 1.0, 0.0)
        return np.asarray(np.divide(part, whole, out=nothing, where=whole > 0))


def count_thresholds(
    levels: np.ndarray, truth: np.ndarray, min_areas: Sequence[int]
) -> ThresholdCounts:
    """Scores the components of a map at all thresholds 0 .. 255 and minimum areas.

    The numbers are those of ``clean_mask`` without an opening, ``count_pixels`` and
    ``match_instances`` at each of them. An opening is a matter of the map: opened as a grey image
    it has at each threshold the opening of the mask.

    Args:
        levels: Probability (y, x), uint8, round(255 p).
        truth: Instance ids (y, x), 0 background.
        min_areas: Smallest areas kept, px, ascending.

    Raises:
        BenchError: If the shapes differ.
    """
    check_same_shape(truth=truth, prediction=levels)
    areas = np.asarray(min_areas, dtype=np.int64)
    flat, flat_truth = np.ascontiguousarray(levels).reshape(-1), truth.reshape(-1)
    order, parent = build_component_tree(flat, levels.shape[1])
    area, found = measure_nodes(order, parent, flat_truth > 0)
    counted = _accumulate(count_components(flat, parent, area, found, areas))
    pixels, ends = _group_instances(flat_truth)
    matched, ious = match_components(
        flat, parent, area, pixels, ends, areas, NUMERATORS, DENOMINATOR
    )
    return ThresholdCounts(
        truth_px=pixels.size,
        truth_instances=ends.size,
        instances=counted[0],
        predicted_px=counted[1],
        true_px=counted[2],
        matched=_accumulate(matched),
        matched_iou=_accumulate(ious),
    )


def _group_instances(truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of a flat label image's instances, one after the other, and where each ends."""
    foreground = np.flatnonzero(truth)
    ids = truth[foreground]
    pixels = foreground[np.argsort(ids, kind="stable")].astype(np.int32)
    sizes = np.unique(ids, return_counts=True)[1]
    return pixels, np.cumsum(sizes)


def _accumulate(changes: np.ndarray) -> np.ndarray:
    """From changes (.., areas, 257) to values (.., areas, 256).

    What is kept at an area is kept at every smaller one; a change holds from its threshold on.
    """
    over_areas = np.cumsum(changes[..., ::-1, :], axis=-2)[..., ::-1, :]
    return np.asarray(np.cumsum(over_areas, axis=-1)[..., :-1])
