"""Objects that hold several vesicles come apart at a higher threshold; small ones grow at a lower.

Probabilities have 256 levels: every threshold that there is can be tried.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy import ndimage

from bench.postprocess.spheres.objects import VesicleObject, measure_objects
from bench.postprocess.spheres.settings import SphereSettings
from bench.postprocess.spheres.threshold import level_above

# A part counts as a vesicle from this share of the smallest one's voxels on.
_PART_SHARE = 1 / 8
# Steps in which the depth within an object is looked at.
_DEPTHS_A_VOXEL = 4
# The paper separates what fills less of its box and is larger than most, by deviations.
_PAPER_EXTENT, _PAPER_DEVIATIONS = 0.5, 1.0
# It raises the threshold in these steps (thousandths), and lowers it in that.
_PAPER_STEPS = (*range(0, 990, 10), *range(990, 1000))
_GROWTH_STEP = 0.025

# The ids 1, 2 .. of an object's parts in its box, or None where it stays whole.
_Split = Callable[[VesicleObject, np.ndarray], np.ndarray | None]


def separate_objects(
    levels: np.ndarray,
    labels: np.ndarray,
    objects: list[VesicleObject],
    volumes: np.ndarray,
    *,
    settings: SphereSettings,
    least: float,
    level: int,
) -> list[VesicleObject]:
    """Separates the objects that are not round, in place.

    By default an object that fills little of the ball over its longest edge is looked at at rising
    levels, until it falls into several parts of some size. They grow back to all of it, and are
    looked at in turn. It stays whole where its parts would be less round. What the paper separates
    is larger than most; its parts stay as they are at the first level at which there are more.

    Args:
        levels: Probability, uint8 (z, y, x).
        labels: Ids, int32 (z, y, x). Parts get new ones.
        objects: The objects looked at.
        volumes: Voxels of every id, specks included.
        settings: See there.
        least: Voxels of the smallest vesicle.
        level: The level of the mask.

    Returns:
        Objects and parts, those of the first object first.
    """
    axes = 2 if labels.shape[0] == 1 else 3
    large = volumes[1:].mean() + _PAPER_DEVIATIONS * volumes[1:].std() if objects else 0.0

    def split(each: VesicleObject, inside: np.ndarray) -> np.ndarray | None:
        if each.fill(axes) >= settings.roundest_fill:
            return None
        for depths in (inside, _measure_depths(inside)):
            parts = _split_and_grow_back(depths, least * _PART_SHARE)
            if parts is not None and _are_rounder(parts, each, axes):
                return parts
        return None

    def split_as_published(each: VesicleObject, inside: np.ndarray) -> np.ndarray | None:
        if each.extent >= _PAPER_EXTENT or each.volume <= large:
            return None
        return _split_at_first(inside, level)

    found, waiting, highest = [], objects[::-1], volumes.size - 1
    while waiting:
        each = waiting.pop()
        own = labels[each.box] == each.label
        inside = np.where(own, levels[each.box], 0)
        parts = (split_as_published if settings.paper else split)(each, inside)
        if parts is None:
            found.append(each)
            continue
        pieces = [_place(part, each, highest) for part in _measure_parts(parts)]
        labels[each.box][own] = np.where(parts[own] > 0, parts[own] + highest, 0)
        highest += int(parts.max())
        if settings.paper:
            found += pieces
        else:
            waiting += pieces[::-1]
    return found


def _measure_parts(parts: np.ndarray) -> list[VesicleObject]:
    return measure_objects(parts, int(parts.max()), least=1)[0]


def _place(part: VesicleObject, whole: VesicleObject, highest: int) -> VesicleObject:
    """A part that was measured within an object's box, where it is; ids go on after the highest."""
    z, y, x = (
        slice(inner.start + outer.start, inner.stop + outer.start)
        for inner, outer in zip(part.box, whole.box, strict=True)
    )
    corner = np.array([side.start for side in whole.box], np.float64)
    return replace(part, label=part.label + highest, centre=part.centre + corner, box=(z, y, x))


def _are_rounder(parts: np.ndarray, whole: VesicleObject, axes: int) -> bool:
    """Whether parts fill more of their balls than the whole did of its own, by voxel."""
    pieces = _measure_parts(parts)
    filled = sum(piece.fill(axes) * piece.volume for piece in pieces)
    return filled > whole.fill(axes) * sum(piece.volume for piece in pieces)


