"""What counts of a prediction where not everything is annotated.

A map of levels says it: 0 is annotated, ``OPEN`` is where nobody annotated, and ``MOSTLY_OPEN``
where an object of the truth is annotated more than half of which nobody did. Pixels that are open
count for nothing. An object, true or predicted, of which more than half is open is neither found
nor missed nor made up.
"""

import numpy as np

from bench.metrics.instances import count_overlaps

OPEN, MOSTLY_OPEN = 1, 2


def find_open(levels: np.ndarray | None) -> np.ndarray | None:
    """Where nobody annotated, bool; None where all is annotated."""
    return None if levels is None else np.asarray(levels == OPEN)


def cut_open(labels: np.ndarray, levels: np.ndarray | None) -> np.ndarray:
    """Labels or a mask without what nobody annotated."""
    return labels if levels is None else np.where(levels == OPEN, labels.dtype.type(0), labels)


def count_instances_only(
    truth: np.ndarray, prediction: np.ndarray, levels: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Both label images with those instances alone that count, and of these what is annotated.

    A predicted instance is dropped if more than half of it is open, or is in objects of the truth
    that are; but for one that matches (IoU > 0.5) what is annotated of an object that counts.

    Args:
        truth: Instance ids, 0 background.
        prediction: Instance ids of the same shape.
        levels: What is not annotated, of the same shape; None where all is.

    Examples:
        >>> truth = np.array([1, 1, 0, 0, 0, 0, 0, 2])
        >>> found = np.array([5, 5, 5, 0, 6, 6, 6, 0])
        >>> levels = np.array([0, 0, 0, 0, 0, 1, 1, 2])
        >>> [each.tolist() for each in count_instances_only(truth, found, levels)]
        [[1, 1, 0, 0, 0, 0, 0, 0], [5, 5, 5, 0, 0, 0, 0, 0]]
    """
    if levels is None:
        return truth, prediction
    void = levels > 0
    counted = np.where(void, truth.dtype.type(0), truth)
    left = np.where(void, prediction.dtype.type(0), prediction)
    ids, areas = np.unique(prediction, return_counts=True)
    seen, seen_areas = np.unique(left[left != 0], return_counts=True)
    outside = np.zeros(ids.size, np.int64)
    outside[np.searchsorted(ids, seen)] = seen_areas
    dropped = np.setdiff1d(ids[2 * outside < areas], _find_matched(counted, left, seen))
    if dropped.size:
        left = np.where(np.isin(left, dropped), left.dtype.type(0), left)
    return counted, left


def _find_matched(truth: np.ndarray, prediction: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The predicted ids that match an instance of the truth; ids are all that there are."""
    found = count_overlaps(truth, prediction)
    unions = found.truth_areas[found.truth_index] + found.predicted_areas[found.predicted_index]
    matched = 2 * found.intersections > unions - found.intersections
    return np.asarray(ids[np.unique(found.predicted_index[matched])])
