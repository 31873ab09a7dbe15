"""A recipe applied to a volume: components in three dimensions, or vesicles as spheres."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.inference.prediction import SectionPrediction
from bench.metrics.curves import TOP_LEVEL
from bench.metrics.vesicles import Balls
from bench.postprocess.instances import Instances
from bench.postprocess.segmentation import PostprocessSettings, segment_prediction
from bench.postprocess.spheres.found import SphereResult
from bench.postprocess.spheres.settings import SphereSettings
from bench.recipe.recipe import Recipe

# Takes the name of a stage of the spheres, and the labels after it.
StageReport = Callable[[str, np.ndarray], None]


@dataclass(frozen=True, eq=False)
class VolumeInstances(Instances):
    """The instances of a volume, and the spheres that they are; of a section, its circles.

    Attributes:
        mask: What reached the threshold before spheres were found in it; None without spheres.
        found: The spheres, and what was removed; None without spheres.
        balls: The spheres in nm; None without spheres, and of circles.
    """

    mask: np.ndarray | None = None
    found: SphereResult | None = None
    balls: Balls | None = None


def segment_volume(
    recipe: Recipe,
    prediction: SectionPrediction,
    voxel_size_nm: tuple[float, ...],
    read_raw: Callable[[], np.ndarray],
    on_stage: StageReport | None = None,
    sizes: Mapping[str, int] | None = None,
) -> VolumeInstances:
    """Makes instances of the maps of a volume.

    Args:
        recipe: The recipe, which is one of volumes.
        prediction: The maps (z, y, x).
        voxel_size_nm: Edges of a voxel along z, y, x.
        read_raw: Reads the volume (z, y, x), which spheres are refined in.
        on_stage: Takes the labels after each stage of the spheres.
        sizes: Of opening and smallest size without spheres, what the user set himself, in voxels.

    Raises:
        BenchError: If spheres are wanted of voxels that are no cubes.
    """
    assert recipe.volume is not None
    if recipe.volume.spheres is None:
        plain = segment_prediction(
            prediction,
            level=recipe.level,
            settings=_postprocess(recipe, voxel_size_nm, sizes or {}),
            watershed=recipe.watershed,
        )
        return VolumeInstances(**vars(plain))
    settings = recipe.volume.spheres
    return make_spheres(prediction, voxel_size_nm, read_raw(), settings, recipe.level, on_stage)


def make_spheres(
    prediction: SectionPrediction,
    voxel_size_nm: float | Sequence[float],
    raw: np.ndarray,
    settings: SphereSettings,
    level: int,
    on_stage: StageReport | None = None,
) -> VolumeInstances:
    """Makes spheres of the foreground of a volume, or circles of that of a section.

    Args:
        prediction: The maps (z, y, x) or (y, x).
        voxel_size_nm: Edges of a voxel along z, y, x; of a section the edge of a pixel.
        raw: The volume (z, y, x), or the section (y, x).
        settings: How.
        level: A voxel is foreground from this level on, where the settings choose no threshold.
        on_stage: Takes the labels after each stage.
    """
    # numba is imported where spheres are found, and not by all that read recipes.
    from bench.postprocess.spheres.spheres import find_spheres

    found = find_spheres(
        raw,
        prediction.foreground,
        voxel_size_nm=voxel_size_nm,
        settings=dataclasses.replace(settings, threshold=min(level, TOP_LEVEL - 1) / TOP_LEVEL),
        on_stage=on_stage,
    )
    mask = prediction.foreground >= found.threshold_level
    edge = np.asarray(voxel_size_nm, float)
    balls = Balls(found.spheres.centres * edge, found.spheres.radii * float(edge.mean()))
    return VolumeInstances(
        labels=found.labels,
        foreground_before_px=int(np.count_nonzero(mask)),
        foreground_after_px=int(np.count_nonzero(found.labels)),
        mask=mask,
        found=found,
        balls=balls if raw.ndim == 3 else None,
    )


def _postprocess(
    recipe: Recipe, voxel_size_nm: tuple[float, ...], sizes: Mapping[str, int]
) -> PostprocessSettings:
    """Opening and smallest size of a volume, given or as long in nm as the recipe's."""
    assert recipe.volume is not None
    step, side = voxel_size_nm[0], voxel_size_nm[-1]
    factor = (recipe.pixel_size_nm or side) / side
    least = recipe.min_area_px * factor**2 * recipe.volume.section_nm / step
    found = {
        "opening_radius_px": round(recipe.opening_radius_px * factor),
        "min_area_px": round(least),
    }
    return PostprocessSettings(**found | dict(sizes), origin=recipe.origin)
