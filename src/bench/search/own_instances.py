"""Counts at every threshold and minimum area of a model that finds instances itself."""

from collections.abc import Sequence

import numpy as np

from bench.inference.prediction import SectionPrediction
from bench.metrics.curves import LEVELS
from bench.metrics.instances import count_overlaps
from bench.search.threshold_counts import DENOMINATOR, NUMERATORS, ThresholdCounts


def count_own_instances(
    prediction: SectionPrediction, truth: np.ndarray, min_areas: Sequence[int]
) -> ThresholdCounts:
    """Scores instances at all thresholds 0 .. 255 and minimum areas.

    A threshold takes pixels from them; what is left of one is kept where its area is enough. The
    numbers are those of ``segment_prediction`` at each threshold.

    Args:
        prediction: Maps (y, x), with instances.
        truth: Instance ids (y, x), 0 background.
        min_areas: Smallest areas kept, px, ascending.
    """
    assert prediction.instances is not None
    present = np.unique(prediction.foreground[prediction.instances > 0])
    # Between two levels that are there nothing changes.
    reached = np.searchsorted(present, np.arange(LEVELS))
    steps = [
        count_level(
            np.where(prediction.foreground >= level, prediction.instances, 0), truth, min_areas
        )
        for level in present
    ]
    steps.append(count_level(np.zeros_like(prediction.instances), truth, min_areas))
    instances, predicted_px, true_px, ious = (
        np.stack([step[kind] for step in steps], axis=-1)[..., reached] for kind in range(4)
    )
    matched = np.stack([step[4] for step in steps], axis=-1)[..., reached]
    return ThresholdCounts(
        truth_px=int(np.count_nonzero(truth)),
        truth_instances=int(np.count_nonzero(np.unique(truth))),
        instances=instances,
        predicted_px=predicted_px,
        true_px=true_px,
        matched=matched,
        matched_iou=ious,
    )


def count_level(
    labels: np.ndarray, truth: np.ndarray, min_areas: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Instances, their pixels, the true ones among them, the sum of IoU, and the matches.

    Each by minimum area, (areas,); the matches by IoU as well, (10, areas).
    """
    found = count_overlaps(truth, labels)
    shares = np.bincount(
        found.predicted_index, weights=found.intersections, minlength=len(found.predicted_areas)
    )
    pair_areas = found.predicted_areas[found.predicted_index]
    unions = found.truth_areas[found.truth_index] + pair_areas - found.intersections
    matches = DENOMINATOR * found.intersections > NUMERATORS[:, None] * unions
    ious = np.where(matches[0], found.intersections / unions, 0.0)
    least = np.asarray(min_areas)[:, None]
    kept, kept_pairs = found.predicted_areas >= least, pair_areas >= least
    return (
        kept.sum(axis=1),
        (kept * found.predicted_areas).sum(axis=1),
        (kept * shares).sum(axis=1).astype(np.int64),
        (kept_pairs * ious).sum(axis=1),
        np.stack([(kept_pairs & match).sum(axis=1) for match in matches]),
    )
