"""Every score at every threshold and minimum area of a map, from one pass over it."""

from collections.abc import Sequence

import numpy as np

from bench.errors import BenchError
from bench.metrics.curves import ThresholdCounts
from bench.metrics.instances import THRESHOLDS
from bench.metrics.overlap import IS_OPEN, check_same_shape
from bench.search.component_tree import (
    build_component_tree,
    count_components,
    match_components,
    measure_nodes,
)

# The thresholds of IoU over a common denominator, for exact comparisons.
DENOMINATOR = 20
# Places of pixels are 32-bit numbers.
_MOST_PIXELS = 2**31
NUMERATORS = np.array([int(threshold * DENOMINATOR) for threshold in THRESHOLDS])


def count_thresholds(
    levels: np.ndarray,
    truth: np.ndarray,
    min_areas: Sequence[int],
    opened: np.ndarray | None = None,
) -> ThresholdCounts:
    """Scores the components of a map at all thresholds 0 .. 255 and minimum areas.

    The numbers are those of ``clean_mask`` without an opening, ``count_pixels`` and
    ``match_instances`` at each of them. An opening is a matter of the map: opened as a grey image
    it has at each threshold the opening of the mask.

    Args:
        levels: Probability (y, x) or (z, y, x), uint8, round(255 p). It takes 40 bytes a pixel.
        truth: Instance ids of the same shape, 0 background.
        min_areas: Smallest areas kept, px, ascending.
        opened: What is not annotated, of the same shape, see ``metrics.overlap``: the numbers are
            then those of the instances that ``count_instances_only`` leaves. None where all is.

    Raises:
        BenchError: If the shapes differ, or there are more pixels than 32 bits count.
    """
    check_same_shape(truth=truth, prediction=levels)
    if levels.size >= _MOST_PIXELS:
        raise BenchError(
            f"a search needs fewer than {_MOST_PIXELS:,} pixels or voxels at once, received shape "
            f"{levels.shape}: search on a part of it"
        )
    areas = np.asarray(min_areas, dtype=np.int64)
    flat, flat_truth = np.ascontiguousarray(levels).reshape(-1), truth.reshape(-1)
    rows, columns = levels.shape[-2:]
    order, parent = build_component_tree(flat, columns, rows * columns)
    area, found = measure_nodes(order, parent, flat_truth > 0)
    annotated = counting = area
    if opened is not None:
        # What of each component is annotated, and what of that is in no object that is mostly open.
        _, annotated = measure_nodes(order, parent, opened.reshape(-1) != IS_OPEN)
        _, counting = measure_nodes(order, parent, opened.reshape(-1) == 0)
        flat_truth = np.where(opened.reshape(-1) == 0, flat_truth, 0)
    counted = count_components(flat, parent, area, annotated, counting, found, areas)
    pixels, ends = _group_instances(flat_truth)
    matched, ious, kept = match_components(
        flat, parent, area, counting, pixels, ends, areas, NUMERATORS, DENOMINATOR
    )
    # Of components that are mostly open those count that match.
    counted[0] += kept
    counted = _accumulate(counted)
    return ThresholdCounts(
        truth_px=int(np.count_nonzero(truth)),
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
