"""Opening of volumes with a ball, of masks and of maps of levels, line by line.

A ball is a bundle of lines along x: of all voxels at (dz, dy) from its centre those with
dx^2 <= r^2 - dz^2 - dy^2. The minimum over a ball is thus that of minima along x, a length at a
time, each shifted by its (dz, dy): whole planes are compared at once, and a radius of 2 has 13
shifts in place of 33 voxels. Outside of the volume there is nothing, which limits nothing.
"""

from collections.abc import Callable, Sequence
from math import isqrt

import numpy as np

_Pick = Callable[..., np.ndarray]
# Edges of a voxel closer than this, relatively, are equal.
_SAME_EDGE = 0.02


def are_cubes(voxel_size_nm: Sequence[float] | None) -> bool:
    """Whether voxels have equal edges, to 2 %; of an unknown size nobody knows."""
    return voxel_size_nm is not None and max(voxel_size_nm) <= (1 + _SAME_EDGE) * min(voxel_size_nm)


def open_with_ball(volume: np.ndarray, *, radius_px: int) -> np.ndarray:
    """Opens a volume with the ball of voxels at most a radius from its centre.

    Args:
        volume: Mask, boolean, or levels, uint8, (z, y, x) of voxels that are cubes.
        radius_px: Radius; 0 changes nothing.

    Returns:
        The opened volume, of the same type; memory beside it is twice its size.
    """
    if radius_px == 0:
        return volume
    whole = np.ascontiguousarray(volume).view(np.uint8)
    opened = _pick_over_ball(_pick_over_ball(whole, radius_px, np.minimum), radius_px, np.maximum)
    return opened.view(volume.dtype)


def _pick_over_ball(volume: np.ndarray, radius: int, pick: _Pick) -> np.ndarray:
    """The minimum or the maximum over a ball around each voxel."""
    steps = range(-radius, radius + 1)
    lines: dict[int, list[tuple[int, int]]] = {}
    for dz in steps:
        for dy in steps:
            left = radius**2 - dz**2 - dy**2
            if left >= 0:
                lines.setdefault(isqrt(left), []).append((dz, dy))
    found = volume.copy()
    along, reached = volume.copy(), 0
    for length in sorted(lines):
        # Each length goes on from the one before, a step of x further on either side.
        for step in range(reached + 1, length + 1):
            _pick_shifted(along, volume, (0, 0, step), pick)
            _pick_shifted(along, volume, (0, 0, -step), pick)
        reached = length
        for dz, dy in lines[length]:
            _pick_shifted(found, along, (dz, dy, 0), pick)
    return found


def _pick_shifted(
    found: np.ndarray, volume: np.ndarray, shift: tuple[int, ...], pick: _Pick
) -> None:
    """Compares each voxel with that of a volume at a shift from it, in place."""
    sides = list(zip(shift, found.shape, strict=True))
    here = tuple(slice(max(0, -step), max(0, side - max(0, step))) for step, side in sides)
    there = tuple(slice(max(0, step), max(0, side - max(0, -step))) for step, side in sides)
    pick(found[here], volume[there], out=found[here])
