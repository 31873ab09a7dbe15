"""Spheres beside each other: two on one vesicle, and such as overlap. Then they are painted."""

import math

import numba
import numpy as np
from scipy.spatial import cKDTree

# Distances this much shorter than the radii's sum are rounding, not overlap.
_ROUNDING = 1e-9


def find_doubles(centres: np.ndarray, radii: np.ndarray, likeness: np.ndarray) -> np.ndarray:
    """Finds spheres on a vesicle that a better one is on: each has its centre in the other.

    Args:
        centres: Float (n, axes), voxels.
        radii: Float (n,), voxels.
        likeness: How well each fits, float (n,); of equals the first is better.

    Returns:
        Of each sphere the better one's place, -1 where there is none; int64 (n,).
    """
    better = np.full(radii.size, -1, np.int64)
    order = np.argsort(-likeness, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    pairs = _find_pairs(centres, radii)
    apart = np.linalg.norm(centres[pairs[:, 0]] - centres[pairs[:, 1]], axis=1)
    same = pairs[apart < np.minimum(radii[pairs[:, 0]], radii[pairs[:, 1]])]
    ranks = np.sort(rank[same], axis=1)
    # The better of a pair comes first, and the best pair: it is decided on before it decides.
    for good, bad in ranks[np.lexsort((ranks[:, 1], ranks[:, 0]))]:
        if better[order[good]] < 0 and better[order[bad]] < 0:
            better[order[bad]] = order[good]
    return better


def shrink_touching(centres: np.ndarray, radii: np.ndarray, *, whole_voxels: bool) -> np.ndarray:
    """Shrinks spheres until none overlaps another.

    Both of a pair shrink by one share, to radii that add up to their distance. Of several
    neighbours the one that leaves least room counts, so that no order matters.

    Args:
        centres: Float (n, axes), voxels.
        radii: Float (n,), voxels.
        whole_voxels: As published: also spheres that only touch; distances are rounded up, radii
            down, and a voxel is taken off.

    Returns:
        Radii, float64 (n,); 0 where nothing is left.

    Examples:
        >>> centres = np.array([[0.0, 0.0], [0.0, 15.0]])
        >>> shrink_touching(centres, np.array([10.0, 10.0]), whole_voxels=True)
        array([6., 6.])
        >>> shrink_touching(centres, np.array([10.0, 10.0]), whole_voxels=False)
        array([7.5, 7.5])
    """
    radii = radii.astype(np.float64)
    pairs = _find_pairs(centres, radii)
    apart = np.linalg.norm(centres[pairs[:, 0]] - centres[pairs[:, 1]], axis=1)
    while True:
        sums = radii[pairs].sum(axis=1)
        rounding = _ROUNDING if whole_voxels else -_ROUNDING
        touching = (apart <= sums * (1 + rounding)) & (radii[pairs] > 0).all(axis=1)
        if not touching.any():
            return radii
        room = np.ceil(apart - _ROUNDING) if whole_voxels else apart
        smaller = radii.copy()
        for side in range(2):
            places = pairs[touching, side]
            left = room[touching] * radii[places] / sums[touching]
            if whole_voxels:
                left = np.maximum(np.floor(left + _ROUNDING) - 1, 0)
            np.minimum.at(smaller, places, left)
        radii = smaller


def _find_pairs(centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Pairs of spheres that may touch, the lower place first: int64 (pairs, 2), in order."""
    if radii.size < 2:
        return np.zeros((0, 2), np.int64)
    farthest = 2 * float(radii.max()) * (1 + 2 * _ROUNDING)
    pairs = cKDTree(centres).query_pairs(farthest, output_type="ndarray")
    pairs = np.sort(pairs.astype(np.int64).reshape(-1, 2), axis=1)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


@numba.njit(cache=True, nogil=True)
def paint_balls(labels: np.ndarray, centres: np.ndarray, radii: np.ndarray) -> None:
    """Paints balls with ids 1, 2 .. in place: voxels whose middle is within a radius.

    A voxel within two balls is that of which it lies the deeper, as a share of the radius; of
    equals that of the lower id.

    Args:
        labels: What is painted on, 0 everywhere, int32 (z, y, x).
        centres: Float (n, 3), voxels (z, y, x).
        radii: Float (n,), voxels.
    """
    for ball in range(radii.size):
        radius, centre = radii[ball], centres[ball]
        z_last = min(labels.shape[0] - 1, math.floor(centre[0] + radius))
        y_last = min(labels.shape[1] - 1, math.floor(centre[1] + radius))
        x_last = min(labels.shape[2] - 1, math.floor(centre[2] + radius))
        for z in range(max(0, math.ceil(centre[0] - radius)), z_last + 1):
            for y in range(max(0, math.ceil(centre[1] - radius)), y_last + 1):
                flat = (z - centre[0]) ** 2 + (y - centre[1]) ** 2
                for x in range(max(0, math.ceil(centre[2] - radius)), x_last + 1):
                    square = flat + (x - centre[2]) ** 2
                    if square > radius * radius:
                        continue
                    other = labels[z, y, x] - 1
                    if other >= 0:
                        far = centres[other]
                        apart = (z - far[0]) ** 2 + (y - far[1]) ** 2 + (x - far[2]) ** 2
                        if apart * radius * radius <= square * radii[other] ** 2:
                            continue
                    labels[z, y, x] = ball + 1
