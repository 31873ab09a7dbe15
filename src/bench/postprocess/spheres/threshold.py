"""The global threshold of vesicles: the one at which the shell of the mask lies on the membranes.

The shell of a mask are its voxels with a face to what is not in it. Membranes are dark: of many
thresholds the best is that whose shell has the lowest mean grey value.
"""

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

# One place more than there are levels, for what ends after the last.
_PLACES = 257
_HIGHEST_PERCENT = 99


def level_above(probability: float) -> int:
    """The lowest level (0 to 255) that is above a probability.

    Examples:
        >>> level_above(0.8), level_above(0.5)
        (205, 128)
    """
    # Whole thousandths: 0.58 * 255 is no number of a computer.
    return min(255, round(1000 * probability) * 255 // 1000 + 1)


def choose_shell_level(
    raw: np.ndarray, levels: np.ndarray, *, lowest_threshold: float, workers: int
) -> int:
    """Chooses the level from which a voxel belongs to a vesicle, by the shell's grey values.

    What lies beyond the border limits no mask: a vesicle that is cut by it has no shell there.
    Voxels that are not finite count nowhere.

    Args:
        raw: Image (z, y, x).
        levels: Probability of vesicles, uint8 (z, y, x).
        lowest_threshold: The lowest probability tried, in steps of 0.01 up to 0.99.
        workers: Threads; the result is the same with any number.

    Returns:
        The level (0 to 255); the lowest of equals, and of those tried where none has a shell.
    """
    tried = [
        level_above(percent / 100)
        for percent in range(round(100 * lowest_threshold), _HIGHEST_PERCENT + 1)
    ]
    sums = np.zeros((raw.shape[0], _PLACES))
    counts = np.zeros((raw.shape[0], _PLACES), np.int64)

    def add(plane: int) -> None:
        grey = raw[plane].astype(np.float32)
        above = max(plane - 1, 0)
        slab = np.ascontiguousarray(levels[above : plane + 2])
        _add_shells(grey, slab, plane - above, tried[0], sums[plane], counts[plane])

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(add, range(raw.shape[0])))
    # Added in one order, whoever was ready first.
    total, number = np.cumsum(sums.sum(axis=0)), np.cumsum(counts.sum(axis=0))
    means = np.where(number > 0, total / np.maximum(number, 1), np.inf)
    return min(tried, key=lambda level: float(means[level]))


@numba.njit(nogil=True, cache=True)
def _add_shells(
    grey: np.ndarray,
    levels: np.ndarray,
    plane: int,
    lowest: int,
    sums: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Adds a plane's voxels, the grey values float32 (y, x), to the shells of all levels at once.

    A voxel is in the shell from the level after its lowest neighbour's to its own: its grey value
    is added where that begins, and subtracted after where it ends. Sums over levels do the rest.
    """
    depth, height, width = levels.shape
    for y in range(height):
        for x in range(width):
            own = np.int64(levels[plane, y, x])
            if own < lowest:
                continue
            beside = own
            if x > 0:
                beside = min(beside, np.int64(levels[plane, y, x - 1]))
            if x < width - 1:
                beside = min(beside, np.int64(levels[plane, y, x + 1]))
            if y > 0:
                beside = min(beside, np.int64(levels[plane, y - 1, x]))
            if y < height - 1:
                beside = min(beside, np.int64(levels[plane, y + 1, x]))
            if plane > 0:
                beside = min(beside, np.int64(levels[plane - 1, y, x]))
            if plane < depth - 1:
                beside = min(beside, np.int64(levels[plane + 1, y, x]))
            value = np.float64(grey[y, x])
            if beside < own and np.isfinite(value):
                sums[beside + 1] += value
                sums[own + 1] -= value
                counts[beside + 1] += 1
                counts[own + 1] -= 1
