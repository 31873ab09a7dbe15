"""Vesicles that the mask missed or could not part: looked for where no sphere was found yet.

One threshold for all of a volume leaves out vesicles of which the network is less sure, and a
cluster of touching ones may stay one object. Both leave peaks of the probability outside of the
spheres. A ball of the usual size is fitted at each, and is a vesicle if it is as much like a
sphere, and as much like the others, as those that were found in the mask.
"""

import numpy as np
from scipy import ndimage

from bench.postprocess.spheres.fit.fitting import FIT_FIELDS
from bench.postprocess.spheres.fit.refinement import FitJob, refine_spheres
from bench.postprocess.spheres.outliers import measure_p
from bench.postprocess.spheres.settings import SphereSettings
from bench.postprocess.spheres.table import SphereTable
from bench.postprocess.spheres.touching import paint_balls

# With fewer spheres nobody knows what a vesicle looks like.
_LEAST_FOUND = 5
# The probability is smoothed by this share of the usual radius; a peak is the highest within as
# much of it, and at least so high.
_SMOOTHED, _APART, _LEAST_PEAK = 0.35, 0.6, 64
# A vesicle is as much like a sphere as this share of the usual.
_LIKE_SHARE = 0.75


def look_again(
    levels: np.ndarray,
    labels: np.ndarray,
    table: SphereTable,
    job: FitJob,
    settings: SphereSettings,
    floors: np.ndarray,
) -> int:
    """Adds the vesicles that are found where the table has no sphere.

    Args:
        levels: Probability, uint8 (z, y, x).
        labels: Int32 of the same shape, which is written over.
        table: The spheres so far, none of them an outlier.
        job: What spheres are refined in, and how.
        settings: See there.
        floors: See ``judge_vesicles``.

    Returns:
        How many were added.
    """
    known = table.column("ok") > 0
    if np.count_nonzero(known) < _LEAST_FOUND:
        return 0
    usual = float(np.median(table.column("radius")[known]))
    places = _find_peaks(levels, labels, table, usual)
    if not len(places):
        return 0
    count = len(places)
    fits = refine_spheres(job, places, np.full(count, usual), np.full(count, settings.margin))
    features = [FIT_FIELDS.index(name) for name in ("radius", "thickness", "density")]
    fitted = fits[:, FIT_FIELDS.index("ok")] > 0
    likeness = fits[:, FIT_FIELDS.index("likeness")]
    least = _LIKE_SHARE * np.median(table.column("likeness")[known])
    p = measure_p(fits[:, features], table.fits[known][:, features], floors, squared=True)
    good = fitted & (likeness >= least) & (p >= settings.least_p)
    good &= _are_apart(fits[:, :3], fits[:, FIT_FIELDS.index("radius")], table)
    starts = np.column_stack([places, np.full(count, usual)])
    table.add(starts[good], fits[good], p[good])
    return int(np.count_nonzero(good))


def _find_peaks(
    levels: np.ndarray, labels: np.ndarray, table: SphereTable, usual: float
) -> np.ndarray:
    """Centres of what the probability shows outside of the spheres, float64 (n, 3)."""
    labels[...] = 0
    paint_balls(labels, np.ascontiguousarray(table.centres), table.column("radius").copy())
    left = levels.copy()
    left[labels > 0] = 0
    flat = levels.shape[0] == 1
    widths = [0.0 if flat else _SMOOTHED * usual, _SMOOTHED * usual, _SMOOTHED * usual]
    smooth = ndimage.gaussian_filter(left, widths, output=np.uint8, truncate=2.5)
    reach = max(1, round(_APART * usual))
    sizes = [1 if flat else 2 * reach + 1, 2 * reach + 1, 2 * reach + 1]
    # In place, as these are as large as the volume.
    ndimage.maximum_filter(smooth, sizes, output=left)
    highest = np.equal(left, smooth, out=left.view(bool))
    highest &= np.greater_equal(smooth, _LEAST_PEAK, out=smooth.view(bool))
    count = ndimage.label(highest, output=labels)
    if not count:
        return np.zeros((0, 3))
    voxels = np.argwhere(highest)
    ids = labels[highest] - 1
    sizes_px = np.bincount(ids, minlength=count)
    return np.stack([np.bincount(ids, axis, count) / sizes_px for axis in voxels.T], axis=1)


def _are_apart(centres: np.ndarray, radii: np.ndarray, table: SphereTable) -> np.ndarray:
    """Which spheres lie beside those of the table: neither has its centre in the other."""
    apart = np.linalg.norm(centres[:, None] - table.centres[None], axis=2)
    larger = np.maximum(radii[:, None], table.column("radius")[None])
    return np.asarray((apart >= larger).all(axis=1))
