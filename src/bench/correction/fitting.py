"""A vesicle fitted where a person clicked, as those are that the program finds."""

import numpy as np

from bench.export.sphere_table import SphereRow
from bench.postprocess.spheres.fit.fitting import FIT_FIELDS
from bench.postprocess.spheres.fit.refinement import FitJob, refine_spheres
from bench.postprocess.spheres.settings import SphereSettings

_SETTINGS = SphereSettings()
# Thickness of a membrane in px, where nobody knows how large those are.
_MEMBRANE_PX = 2.0
# Likeness to its rotational average from which something is a vesicle: those of tests have 0.6,
# noise and places without one up to 0.12.
_LEAST_LIKENESS = 0.2
_CUBE_TOLERANCE = 0.02


def fit_vesicle(
    raw: np.ndarray,
    place: tuple[float, float, float],
    radius: float,
    *,
    section_px: float = 1.0,
    pixel_size_nm: float | None = None,
) -> SphereRow | None:
    """Fits a ball with a membrane.

    Args:
        raw: The volume (z, y, x).
        place: Where its centre may be, in voxels.
        radius: How large it may be, in px.
        section_px: Distance of two sections in px.
        pixel_size_nm: Edge of a pixel; None where it is not known.

    Returns:
        The ball, of no volume and no id; None where nothing there is round, or voxels are no cubes.
    """
    if abs(section_px - 1) > _CUBE_TOLERANCE:
        return None
    membrane = _SETTINGS.membrane_nm / pixel_size_nm if pixel_size_nm else _MEMBRANE_PX
    job = FitJob(raw=raw, thickness=membrane, as_published=False, mean=0.0, workers=1)
    (row,) = refine_spheres(
        job, np.array([place], float), np.array([radius]), np.array([_SETTINGS.margin])
    )
    found = dict(zip(FIT_FIELDS, row.tolist(), strict=True))
    if not found["ok"] or found["likeness"] < _LEAST_LIKENESS:
        return None
    known = {name: found[name] for name in ("z", "y", "x", "radius", "thickness", "density")}
    return SphereRow("", 0, **known)
