"""Overlap of two masks, pixel by pixel: Dice, IoU, precision and recall.

Where not everything is annotated, a map of levels says it: 0 is annotated, ``IS_OPEN`` is where
nobody annotated, and ``MOSTLY_OPEN`` where an object of the truth is annotated more than half of
which nobody did. Pixels that are open count for nothing. An object, true or predicted, of which
more than half is open is neither found nor missed nor made up.
"""

from dataclasses import astuple, dataclass
from operator import add

import numpy as np

from bench.errors import BenchError

IS_OPEN, MOSTLY_OPEN = 1, 2
# Pixels compared at a time: bounds the memory, and stays within the processor's cache.
PIXELS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class PixelCounts:
    """Pixels by what they are and what they were called.

    Counts add, so pooling sections is ``sum(counts_of_sections, PixelCounts())``.

    Attributes:
        true_positive: Foreground called foreground.
        false_positive: Background called foreground.
        false_negative: Foreground called background.
        true_negative: Background called background.
    """

    true_positive: int = 0
    false_positive: int = 0
    false_negative: int = 0
    true_negative: int = 0

    def __add__(self, other: "PixelCounts") -> "PixelCounts":
        return PixelCounts(*map(add, astuple(self), astuple(other)))

    @property
    def both_empty(self) -> bool:
        """Whether neither truth nor prediction has a foreground pixel: every score is then 1."""
        return self.true_positive + self.false_positive + self.false_negative == 0


def count_pixels(
    *, truth: np.ndarray, prediction: np.ndarray, ignored: np.ndarray | None = None
) -> PixelCounts:
    """Counts the pixels of two masks by agreement.

    Args:
        truth: Mask of any shape, boolean or integer; every value but 0 is foreground.
        prediction: Mask of the same shape.
        ignored: Where nobody annotated, bool of the same shape: such pixels are not counted.

    Raises:
        BenchError: If the shapes differ, or an array is neither boolean nor integer.

    Examples:
        >>> count_pixels(truth=np.array([1, 1, 0, 0]), prediction=np.array([255, 0, 255, 0]))
        PixelCounts(true_positive=1, false_positive=1, false_negative=1, true_negative=1)
    """
    check_same_shape(truth=truth, prediction=prediction)
    check_mask("truth", truth)
    check_mask("prediction", prediction)
    if ignored is not None:
        truth, prediction = truth[~ignored], prediction[~ignored]
    flat_truth, flat_prediction = truth.reshape(-1), prediction.reshape(-1)
    both = in_truth = in_prediction = 0
    for start in range(0, flat_truth.size, PIXELS_AT_ONCE):
        block = slice(start, start + PIXELS_AT_ONCE)
        here_truth, here_prediction = flat_truth[block] != 0, flat_prediction[block] != 0
        in_truth += int(np.count_nonzero(here_truth))
        in_prediction += int(np.count_nonzero(here_prediction))
        both += int(np.count_nonzero(here_truth & here_prediction))
    return PixelCounts(
        true_positive=both,
        false_positive=in_prediction - both,
        false_negative=in_truth - both,
        true_negative=flat_truth.size - in_truth - in_prediction + both,
    )


def find_open(levels: np.ndarray | None) -> np.ndarray | None:
    """Where nobody annotated, bool; None where all is annotated."""
    return None if levels is None else np.asarray(levels == IS_OPEN)


def cut_open(labels: np.ndarray, levels: np.ndarray | None) -> np.ndarray:
    """Labels or a mask without what nobody annotated."""
    return labels if levels is None else np.where(levels == IS_OPEN, labels.dtype.type(0), labels)


def dice_score(counts: PixelCounts) -> float:
    """Dice coefficient, 2 TP / (2 TP + FP + FN): the F1 score of the pixels.

    Both empty is 1, one empty is 0. Dice, Ecology 26 (1945) 297.
    """
    wrong = counts.false_positive + counts.false_negative
    return _ratio(2 * counts.true_positive, 2 * counts.true_positive + wrong, counts)


def iou_score(counts: PixelCounts) -> float:
    """Intersection over union, TP / (TP + FP + FN), the Jaccard index.

    Both empty is 1, one empty is 0.
    """
    wrong = counts.false_positive + counts.false_negative
    return _ratio(counts.true_positive, counts.true_positive + wrong, counts)


def precision_score(counts: PixelCounts) -> float:
    """Share of the predicted pixels that are right, TP / (TP + FP).

    Both empty is 1; an empty prediction of a truth that is not empty is 0.
    """
    return _ratio(counts.true_positive, counts.true_positive + counts.false_positive, counts)


def recall_score(counts: PixelCounts) -> float:
    """Share of the true pixels that were found, TP / (TP + FN).

    Both empty is 1; a prediction where the truth is empty is 0.
    """
    return _ratio(counts.true_positive, counts.true_positive + counts.false_negative, counts)


def _ratio(part: int, whole: int, counts: PixelCounts) -> float:
    """Divides, with the one rule for nothing to divide by: both empty is 1, one empty is 0."""
    if whole == 0:
        return 1.0 if counts.both_empty else 0.0
    return part / whole


def check_same_shape(*, truth: np.ndarray, prediction: np.ndarray) -> None:
    """Raises BenchError where two images cannot be compared pixel by pixel."""
    if truth.shape != prediction.shape:
        raise BenchError(
            f"truth and prediction must have the same shape, received {truth.shape} and "
            f"{prediction.shape}: compare an image with its own annotation"
        )


def check_mask(name: str, mask: np.ndarray) -> None:
    """Raises BenchError for an array that is not a mask, such as a map of probabilities."""
    if mask.dtype.kind not in "biu":
        raise BenchError(
            f"{name} must be a boolean or integer mask, received {mask.dtype}: threshold it first"
        )
