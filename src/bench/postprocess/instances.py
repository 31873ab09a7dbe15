"""From a mask to instances: opening, connected components, smallest area.

A mask is of a section (y, x) or of a volume (z, y, x); what is an area of one is a number of voxels
of the other. Components are 4-connected in a section and 6-connected in a volume. An opening takes
the voxels of a volume for cubes: where sections are farther apart than pixels, open with radius 0.
"""

from dataclasses import dataclass

import numpy as np

from bench.errors import BenchError
from bench.postprocess.ball_opening import open_with_ball

# Values counted at a time: counting takes eight bytes for each.
_COUNTED_AT_ONCE = 1 << 24
# Up to this radius a footprint is faster than two distance maps, which cost the same at any.
LARGEST_FOOTPRINT_RADIUS_PX = 6


@dataclass(frozen=True, eq=False)
class Instances:
    """The instances of a mask and what post-processing removed from it.

    Attributes:
        labels: Instance ids 1, 2 .. without gaps, 0 background, int32 (y, x) or (z, y, x).
        foreground_before_px: Foreground pixels of the mask.
        foreground_after_px: Foreground pixels left.
    """

    labels: np.ndarray
    foreground_before_px: int
    foreground_after_px: int


def clean_mask(mask: np.ndarray, *, opening_radius_px: int, min_area_px: int) -> Instances:
    """Opens a mask, labels its connected components and drops the small ones.

    Args:
        mask: Mask (y, x) or (z, y, x), boolean or integer; every value but 0 is foreground.
        opening_radius_px: Radius of the opening; 0 is none.
        min_area_px: Area of the smallest component kept; 0 and 1 keep all.

    Raises:
        BenchError: If the mask has other axes, or a setting is negative.
    """
    if min_area_px < 0:
        raise BenchError(f"min_area_px must be at least 0, received {min_area_px}: 0 keeps all")
    foreground = as_mask(mask)
    opened = open_mask(foreground, radius_px=opening_radius_px)
    # numba is imported where something is labelled, and not by all that imports this module.
    from bench.postprocess.components import label_components

    labels, kept_px = label_components(opened, min_area_px=min_area_px)
    return Instances(
        labels=labels,
        foreground_before_px=int(np.count_nonzero(foreground)),
        foreground_after_px=kept_px,
    )


def label_mask(mask: np.ndarray) -> np.ndarray:
    """Labels the components of a mask: pixels that touch at a corner are apart.

    Args:
        mask: Mask (y, x) or (z, y, x), boolean or integer; every value but 0 is foreground.

    Returns:
        Ids 1, 2 .. in the order of the components' first pixels, 0 background, int32.

    Examples:
        >>> label_mask(np.array([[1, 1, 0], [0, 0, 1]]))
        array([[1, 1, 0],
               [0, 0, 2]], dtype=int32)
    """
    from bench.postprocess.components import label_components

    labels, _ = label_components(as_mask(mask), min_area_px=1)
    return labels


def open_mask(mask: np.ndarray, *, radius_px: int) -> np.ndarray:
    """Opens a mask with a disk, or a ball: keeps the pixels that one within the mask can cover.

    It holds the pixels at most ``radius_px`` from its centre. What lies beyond the image's border
    limits nothing: a structure cut by it is kept up to it.

    Args:
        mask: Mask (y, x) or (z, y, x), boolean or integer; every value but 0 is foreground.
        radius_px: Radius of the disk or ball; 0 leaves the mask as it is.

    Raises:
        BenchError: If the radius is negative or the mask has other axes.
    """
    foreground = as_mask(mask)
    if radius_px < 0:
        raise BenchError(f"opening radius must be at least 0 px, received {radius_px}: 0 is none")
    if radius_px == 0:
        return foreground
    if foreground.ndim == 3:
        return open_with_ball(foreground, radius_px=radius_px)
    if radius_px <= LARGEST_FOOTPRINT_RADIUS_PX:
        return _open_with_disk(foreground, radius_px)
    return open_by_distance(foreground, radius_px=radius_px)


def open_levels(levels: np.ndarray, *, radius_px: int) -> np.ndarray:
    """Opens a map of levels: at every threshold it then has the opening of the mask there.

    Minimum and maximum commute with a threshold, and so does what is made of them.

    Args:
        levels: Probability (y, x) or (z, y, x), uint8.
        radius_px: Radius of the disk or ball, 0 (none) to LARGEST_FOOTPRINT_RADIUS_PX.

    Raises:
        BenchError: If the radius is outside of that.
    """
    if not 0 <= radius_px <= LARGEST_FOOTPRINT_RADIUS_PX:
        raise BenchError(
            f"the opening of all thresholds has a radius of 0 to {LARGEST_FOOTPRINT_RADIUS_PX} px, "
            f"received {radius_px}: leave it out of the search"
        )
    if levels.ndim == 3:
        return open_with_ball(levels, radius_px=radius_px)
    return _open_with_disk(levels, radius_px) if radius_px else levels


def _open_with_disk(image: np.ndarray, radius_px: int) -> np.ndarray:
    from skimage.morphology import disk, opening

    return np.asarray(opening(image, disk(radius_px)))


def open_by_distance(mask: np.ndarray, *, radius_px: int) -> np.ndarray:
    """Opens a boolean mask by thresholds on exact distances, at a cost that no radius changes."""
    from scipy.ndimage import distance_transform_edt

    # Distance to nothing is undefined, hence the two early returns.
    if mask.all():
        return mask
    eroded = np.asarray(distance_transform_edt(mask) > radius_px, dtype=bool)
    if not eroded.any():
        return eroded
    return np.asarray(distance_transform_edt(~eroded) <= radius_px, dtype=bool)


def drop_small_instances(labels: np.ndarray, *, min_area_px: int) -> np.ndarray:
    """Removes instances of fewer than ``min_area_px`` pixels and closes the gaps in the ids."""
    areas = _count_ids(labels)
    kept = areas >= max(min_area_px, 1)
    kept[0] = False
    new_ids = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    return np.asarray(new_ids[labels], dtype=np.int32)


def _count_ids(labels: np.ndarray) -> np.ndarray:
    """Pixels of each id, background included, a part of the labels at a time."""
    flat = labels.reshape(-1)
    counts = np.zeros(int(flat.max(initial=0)) + 1, np.int64)
    for start in range(0, flat.size, _COUNTED_AT_ONCE):
        counts += np.bincount(flat[start : start + _COUNTED_AT_ONCE], minlength=counts.size)
    return counts


def as_mask(mask: np.ndarray) -> np.ndarray:
    """Returns the mask of a section or a volume as booleans.

    Raises:
        BenchError: If the array is not (y, x) or (z, y, x), or neither boolean nor integer.
    """
    if mask.ndim not in (2, 3) or mask.dtype.kind not in "biu":
        raise BenchError(
            "a mask must be boolean or integer of one section (y, x) or volume (z, y, x), received "
            f"{mask.dtype} of shape {mask.shape}: threshold probabilities and pass units one by one"
        )
    return mask if mask.dtype.kind == "b" else mask != 0
