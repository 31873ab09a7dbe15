"""Matching of predicted to true instances, and the scores that follow from it.

A predicted instance matches a true one when their IoU is *greater than* the threshold, at 0.5
as in the paper and in the same strict sense at 0.55, 0.60 .. 0.95.

No assignment has to be solved. Let P and T have IoU > 1/2, so |P n T| > |P u T| / 2. As the
union holds both, |P n T| is more than half of |P| and more than half of |T|. Instances of one
label image are disjoint: no second true instance can hold more than half of P, and no second
prediction more than half of T. Every instance thus has at most one partner at any threshold of
1/2 or more, and the pairs above it are the one-to-one matching with the most matches.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from bench.errors import BenchError
from bench.metrics.overlap import PIXELS_AT_ONCE, check_same_shape

THRESHOLDS: tuple[Fraction, ...] = tuple(Fraction(step, 20) for step in range(10, 20))


@dataclass(frozen=True)
class Matching:
    """The matched instances of a section, or of several: matchings add with ``+``.

    Attributes:
        truth_instances: Instances of the truth.
        predicted_instances: Instances of the prediction.
        matched: Matches with an IoU above each of ``THRESHOLDS``.
        matched_ious: IoU of every match above 0.5, in the order of the true ids.
    """

    truth_instances: int = 0
    predicted_instances: int = 0
    matched: tuple[int, ...] = (0,) * len(THRESHOLDS)
    matched_ious: tuple[float, ...] = ()

    def __add__(self, other: "Matching") -> "Matching":
        return Matching(
            self.truth_instances + other.truth_instances,
            self.predicted_instances + other.predicted_instances,
            tuple(a + b for a, b in zip(self.matched, other.matched, strict=True)),
            self.matched_ious + other.matched_ious,
        )

    @property
    def both_empty(self) -> bool:
        """Whether neither side has an instance: every score is then 1."""
        return self.truth_instances + self.predicted_instances == 0

    @property
    def true_positive(self) -> int:
        """Matches at IoU > 0.5."""
        return self.matched[0]

    @property
    def false_positive(self) -> int:
        """Predicted instances without a match at IoU > 0.5."""
        return self.predicted_instances - self.matched[0]

    @property
    def false_negative(self) -> int:
        """Instances of the truth without a match at IoU > 0.5."""
        return self.truth_instances - self.matched[0]


@dataclass(frozen=True, eq=False)
class _Contingency:
    """Areas (px, by ascending id) of the instances of two label images, without background.

    Of each pair that overlaps, the places of both in these, and the pixels that it shares.
    """

    truth_areas: np.ndarray
    predicted_areas: np.ndarray
    truth_index: np.ndarray
    predicted_index: np.ndarray
    intersections: np.ndarray


def match_instances(*, truth: np.ndarray, prediction: np.ndarray) -> Matching:
    """Matches the instances of two label images one-to-one.

    All pixels of an id are one instance, connected or not. Whether an IoU exceeds a threshold is
    decided in integers, so an IoU of exactly 1/2 or 3/5 does not count there.

    Args:
        truth: Instance ids, any shape and integer type, 0 is background; ids may have gaps.
        prediction: Instance ids of the same shape.

    Raises:
        BenchError: If the shapes differ, or an array does not hold ids of 0 and above.

    Examples:
        >>> matching = match_instances(
        ...     truth=np.array([1, 1, 1, 0, 2, 2]), prediction=np.array([7, 7, 0, 0, 9, 0])
        ... )
        >>> matching.truth_instances, matching.predicted_instances, matching.true_positive
        (2, 2, 1)
    """
    check_same_shape(truth=truth, prediction=prediction)
    _check_labels("truth", truth)
    _check_labels("prediction", prediction)
    found = count_overlaps(truth, prediction)
    truth_areas = found.truth_areas[found.truth_index]
    unions = truth_areas + found.predicted_areas[found.predicted_index] - found.intersections
    above = [
        found.intersections * threshold.denominator > unions * threshold.numerator
        for threshold in THRESHOLDS
    ]
    return Matching(
        truth_instances=len(found.truth_areas),
        predicted_instances=len(found.predicted_areas),
        matched=tuple(int(np.count_nonzero(pairs)) for pairs in above),
        matched_ious=tuple((found.intersections[above[0]] / unions[above[0]]).tolist()),
    )


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


def instance_precision(matching: Matching) -> float:
    """Share of the predicted instances that have a match at IoU > 0.5."""
    return _ratio(matching.true_positive, matching.predicted_instances, matching)


def instance_recall(matching: Matching) -> float:
    """Share of the instances of the truth that have a match at IoU > 0.5."""
    return _ratio(matching.true_positive, matching.truth_instances, matching)


def instance_f1(matching: Matching) -> float:
    """F1 of instances matched at IoU > 0.5."""
    return _ratio(2 * matching.true_positive, _count_both(matching), matching)


def instance_f1_mean(matching: Matching) -> float:
    """F1 of matched instances, mean over ``THRESHOLDS``."""
    both = _count_both(matching)
    return math.fsum(_ratio(2 * m, both, matching) for m in matching.matched) / len(THRESHOLDS)


def panoptic_quality(matching: Matching) -> float:
    """The sum of the matched IoUs over TP + FP / 2 + FN / 2 (Kirillov et al., CVPR 2019)."""
    return _ratio(2 * math.fsum(matching.matched_ious), _count_both(matching), matching)


def _count_both(matching: Matching) -> int:
    return matching.truth_instances + matching.predicted_instances


def _ratio(part: float, whole: int, matching: Matching) -> float:
    """Divides; both empty is 1. With one side empty nothing matches: it is 0, also by 0."""
    return 1.0 if matching.both_empty else part / max(whole, 1)


def instance_scores(matching: Matching) -> dict[str, float]:
    """All scores of a matching, by their names in ``METRICS``."""
    return {
        "instance_precision": instance_precision(matching),
        "instance_recall": instance_recall(matching),
        "instance_f1": instance_f1(matching),
        "instance_f1_mean": instance_f1_mean(matching),
        "panoptic_quality": panoptic_quality(matching),
    }


def count_overlaps(truth: np.ndarray, prediction: np.ndarray) -> _Contingency:
    """Measures the instances of two label images and the pixels they share."""
    of_truth, of_prediction, pixels = count_pairs(truth.reshape(-1), prediction.reshape(-1))
    truth_ids, truth_index = np.unique(of_truth, return_inverse=True)
    predicted_ids, predicted_index = np.unique(of_prediction, return_inverse=True)
    truth_areas = _sum_pixels(truth_index, pixels, len(truth_ids))
    predicted_areas = _sum_pixels(predicted_index, pixels, len(predicted_ids))
    shared = (of_truth != 0) & (of_prediction != 0)
    codes = truth_index[shared] * len(predicted_ids) + predicted_index[shared]
    pairs, pair_index = np.unique(codes, return_inverse=True)
    # Ids ascend, so background, where there is any, is the first.
    truth_background = int(truth_ids[:1].tolist() == [0])
    predicted_background = int(predicted_ids[:1].tolist() == [0])
    return _Contingency(
        truth_areas=truth_areas[truth_background:],
        predicted_areas=predicted_areas[predicted_background:],
        truth_index=pairs // max(len(predicted_ids), 1) - truth_background,
        predicted_index=pairs % max(len(predicted_ids), 1) - predicted_background,
        intersections=_sum_pixels(pair_index, pixels[shared], len(pairs)),
    )


def count_pairs(
    truth: np.ndarray, prediction: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts the pixels of every pair of ids, in one linear pass and in no order.

    Args:
        truth: Ids, flat, 0 and above.
        prediction: Ids of the same pixels.

    Returns:
        The true ids, the predicted ids and the pixels of each pair, background included. Where
        ids exceed 32 bits, a pair is there once for each run over which neither id changes.
    """
    if not (_has_32_bits(truth) and _has_32_bits(prediction)):
        return _find_runs(truth, prediction)
    # numba is imported where instances are matched, and not by all that imports this module.
    from bench.metrics.overlap_table import add_pairs, new_table

    keys, counts = new_table()
    for start in range(0, truth.size, PIXELS_AT_ONCE):
        block = slice(start, start + PIXELS_AT_ONCE)
        keys, counts = add_pairs(
            _as_uint32(truth[block]), _as_uint32(prediction[block]), keys, counts
        )
    taken = np.flatnonzero(counts)
    return keys[taken] >> np.uint64(32), keys[taken] & np.uint64(2**32 - 1), counts[taken]


