"""Precision, recall and Dice at every threshold of a probability map of 256 levels."""

from dataclasses import dataclass

import numpy as np

from bench.errors import BenchError
from bench.metrics.overlap import (
    PIXELS_AT_ONCE,
    PixelCounts,
    check_mask,
    check_same_shape,
    dice_score,
    precision_score,
    recall_score,
)

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
        return ScoreHistogram(
            self.foreground + other.foreground, self.background + other.background
        )


def histogram_scores(*, truth: np.ndarray, probability: np.ndarray) -> ScoreHistogram:
    """Counts the pixels of foreground and background at each level of probability.

    Args:
        truth: Mask of any shape, boolean or integer; every value but 0 is foreground.
        probability: uint8 of the same shape; level t stands for the probability t / 255.

    Raises:
        BenchError: If the shapes differ, or an array has another type.
    """
    check_same_shape(truth=truth, prediction=probability)
    check_mask("truth", truth)
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


def _count_by_threshold(histogram: ScoreHistogram) -> list[PixelCounts]:
    """Counts the pixels by agreement at each threshold 0 .. 255.

    A pixel is foreground at threshold t if its probability is t or more: everything is at 0.
    """
    foreground, background = histogram.foreground, histogram.background
    all_foreground, all_background = int(foreground.sum()), int(background.sum())
    found = np.cumsum(foreground[::-1])[::-1].tolist()
    wrong = np.cumsum(background[::-1])[::-1].tolist()
    return [
        PixelCounts(
            true_positive=true_positive,
            false_positive=false_positive,
            false_negative=all_foreground - true_positive,
            true_negative=all_background - false_positive,
        )
        for true_positive, false_positive in zip(found, wrong, strict=True)
    ]


def precision_recall(histogram: ScoreHistogram) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision and recall at each threshold, as ``metrics.overlap`` defines them.

    Returns:
        The thresholds 0 .. 255, and the precision and the recall at each, arrays of length 256.
        Where nothing reaches a threshold, precision is 0, or 1 if the truth is empty too.
    """
    counts = _count_by_threshold(histogram)
    precision = np.array([precision_score(count) for count in counts])
    recall = np.array([recall_score(count) for count in counts])
    return np.arange(LEVELS), precision, recall


def dice_by_threshold(histogram: ScoreHistogram) -> np.ndarray:
    """Dice at each threshold 0 .. 255, an array of length 256."""
    return np.array([dice_score(count) for count in _count_by_threshold(histogram)])


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
