"""Overlap of two masks pixel by pixel, and of every pair of ids of two label images."""

from dataclasses import astuple, dataclass
from operator import add

import numba
import numpy as np

from bench.errors import BenchError

# Pixels compared at a time: bounds the memory, and stays within the processor's cache.
PIXELS_AT_ONCE = 1 << 20
# Pixels whose runs are found before they are counted: all of it stays in the nearest caches.
PAIRS_AT_ONCE = 1 << 14
FIRST_SLOTS = 1 << 12
# Fibonacci hashing: Knuth, The Art of Computer Programming 3, section 6.4.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
# Compiled once for ids that may and that may not be written to.
_IDS = numba.types.Array(numba.uint32, 1, "C", readonly=True)


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


def count_pixels(*, truth: np.ndarray, prediction: np.ndarray) -> PixelCounts:
    """Counts the pixels of two masks by agreement.

    Args:
        truth: Mask of any shape, boolean or integer; every value but 0 is foreground.
        prediction: Mask of the same shape.

    Raises:
        BenchError: If the shapes differ, or an array is neither boolean nor integer.

    Examples:
        >>> count_pixels(truth=np.array([1, 1, 0, 0]), prediction=np.array([255, 0, 255, 0]))
        PixelCounts(true_positive=1, false_positive=1, false_negative=1, true_negative=1)
    """
    check_same_shape(truth=truth, prediction=prediction)
    check_mask("truth", truth)
    check_mask("prediction", prediction)
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


def new_table() -> tuple[np.ndarray, np.ndarray]:
    """An empty table: keys, first id << 32 | second id, and pixels of each, 0 in a free slot."""
    return np.zeros(FIRST_SLOTS, np.uint64), np.zeros(FIRST_SLOTS, np.int64)


@numba.njit(cache=True, nogil=True)
def _find_starts(
    first: np.ndarray, second: np.ndarray, changed: np.ndarray, starts: np.ndarray
) -> int:
    """Writes where runs begin among the pixels of a block, its first included; their number.

    Args:
        first: Ids of the block.
        second: Ids of the same pixels.
        changed: (pixels,) uint8, to work in.
        starts: Room for as many places as pixels.
    """
    # Views side by side, which the compiler compares several pixels at a time.
    one, one_before = first[1:], first[:-1]
    two, two_before = second[1:], second[:-1]
    changed[:] = 0
    for place in range(one.size):
        changed[place] = (one[place] != one_before[place]) | (two[place] != two_before[place])
    starts[0] = 0
    found = 1
    words = changed.view(np.uint64)
    for word in range(words.size):
        if words[word] == 0:
            continue
        # Each place is written, and kept by counting it: processors guess branches here wrong.
        for place in range(8 * word, 8 * word + 8):
            starts[found] = place + 1
            found += changed[place]
    return found


@numba.njit(cache=True, nogil=True)
def _find_slot(keys: np.ndarray, counts: np.ndarray, key: np.uint64) -> np.intp:
    """The slot of a key, or the free one where it belongs; there are 2^n slots, not all taken."""
    last = keys.size - 1
    slot = np.intp((key * _GOLDEN) >> _HALF) & last
    while keys[slot] != key and counts[slot] != 0:
        slot = (slot + 1) & last
    return slot


@numba.njit(cache=True, nogil=True)
def _enlarge(keys: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Moves pairs into a table of four times as many slots."""
    more_keys, more_counts = np.zeros(4 * keys.size, np.uint64), np.zeros(4 * keys.size, np.int64)
    for slot in range(keys.size):
        if counts[slot] != 0:
            place = _find_slot(more_keys, more_counts, keys[slot])
            more_keys[place], more_counts[place] = keys[slot], counts[slot]
    return more_keys, more_counts


@numba.njit((_IDS, _IDS, numba.uint64[::1], numba.int64[::1]), cache=True, nogil=True)
def add_pairs(
    first: np.ndarray, second: np.ndarray, keys: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Adds the pixels of two images to a table.

    Args:
        first: Ids, flat, uint32.
        second: Ids of the same pixels.
        keys: Pairs of ids so far, see ``new_table``; background is an id as any other.
        counts: Pixels of each.

    Returns:
        The keys and counts, in longer arrays where they did not suffice.
    """
    used = np.count_nonzero(counts)
    changed, starts = np.empty(PAIRS_AT_ONCE, np.uint8), np.empty(PAIRS_AT_ONCE + 1, np.int64)
    for block in range(0, first.size, PAIRS_AT_ONCE):
        ones, twos = first[block : block + PAIRS_AT_ONCE], second[block : block + PAIRS_AT_ONCE]
        found = _find_starts(ones, twos, changed, starts)
        starts[found] = ones.size
        for run in range(found):
            start = starts[run]
            key = (np.uint64(ones[start]) << _HALF) | np.uint64(twos[start])
            slot = _find_slot(keys, counts, key)
            if counts[slot] == 0:
                # Half of the slots stay free, so that a search ends soon.
                if 2 * used >= keys.size:
                    keys, counts = _enlarge(keys, counts)
                    slot = _find_slot(keys, counts, key)
                keys[slot] = key
                used += 1
            counts[slot] += starts[run + 1] - start
    return keys, counts