def _has_32_bits(ids: np.ndarray) -> bool:
    return ids.dtype.itemsize <= 4 or int(ids.max(initial=0)) < 2**32


def _as_uint32(ids: np.ndarray) -> np.ndarray:
    """Ids as uint32, aligned and in the machine's order of bytes; copied where they are not."""
    return np.require(ids.view(np.uint32) if ids.dtype == np.int32 else ids, np.uint32, ["C", "A"])


def _find_runs(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the two values and the length of each run over which neither changes."""
    is_start = np.ones(first.size, dtype=bool)
    is_start[1:] = first[1:] != first[:-1]
    is_start[1:] |= second[1:] != second[:-1]
    starts = np.flatnonzero(is_start)
    return first[starts], second[starts], np.diff(starts, append=first.size)


def _sum_pixels(index: np.ndarray, pixels: np.ndarray, size: int) -> np.ndarray:
    """Adds up pixels by index; exact, as a double holds every count of them."""
    return np.bincount(index, weights=pixels, minlength=size).astype(np.int64)


def _check_labels(name: str, labels: np.ndarray) -> None:
    if labels.dtype.kind not in "iu":
        raise BenchError(
            f"{name} must hold integer instance ids, received {labels.dtype}: "
            "label a mask with label_mask first"
        )
    if labels.dtype.kind == "i" and labels.size and labels.min() < 0:
        raise BenchError(
            f"{name} must hold instance ids of 0 and above, received {labels.min()}: "
            "give background the id 0"
        )
