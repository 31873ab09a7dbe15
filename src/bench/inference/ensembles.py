"""Ensembles: the maps of several models made one, which is thresholded like that of one."""

from collections.abc import Callable, Sequence

import numpy as np

from bench.errors import BenchError, unknown_name

MEAN, MAXIMUM, VOTE = "mean", "maximum", "vote"


def round_mean(total: np.ndarray, count: int) -> np.ndarray:
    """Divides sums of levels by their number, halves rounded up; uint8."""
    return np.asarray((total + count // 2) // count, dtype=np.uint8)


def highest(members: Sequence[np.ndarray]) -> np.ndarray:
    """The highest level: foreground where any model finds it."""
    return np.asarray(np.maximum.reduce(members))


def majority(members: Sequence[np.ndarray]) -> np.ndarray:
    """The level that more than half of the models reach.

    At any threshold it is foreground exactly where more than half of the masks are, so that one
    map stands for the votes at all of them. Two models have to agree.
    """
    ranked = np.sort(np.stack(members), axis=0)
    return np.asarray(ranked[(len(members) - 1) // 2])


# From the mean level of each model over augmentations to one map. The mean is not among them:
# it is of all maps at once, rounded once.
RANKS: dict[str, Callable[[Sequence[np.ndarray]], np.ndarray]] = {
    MAXIMUM: highest,
    VOTE: majority,
}
ENSEMBLES = (MEAN, *RANKS)


def combine_levels(
    maps: Sequence[Sequence[np.ndarray]], ensemble: str, weights: Sequence[int]
) -> np.ndarray:
    """Combines the maps of several models of one section.

    Args:
        maps: Per model its maps (uint8 of any shape, round(255 p)), one per augmentation; as many
            of each model.
        ensemble: ``mean`` of all, ``maximum`` of the models' means, or the majority's ``vote``.
        weights: Weight of each model in the mean, whole numbers from 1.

    Returns:
        One map of the same shape, uint8. A single map is returned as it is.

    Raises:
        BenchError: If there is no such ensemble, or a weighted one is not a mean.
    """
    if ensemble not in ENSEMBLES:
        raise unknown_name("ensemble", ensemble, ENSEMBLES)
    if ensemble == MEAN:
        total = sum_levels(
            [level for member in maps for level in member],
            [weight for member, weight in zip(maps, weights, strict=True) for _ in member],
        )
        return round_mean(total, sum(len(m) * w for m, w in zip(maps, weights, strict=True)))
    if set(weights) != {1}:
        raise BenchError(f"only a mean has weights, received {list(weights)} for {ensemble}")
    means = [round_mean(sum_levels(member, [1] * len(member)), len(member)) for member in maps]
    return RANKS[ensemble](means)


def sum_levels(maps: Sequence[np.ndarray], weights: Sequence[int], *, each: int = 1) -> np.ndarray:
    """The weighted sum of maps, or of sums of ``each`` maps.

    The type has room for half of the number of maps more, by which ``round_mean`` rounds.
    """
    count = each * sum(weights)
    wide = np.uint16 if 255 * count + count // 2 < 2**16 else np.uint32
    total = np.zeros(maps[0].shape, dtype=wide)
    for levels, weight in zip(maps, weights, strict=True):
        total += levels if weight == 1 else np.multiply(levels, weight, dtype=wide)
    return total
