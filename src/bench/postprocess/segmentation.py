"""From what a model says of a section or a volume to instances, and the settings of that."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from bench.core.version import PROSE
from bench.errors import BenchError
from bench.inference.prediction import SectionPrediction
from bench.postprocess.ball_opening import are_cubes
from bench.postprocess.instances import Instances, clean_mask, drop_small_instances, open_mask
from bench.postprocess.watershed import WatershedSettings, separate_instances
from bench.structures import STRUCTURES, Structure

# Share of the annotated foreground that has to be kept, by the opening and by the smallest area.
_KEPT_FRACTION = 0.99
# Room below the annotated areas for predictions that come out smaller.
_AREA_SHARE = 0.5
# What sizes are counted in.
_UNITS = {"sections": "px", "volumes": "voxels"}


@dataclass(frozen=True)
class PostprocessSettings:
    """How a mask becomes instances.

    Attributes:
        opening_radius_px: Radius of the opening; 0 is none.
        min_area_px: Area of the smallest instance kept; of a volume its voxels.
        origin: Where the numbers come from, one sentence.
    """

    opening_radius_px: int
    min_area_px: int
    origin: str = field(metadata=PROSE)


def paper_settings(structure: Structure) -> PostprocessSettings:
    """Returns the settings of the paper, in its pixels whatever the pixel size.

    Raises:
        BenchError: If the paper has none for this structure.
    """
    radius, area = structure.paper_opening_radius_px, structure.paper_min_area_px
    if radius is None or area is None:
        known = [row.name for row in STRUCTURES.values() if row.paper_min_area_px is not None]
        raise BenchError(
            f"the paper has settings for {', '.join(known)} only, received {structure.name}: use "
            "those that follow from its annotations, protocol=data (of microsam size_filter=data)"
        )
    return PostprocessSettings(
        opening_radius_px=radius,
        min_area_px=area,
        origin=f"The paper's values for {structure.name}: opening radius {radius} px, "
        f"minimum area {area} px.",
    )


def settings_from_annotations(
    label_images: Iterable[np.ndarray],
    *,
    pixel_size_nm: float | None = None,
    voxel_size_nm: Sequence[float] | None = None,
    largest_radius_px: int = 2,
) -> PostprocessSettings:
    """Derives the settings that leave the training annotations all but intact.

    The radius is the largest whose opening keeps at least 99 % of the annotated foreground. The
    smallest area is half of the area up to which the smallest annotated instances together hold
    1 % of the foreground (rounded down, at least 1 px): specks beside a large membrane are
    dropped, a small mitochondrion is not. An instance in several parts (4-connected, in volumes
    6-connected) counts as several, as post-processing will see it. Volumes are opened only where
    their voxels are known to be cubes.

    Args:
        label_images: Instance ids (y, x) of the training sections, or (z, y, x) of the training
            volumes, 0 background. Read once.
        pixel_size_nm: Pixel size, to state the area in nm² as well; None where not known.
        voxel_size_nm: Size of a voxel of volumes (z, y, x), to state it in nm³; None where not
            known, and for sections.
        largest_radius_px: The largest radius considered.

    Raises:
        BenchError: If nothing is annotated.
    """
    annotated_px = 0
    kept_px = [0] * (largest_radius_px + 1)
    areas_of_units = []
    units = "sections"
    for labels in label_images:
        if labels.ndim == 3:
            units = "volumes"
            kept_px = kept_px if are_cubes(voxel_size_nm) else kept_px[:1]
        mask = labels != 0
        annotated_px += int(np.count_nonzero(mask))
        for radius in range(len(kept_px)):
            kept_px[radius] += int(np.count_nonzero(open_mask(mask, radius_px=radius)))
        areas_of_units.append(measure_areas(labels))
    if annotated_px == 0:
        raise BenchError(
            f"post-processing needs annotated instances, received {len(areas_of_units)} "
            f"training {units} without any: annotate some, or use protocol=paper"
        )
    areas = np.concatenate(areas_of_units)
    kept = [pixels / annotated_px for pixels in kept_px]
    radius = max(r for r, share in enumerate(kept) if share >= _KEPT_FRACTION)
    needed_px = _find_needed_area(areas)
    min_area_px = max(1, int(_AREA_SHARE * needed_px))
    return PostprocessSettings(
        opening_radius_px=radius,
        min_area_px=min_area_px,
        origin=f"From {len(areas)} annotated instances in {len(areas_of_units)} training "
        f"{units}: opening radius {radius} px, the largest of 0 to {len(kept) - 1} that "
        f"keeps at least 99 % of their foreground (keeps {100 * kept[radius]:.2f} %); "
        f"{_write_size(min_area_px, units, pixel_size_nm, voxel_size_nm)}, half of {needed_px} "
        f"{_UNITS[units]}, below which annotated instances hold less than 1 % of it.",
    )


def _write_size(
    least: int, units: str, pixel_size_nm: float | None, voxel_size_nm: Sequence[float] | None
) -> str:
    """The smallest size in pixels or voxels and, where their size is known, in nm."""
    if units == "volumes":
        in_nm3 = "" if voxel_size_nm is None else f" ({least * prod(voxel_size_nm):.0f} nm³)"
        return f"minimum volume {least} voxels{in_nm3}"
    in_nm2 = "" if pixel_size_nm is None else f" ({least * pixel_size_nm**2:.0f} nm²)"
    return f"minimum area {least} px{in_nm2}"


def _find_needed_area(areas: np.ndarray) -> int:
    """The area (px) such that all smaller instances hold less than 1 % of the foreground."""
    ascending = np.sort(areas)
    held = np.cumsum(ascending)
    return int(ascending[np.searchsorted(held, (1 - _KEPT_FRACTION) * held[-1])])


def measure_areas(labels: np.ndarray) -> np.ndarray:
    """Areas (px) of the connected parts of every instance: 4-connected, in volumes 6-connected."""
    from skimage.measure import label

    parts = label(labels, background=0, connectivity=1)
    return np.bincount(parts.reshape(-1))[1:]


def segment_prediction(
    prediction: SectionPrediction,
    *,
    level: int,
    settings: PostprocessSettings,
    watershed: WatershedSettings | None,
) -> Instances:
    """Makes instances of a section or a volume.

    Instances that the model found itself are kept apart and not opened. A foreground becomes its
    components; where there is a boundary, the watershed separates what touches in them.

    Args:
        prediction: The maps (y, x) or (z, y, x). A watershed measures depths in voxels, as if they
            were cubes.
        level: The stored probability (0 to 255) from which a pixel is foreground.
        settings: Opening and smallest area.
        watershed: How touching instances are separated; None leaves them together.
    """
    mask = prediction.foreground >= level
    if prediction.instances is not None:
        found = np.where(mask, prediction.instances, 0)
        labels = drop_small_instances(found, min_area_px=settings.min_area_px)
        return Instances(labels, int(np.count_nonzero(mask)), int(np.count_nonzero(labels)))
    cleaned = clean_mask(
        mask, opening_radius_px=settings.opening_radius_px, min_area_px=settings.min_area_px
    )
    if prediction.boundary is None or watershed is None:
        return cleaned
    labels = separate_instances(
        prediction.foreground, prediction.boundary, mask=cleaned.labels > 0, settings=watershed
    )
    return replace(cleaned, labels=labels)
