"""What is counted at every threshold of a probability map of 256 levels, and its curves."""

from dataclasses import dataclass
from operator import add

import numpy as np

from bench.errors import BenchError
from bench.metrics.overlap import PIXELS_AT_ONCE, check_mask, check_same_shape

LEVELS = 256
TOP_LEVEL = LEVELS - 1


@dataclass(frozen=True, eq=False)
class ScoreHistogram:
    """How many pixels have each level of probability; histograms of sections add with ``+``.

    Attributes:
        foreground: Pixels of the truth's foreground by level, int64 of length 256.
        background: All other pixels by level, int64 of length 256.
    """

    foreground: np.ndarray
    background: np.ndarray

    def __add__(self, other: "ScoreHistogram") -> "ScoreHistogram":
        return ScoreHistogram(*map(add, vars(self).values(), vars(other).values()))

    def from_threshold(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of foreground and background at or above each level, arrays of length 256."""
        found, wrong = (np.cumsum(part[::-1])[::-1] for part in (self.foreground, self.background))
        return found, wrong


@dataclass(frozen=True, eq=False)
class ThresholdCounts:
    """What is found at each minimum area and threshold; counts of several sections add.

    Attributes:
        truth_px: Foreground pixels of the truth.
        truth_instances: Its instances.
        instances: Predicted instances, (areas, 256).
        predicted_px: Their pixels, (areas, 256).
        true_px: Those of them that are true, (areas, 256).
        matched: Matches at each IoU of ``instances.THRESHOLDS``, (10, areas, 256).
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
        return ThresholdCounts(*map(add, vars(self).values(), vars(other).values()))


def histogram_scores(
    *, truth: np.ndarray, probability: np.ndarray, ignored: np.ndarray | None = None
) -> ScoreHistogram:
    """Counts the pixels of foreground and background at each level of probability.

    Args:
        truth: Mask of any shape, boolean or integer; every value but 0 is foreground.
        probability: uint8 of the same shape; level t stands for the probability t / 255.
        ignored: Where nobody annotated, bool of the same shape: such pixels are not counted.

    Raises:
        BenchError: If the shapes differ, or an array has another type.
    """
    check_same_shape(truth=truth, prediction=probability)
    check_mask("truth", truth)
    if ignored is not None:
        truth, probability = truth[~ignored], probability[~ignored]
    if probability.dtype != np.uint8:
        raise BenchError(
            f"probability must be uint8 levels of 0 to 255, received {probability.dtype}: "
            "scale it to levels first"
        )
    flat_truth, flat_probability = truth.reshape(-1), probability.reshape(-1)
    counts = np.zeros(2 * LEVELS, dtype=np.int64)
    for start in range(0, flat_truth.size, PIXELS_AT_ONCE):
        block = slice(start, start + PIXELS_AT_ONCE)
        levels = flat_probability[block].astype(np.uint16)
        levels[flat_truth[block] != 0] += LEVELS
        counts += np.bincount(levels, minlength=2 * LEVELS)
    return ScoreHistogram(foreground=counts[LEVELS:], background=counts[:LEVELS])


def precision_recall(histogram: ScoreHistogram) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision and recall at each threshold, as ``metrics.overlap`` defines them.

    A pixel is foreground at threshold t if its probability is t or more: everything is at 0.

    Returns:
        The thresholds 0 .. 255, and the precision and the recall at each, arrays of length 256.
        Where nothing reaches a threshold, precision is 0, or 1 if the truth is empty too.
    """
    found, wrong = histogram.from_threshold()
    called, true = found + wrong, found[0]
    nothing = np.where(called + true == 0, 1.0, 0.0)
    precision = np.divide(found, called, out=nothing.copy(), where=called > 0)
    return np.arange(LEVELS), precision, np.divide(found, true, out=nothing, where=true > 0)


def average_precision(histogram: ScoreHistogram) -> float:
    """Precision averaged over recall: the sum of (R[t] - R[t + 1]) P[t] over the thresholds.

    No interpolation between thresholds. A map of one level scores the share of foreground. An
    empty truth, which has no recall, scores 1 if every probability is 0 and 0 otherwise.
    Reference: Zhu, "Recall, precision and average precision", University of Waterloo (2004).
    """
    if not histogram.foreground.any():
        return 0.0 if histogram.background[1:].any() else 1.0
    _, precision, recall = precision_recall(histogram)
    gained = recall - np.append(recall[1:], 0.0)
    return float(np.sum(gained * precision))
