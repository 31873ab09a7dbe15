"""The stages from objects to spheres: refined, outliers taken out, such as overlap made smaller."""

import numpy as np

from bench.postprocess.spheres.fit.fitting import FIT_FIELDS
from bench.postprocess.spheres.fit.refinement import FitJob, measure_spheres, refine_spheres
from bench.postprocess.spheres.outliers import judge_vesicles
from bench.postprocess.spheres.settings import SphereSettings
from bench.postprocess.spheres.table import SphereTable
from bench.postprocess.spheres.touching import find_doubles, shrink_touching

# Second chances have margins of 0, 1 .. voxels.
_CHANCES = 10
# Deviations of radius and thickness (voxels), and of grey values as a share of the contrast, below
# which vesicles are alike.
_FLOORS = (0.25, 0.25, 0.05)
# A small object is a vesicle's if it is as much like a sphere as this share of the median, of at
# least so many objects.
_LIKE_SHARE, _LEAST_USUAL, _MOST_LIKE = 0.6, 5, 0.9
# Where this share of the range of profiles is above their mean, membranes are bright.
_BRIGHT = 0.6


def refine_table(table: SphereTable, job: FitJob, settings: SphereSettings) -> str:
    """Refines the spheres, and removes those without a membrane; or measures them as they are.

    Returns:
        What a person should know of the image, or "".
    """
    centres, radii = table.starts[:, :3], table.starts[:, 3]
    if "refine" in settings.stages:
        margins = np.full(len(radii), settings.margin)
        table.fits = refine_spheres(job, centres, radii, margins)
        table.remove(["" if ok else "no membrane" for ok in table.column("ok")])
        table.remove(["small" if unlike else "" for unlike in _find_unlike(table)])
    else:
        table.fits = measure_spheres(job, centres, radii)
    seen = table.column("ok") > 0
    brightness = table.column("brightness")[seen]
    if brightness.size and np.median(brightness) > _BRIGHT:
        return "Membranes look brighter than what is around them: is the contrast inverted?"
    return ""


def _find_unlike(table: SphereTable) -> np.ndarray:
    """Which small objects are less like a sphere than vesicles are, bool (n,).

    A high threshold leaves of some vesicles a small core; refined, it is as good as any. Where it
    does so of almost all, vesicles are what is most like a sphere.
    """
    likeness, large = table.column("likeness"), ~table.small
    if not likeness.size:
        return table.small
    enough = np.count_nonzero(large) >= _LEAST_USUAL
    usual = np.median(likeness[large]) if enough else np.quantile(likeness, _MOST_LIKE)
    return np.asarray(table.small & (likeness < _LIKE_SHARE * usual))


def judge_table(table: SphereTable, job: FitJob, settings: SphereSettings) -> str:
    """Finds how probable the spheres are; gives outliers second chances, and removes the rest.

    Where the stage is left out, or nothing was refined, nobody gets a chance or goes.

    Returns:
        What a person should know, or "".
    """
    known = np.flatnonzero(table.column("ok") > 0)
    names = ("radius", "thickness", "density")
    features = np.stack([table.column(name)[known] for name in names], axis=1)
    chances: dict[int, np.ndarray] = {}

    def give_chances(places: np.ndarray) -> list[np.ndarray]:
        new = [int(place) for place in places if int(place) not in chances]
        starts = np.repeat(table.starts[known[new]], _CHANCES, axis=0)
        margins = np.tile(np.arange(_CHANCES, dtype=np.float64), len(new))
        fits = refine_spheres(job, starts[:, :3], starts[:, 3], margins)
        for place, rows in zip(new, fits.reshape(len(new), _CHANCES, len(FIT_FIELDS)), strict=True):
            chances[place] = rows
        return [_list_features(chances[int(place)]) for place in places]

    floors = find_floors(table)
    decided = "outliers" in settings.stages and "refine" in settings.stages
    judged = judge_vesicles(
        features,
        give_chances,
        least_p=settings.least_p if decided else 0.0,
        floors=0 * floors if settings.paper else floors,
        as_published=settings.paper,
    )
    table.p[known] = judged.p
    for place in np.flatnonzero(judged.chance >= 0):
        table.fits[known[place]] = chances[int(place)][judged.chance[place]]
        table.refitted[known[place]] = True
    reasons = np.full(len(table.p), "", object)
    reasons[known[judged.outlier]] = "unlike the others"
    table.remove(reasons.tolist())
    if decided and np.isnan(judged.p).any():
        return f"Too few objects ({len(known)}) to find outliers among: at least 5 are needed."
    return ""


def find_floors(table: SphereTable) -> np.ndarray:
    """Deviations of radius, thickness and density below which vesicles are alike, float64 (3,)."""
    contrast = table.column("contrast")[table.column("ok") > 0]
    floors = np.array(_FLOORS)
    floors[2] *= np.median(contrast) if contrast.size else 0.0
    return floors


def _list_features(fits: np.ndarray) -> np.ndarray:
    """Radius, thickness and density of rows; NaN where there is no membrane."""
    columns = [FIT_FIELDS.index(name) for name in ("radius", "thickness", "density")]
    return np.where(fits[:, -1:] > 0, fits[:, columns], np.nan)


def part_table(table: SphereTable, settings: SphereSettings, least_radius: float) -> None:
    """Makes spheres smaller that overlap, and removes what is then no vesicle.

    Of several on one vesicle the best fitting stays, which the paper does not look for.

    Args:
        table: The spheres.
        settings: See there.
        least_radius: Voxels; a sphere that is not larger is removed.
    """
    if "touching" in settings.stages:
        if not settings.paper:
            fit = table.column("likeness")
            better = find_doubles(table.centres, table.column("radius"), fit)
            table.remove(["" if other < 0 else "double" for other in better])
        radii = table.column("radius")
        smaller = shrink_touching(table.centres, radii, whole_voxels=settings.paper)
        table.shrunk |= smaller < radii
        table.column("radius")[:] = smaller
    table.remove(
        [
            "" if radius > least_radius else "small after shrinking" if shrunk else "small sphere"
            for radius, shrunk in zip(table.column("radius"), table.shrunk, strict=True)
        ]
    )