def _measure_depths(inside: np.ndarray) -> np.ndarray:
    """How deep voxels lie within an object, uint8 in quarters of a voxel; 0 around it.

    A network that is sure of all of a vesicle says nothing of where two touch; their shape does.
    """
    # Beyond the box is no object; a section has nothing beyond its plane.
    room = [(int(size > 1),) * 2 for size in inside.shape]
    cut = tuple(
        slice(before, before + n) for (before, _), n in zip(room, inside.shape, strict=True)
    )
    depths = ndimage.distance_transform_edt(np.pad(inside > 0, room))[cut]
    return np.minimum(np.rint(_DEPTHS_A_VOXEL * depths), 255).astype(np.uint8)


def _split_and_grow_back(inside: np.ndarray, smallest: float) -> np.ndarray | None:
    """Parts of some size at the first level that has several, grown to all of the object.

    Args:
        inside: Levels within the object, 0 around it, uint8 (z, y, x).
        smallest: Voxels of a part that counts.
    """
    for level in np.unique(inside[inside > 0])[1:]:
        labels, count = ndimage.label(inside >= level)
        sizes = np.bincount(labels.reshape(-1))
        sizes[0] = 0
        if count == 0 or sizes.max() < smallest:
            return None
        kept = sizes >= smallest
        if np.count_nonzero(kept) > 1:
            from skimage.segmentation import watershed

            seeds = np.where(kept, np.cumsum(kept), 0).astype(np.int32)[labels]
            grown = watershed(255 - inside, markers=seeds, mask=inside > 0)
            return np.asarray(grown, np.int32)
    return None


def _split_at_first(inside: np.ndarray, level: int) -> np.ndarray | None:
    """The parts at the first of the paper's thresholds that has more than one."""
    steps = (level_above(thousandths / 1000) for thousandths in _PAPER_STEPS)
    for higher in sorted({step for step in steps if step > level}):
        labels, count = ndimage.label(inside >= higher)
        if count > 1:
            return np.asarray(labels, np.int32)
    return None


def grow_objects(
    levels: np.ndarray,
    labels: np.ndarray,
    objects: list[VesicleObject],
    *,
    settings: SphereSettings,
    least: float,
    level: int,
) -> list[VesicleObject]:
    """Grows the objects that are too small at lower thresholds, in place.

    The component that holds an object's centre is taken at the first threshold at which it is a
    vesicle's size. It takes no voxel of another object. What does not grow stays small.

    Args:
        levels: Probability, uint8 (z, y, x).
        labels: Ids, int32 (z, y, x).
        objects: All of them.
        settings: See there.
        least: Voxels of the smallest vesicle.
        level: The level of the mask.

    Returns:
        The objects, in the same order.
    """
    steps = math.floor((1 - settings.lowest_growth) / _GROWTH_STEP + 1e-9)
    tried = [level_above(1 - step * _GROWTH_STEP) for step in range(1, steps + 1)]
    most = settings.most_growth * least
    # A ball of that size, and a margin to see that it ends.
    reach = math.ceil(2 * (most / 4) ** (1 / (2 if labels.shape[0] == 1 else 3))) + 2
    grown = []
    for each in objects:
        if each.volume < least:
            lower = [step for step in tried if step < level]
            each = _grow(levels, labels, each, lower, (least, most), reach)
        grown.append(each)
    return grown


def _grow(
    levels: np.ndarray,
    labels: np.ndarray,
    each: VesicleObject,
    tried: list[int],
    sizes: tuple[float, float],
    reach: int,
) -> VesicleObject:
    """An object at the first level at which its component has one of the sizes, written there."""
    middle = np.rint(each.centre).astype(int)
    z, y, x = (
        slice(max(0, int(place) - reach), min(size, int(place) + reach + 1))
        for place, size in zip(middle, labels.shape, strict=True)
    )
    box = (z, y, x)
    free = (labels[box] == 0) | (labels[box] == each.label)
    at = tuple(int(place) - side.start for place, side in zip(middle, box, strict=True))
    for level in tried:
        parts, _ = ndimage.label(free & (levels[box] >= level))
        own = parts == parts[at]
        if parts[at] and sizes[0] <= np.count_nonzero(own) <= sizes[1]:
            labels[box][labels[box] == each.label] = 0
            labels[box][own] = each.label
            (measured,) = _measure_parts(own.astype(np.int32))
            whole = replace(each, box=box)
            return replace(_place(measured, whole, 0), label=each.label)
    return each
