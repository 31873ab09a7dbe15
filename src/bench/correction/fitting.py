"""A vesicle fitted where a person clicked: the centre and radius at which its edge is sharpest."""

import math

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from bench.export.sphere_table import SphereRow

# Directions that a radial profile is the mean of, and its step in px.
_DIRECTIONS, _STEP_PX = 160, 0.5
# Radii that are looked at, as shares of the expected one.
_SMALLEST, _LARGEST = 0.5, 1.6
_SMOOTHING_PX = 0.7
# Steps of the centre: shares of the radius, then px.
_FAR_STEPS, _NEAR_STEPS_PX = (1 / 3, 1 / 6), (1.0, 0.5, 0.25, 0.125)
# An edge must rise by so many standard deviations of the image around it.
_LEAST_RISE = 0.25


def fit_vesicle(
    raw: np.ndarray,
    place: tuple[float, float, float],
    radius: float,
    *,
    section_px: float = 1.0,
) -> SphereRow | None:
    """Fits a ball with a dark membrane.

    The edge is where the mean grey value over a sphere rises most with its radius: the outer side
    of the membrane. The centre is where that rise is steepest, from the click on uphill.

    Args:
        raw: The volume (z, y, x).
        place: Where its centre may be, in voxels.
        radius: How large it may be, in px.
        section_px: Distance of two sections in px.

    Returns:
        The ball, of no volume and no id; None where nothing there has an edge.
    """
    steps = np.array([section_px, 1.0, 1.0])
    reach = math.ceil(2 * _LARGEST * radius) + 2
    start = [max(0, math.floor(v - reach / s)) for v, s in zip(place, steps, strict=True)]
    stop = [math.ceil(v + reach / s) + 1 for v, s in zip(place, steps, strict=True)]
    block = raw[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))].astype(np.float32)
    deviation = float(block.std())
    if deviation == 0:
        return None
    block = gaussian_filter(block, _SMOOTHING_PX / steps) / deviation
    first = centre = np.array(place) - start
    best = _find_edge(block, centre, radius, steps)
    for step in (*(share * radius for share in _FAR_STEPS), *_NEAR_STEPS_PX):
        centre, best = _climb(block, centre, best, step, radius, steps)
    moved = float(np.linalg.norm((centre - first) * steps))
    if best[0] < _LEAST_RISE or moved > 1.5 * radius:
        return None
    z, y, x = (centre + start).tolist()
    return SphereRow("", 0, z, y, x, best[1])


def _climb(
    block: np.ndarray,
    centre: np.ndarray,
    best: tuple[float, float],
    step: float,
    radius: float,
    steps: np.ndarray,
) -> tuple[np.ndarray, tuple[float, float]]:
    """Moves a centre by steps of one length along the axes, as long as the edge gets sharper."""
    better = True
    while better:
        better = False
        for axis in range(3):
            for sign in (-1, 1):
                other = centre.copy()
                other[axis] += sign * step / steps[axis]
                found = _find_edge(block, other, radius, steps)
                if found[0] > best[0]:
                    centre, best, better = other, found, True
    return centre, best


def _find_edge(
    block: np.ndarray, centre: np.ndarray, radius: float, steps: np.ndarray
) -> tuple[float, float]:
    """The steepest rise of the radial profile around a centre, and the radius where it is."""
    radii = np.arange(_SMALLEST * radius, _LARGEST * radius + 2 * _STEP_PX, _STEP_PX)
    places = centre[:, None, None] + _UNIT[:, :, None] * radii / steps[:, None, None]
    sampled = map_coordinates(block, places, order=1, mode="nearest")
    inside = ((places >= 0) & (places <= np.array(block.shape)[:, None, None] - 1)).all(axis=0)
    counts = inside.sum(axis=0)
    profile = np.where(inside, sampled, 0).sum(axis=0) / np.maximum(counts, 1)
    rises = np.where(counts[2:] > _DIRECTIONS / 8, profile[2:] - profile[:-2], -np.inf)
    top = int(rises.argmax())
    shift = 0.0
    if 0 < top < len(rises) - 1 and np.isfinite(rises[top - 1 : top + 2]).all():
        before, here, after = rises[top - 1 : top + 2]
        bend = before - 2 * here + after
        shift = float(0.5 * (before - after) / bend) if bend < 0 else 0.0
    return float(rises[top]), float(radii[top + 1] + shift * _STEP_PX)


def _spread_directions(count: int) -> np.ndarray:
    """Unit vectors (3, count) that lie on a sphere about evenly."""
    height = 1 - 2 * (np.arange(count) + 0.5) / count
    angle = np.pi * (3 - math.sqrt(5)) * np.arange(count)
    ring = np.sqrt(1 - height**2)
    return np.stack([height, ring * np.sin(angle), ring * np.cos(angle)])


_UNIT = _spread_directions(_DIRECTIONS)
