"""Centre, radius, thickness and density of one vesicle, from a rough place and size.

First the ball with a wide margin is laid where it is most like its own rotational average: at the
best of a grid of places, as there may be several such maxima where a wedge of directions is
missing, and from there uphill. Then radius and centre are found in turns with a narrow margin,
which its neighbours disturb less. At last the membrane is fitted.
"""

import math

import numba
import numpy as np

from bench.postprocess.spheres.fit.correlation import find_roundest, find_shift
from bench.postprocess.spheres.fit.membrane import STEP, find_darkest, fit_membrane, measure_profile

# What of a profile is needed beyond the membrane, in voxels beside its thickness.
BEYOND = 4.5
# What is found of a vesicle: centre and radius of the membrane's outer edge (voxels); correlation
# with the rotational average; the membrane's thickness and grey value; range of the grey values of
# the profile, share of the range that is above its mean; 1, or 0 where there is no membrane.
FIT_FIELDS = (
    *("z", "y", "x", "likeness", "radius", "thickness"),
    *("density", "contrast", "brightness", "ok"),
)
# Voxels around a starting radius that are searched for the membrane, and the share of it inwards.
_INWARDS, _OUTWARDS, _MARGIN_WITHIN = 0.35, 1.2, 3.0
_NARROW, _MARGIN_OF_GRID = 1.0, 2.0
# Shifts (voxels) up to which the first and the second part go on.
_NEAR, _ENOUGH = 0.25, 0.02
_MOST_PASSES = 10
_FARTHEST_SHIFT = 4
# A profile's places are as independent as rings of this width, in voxels.
_RING = 1.5


@numba.njit(cache=True, nogil=True)
def fit_sphere(
    block: np.ndarray,
    start: np.ndarray,
    radius: float,
    margin: float,
    thickness: float,
    farthest: float,
) -> np.ndarray:
    """Finds the sphere (of one plane: the circle) that a vesicle is.

    Args:
        block: Image around it (z, y, x), float32; of one plane it is a circle's.
        start: Where its centre may be (z, y, x), float64.
        radius: How large it may be.
        margin: Width of the margin that is looked at first.
        thickness: Of membranes, as it is known before.
        farthest: How far the centre may move.

    Returns:
        A row as FIT_FIELDS names it, float64 (10,).
    """
    found = np.zeros(10)
    wide = max(2.0, radius + margin - _MARGIN_OF_GRID)
    centre, likeness = find_roundest(block, start, wide, max(1.0, thickness)), 0.0
    for _ in range(_MOST_PASSES):
        shift, likeness = find_shift(block, centre, radius + margin, _FARTHEST_SHIFT)
        centre = _move(centre, shift, start, farthest)
        if _longest(shift) < _NEAR:
            break
    power = 0.5 if block.shape[0] == 1 else 1.0
    inner = _INWARDS * radius
    outer = reach_of_search(radius, margin)
    for _ in range(_MOST_PASSES):
        profile, _ = measure_profile(block, centre, outer + 1, power)
        darkest = find_darkest(profile, inner, outer, power)
        if darkest == 0:
            return found
        narrow = darkest + thickness / 2 + _NARROW
        shift, likeness = find_shift(block, centre, narrow, _FARTHEST_SHIFT)
        centre = _move(centre, shift, start, farthest)
        if _longest(shift) < _ENOUGH:
            break
    found[:3], found[3] = centre, likeness
    found[4:] = measure_membrane(block, centre, inner, outer, thickness)
    return found


@numba.njit(cache=True, nogil=True)
def reach_of_search(radius: float, margin: float) -> float:
    """Distance (voxels) up to which a membrane is looked for; a wider margin looks farther."""
    return _OUTWARDS * max(2.0, radius + margin - _MARGIN_WITHIN)


@numba.njit(cache=True, nogil=True)
def measure_membrane(
    block: np.ndarray, centre: np.ndarray, inner: float, outer: float, thickness: float
) -> np.ndarray:
    """Measures the membrane around a centre that is known.

    Args:
        block: See ``fit_sphere``.
        centre: See there.
        inner: Distance at which the search for the membrane begins (voxels).
        outer: Distance at which it ends.
        thickness: See ``fit_sphere``.

    Returns:
        Of FIT_FIELDS those from the radius on, float64 (6,).
    """
    found = np.zeros(6)
    power = 0.5 if block.shape[0] == 1 else 1.0
    profile, _ = measure_profile(block, centre, outer + 1, power)
    darkest = find_darkest(profile, inner, outer, power)
    if darkest == 0:
        return found
    profile, spread = measure_profile(block, centre, darkest + thickness / 2 + BEYOND, power)
    area = 4 * math.pi * darkest**2 if power == 1 else 2 * math.pi * darkest
    noise = spread / math.sqrt(_RING * area)
    found[:2] = fit_membrane(profile, darkest, thickness, noise, power)
    seen = profile[int(inner / STEP) :]
    found[2] = profile[round(darkest / STEP)]
    found[3] = seen.max() - seen.min()
    found[4] = (seen.max() - seen.mean()) / max(found[3], 1e-12)
    found[5] = 1.0
    return found


@numba.njit(cache=True, nogil=True)
def _move(centre: np.ndarray, shift: np.ndarray, start: np.ndarray, farthest: float) -> np.ndarray:
    """A centre after a shift, which stays within a distance from the start."""
    moved = np.empty(3)
    for axis in range(3):
        moved[axis] = centre[axis] + shift[axis] - start[axis]
    share = min(1.0, farthest / max(1e-9, math.sqrt(moved[0] ** 2 + moved[1] ** 2 + moved[2] ** 2)))
    for axis in range(3):
        moved[axis] = start[axis] + share * moved[axis]
    return moved


@numba.njit(cache=True, nogil=True)
def _longest(shift: np.ndarray) -> float:
    """The longest of a shift's parts along the axes."""
    return float(max(abs(shift[0]), abs(shift[1]), abs(shift[2])))
