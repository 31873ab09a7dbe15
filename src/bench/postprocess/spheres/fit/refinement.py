"""Refines many spheres at once, each in a block of the image of its own.

Only blocks are ever copied and turned into floats. Each sphere is refined for itself, so that
neither their order nor the number of threads changes anything.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from bench.core.pixels import float_type
from bench.postprocess.spheres.fit.fitting import (
    BEYOND,
    FIT_FIELDS,
    fit_sphere,
    measure_membrane,
    reach_of_search,
)
from bench.postprocess.spheres.fit.published import fit_as_published

# How far a centre may move: a share of the radius, and voxels.
_FARTHEST_SHARE, _FARTHEST = 0.5, 2.0
# Grey values that differ less, as a share of their mean, are the same but for rounding.
_LEAST_DEVIATION = 1e-6
_RADIUS, _THICKNESS, _DENSITY, _CONTRAST, _OK = (
    FIT_FIELDS.index(name) for name in ("radius", "thickness", "density", "contrast", "ok")
)


@dataclass(frozen=True, eq=False)
class FitJob:
    """What the spheres are refined in, and how.

    Attributes:
        raw: The image (z, y, x); of one plane the spheres are circles.
        thickness: Of membranes, as it is known before, in voxels.
        as_published: Whether centres and radii are whole voxels, found as published.
        mean: Mean grey value of the image, which is taken for 0 there.
        workers: Threads.
    """

    raw: np.ndarray
    thickness: float
    as_published: bool
    mean: float
    workers: int


def refine_spheres(
    job: FitJob, centres: np.ndarray, radii: np.ndarray, margins: np.ndarray
) -> np.ndarray:
    """Finds centre, radius and membrane of spheres of which these are known roughly.

    Args:
        job: What they are refined in, and how.
        centres: Float (n, 3), voxels (z, y, x).
        radii: Float (n,), voxels.
        margins: Voxels around each that are looked at first, float (n,).

    Returns:
        A row as FIT_FIELDS names it for each, float64 (n, 10).
    """

    def refine(place: int) -> np.ndarray:
        centre, radius, margin = centres[place], float(radii[place]), float(margins[place])
        if job.as_published:
            return fit_as_published(job.raw, centre, radius, margin, job.mean)
        farthest = _FARTHEST_SHARE * radius + _FARTHEST
        reach = farthest + max(radius + margin, reach_of_search(radius, margin) + job.thickness)
        cut = _cut_block(job.raw, centre, reach + BEYOND + 1)
        if cut is None:
            return np.zeros(len(FIT_FIELDS))
        block, corner, mean, deviation = cut
        found = fit_sphere(block, centre - corner, radius, margin, job.thickness, farthest)
        return _restore(found, corner, mean, deviation)

    return _collect(refine, len(radii), job.workers)


def measure_spheres(job: FitJob, centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Measures the membranes of spheres that stay as they are; see ``refine_spheres``."""

    def measure(place: int) -> np.ndarray:
        centre, radius = centres[place], float(radii[place])
        found = np.zeros(len(FIT_FIELDS))
        found[:3], found[_RADIUS] = centre, radius
        found[[_THICKNESS, _DENSITY]] = np.nan
        cut = _cut_block(job.raw, centre, radius + job.thickness + BEYOND + 2)
        if cut is None:
            return found
        block, corner, mean, deviation = cut
        inner, outer = max(1.0, radius - 1.5 * job.thickness), radius + 0.5 * job.thickness
        seen = np.zeros(len(FIT_FIELDS))
        seen[:3] = centre - corner
        seen[4:] = measure_membrane(block, centre - corner, inner, outer, job.thickness)
        seen = _restore(seen, corner, mean, deviation)
        if seen[_OK]:
            found = seen
        found[_RADIUS] = radius
        return found

    return _collect(measure, len(radii), job.workers)


def _collect(work: Callable[[int], np.ndarray], count: int, workers: int) -> np.ndarray:
    """Rows 0 .. count - 1, made by threads, in order."""
    with ThreadPoolExecutor(workers) as pool:
        rows = list(pool.map(work, range(count)))
    return np.array(rows).reshape(count, len(FIT_FIELDS))


def _cut_block(
    raw: np.ndarray, centre: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray, float, float] | None:
    """Cuts out what lies around a centre, and makes it of mean 0 and deviation 1.

    Returns:
        The block, float32 (z, y, x), its first voxel, its mean and deviation. None where it is
        constant, has values that are not finite, or lies outside.
    """
    low = np.maximum(np.floor(centre - reach).astype(int), 0)
    high = np.minimum(np.ceil(centre + reach).astype(int) + 1, raw.shape)
    if (low >= high).any():
        return None
    z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    block = raw[z, y, x].astype(float_type(raw.dtype))
    mean = float(block.mean(dtype=np.float64))
    block -= mean
    deviation = math.sqrt(float((block * block).mean(dtype=np.float64)))
    if not (math.isfinite(deviation) and deviation > _LEAST_DEVIATION * abs(mean)):
        return None
    block /= deviation
    return block.astype(np.float32, copy=False), low.astype(np.float64), mean, deviation


def _restore(found: np.ndarray, corner: np.ndarray, mean: float, deviation: float) -> np.ndarray:
    """A row that was found in a block, in places and grey values of the image."""
    if found[_OK]:
        found[:3] += corner
        found[_DENSITY] = found[_DENSITY] * deviation + mean
        found[_CONTRAST] *= deviation
    return found
