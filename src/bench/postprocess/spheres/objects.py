"""Objects of a mask: 6-connected components, what they measure, and which are about round."""

import math
from dataclasses import dataclass

import numba
import numpy as np
from scipy import ndimage

from bench.postprocess.spheres.settings import SphereSettings

_BALL_EXTENT = {2: math.pi / 4, 3: math.pi / 6}


@dataclass(frozen=True, eq=False)
class VesicleObject:
    """An object of the mask.

    Attributes:
        label: Its id in the image of labels.
        volume: Its voxels.
        centre: Mean of their places, float64 (z, y, x).
        box: The voxels between which it lies, along z, y, x.
    """

    label: int
    volume: int
    centre: np.ndarray
    box: tuple[slice, slice, slice]

    @property
    def longest_edge(self) -> int:
        """The longest edge of the box, in voxels."""
        return max(int(side.stop - side.start) for side in self.box)

    @property
    def extent(self) -> float:
        """Share of the box that it fills."""
        return self.volume / math.prod(int(side.stop - side.start) for side in self.box)

    def fill(self, axes: int) -> float:
        """Share that it fills of the ball (of 2 axes: the disk) over its box's longest edge."""
        return self.volume / (_BALL_EXTENT[axes] * float(self.longest_edge) ** axes)


@dataclass(frozen=True)
class ObjectLimits:
    """What an object must be like to be a vesicle.

    Attributes:
        shape: Of the image (z, y, x); of one plane the vesicles are circles.
        least: Voxels of the smallest vesicle.
        longest: Longest edge of a box, in voxels.
        extents: Least and largest share of its box that it fills.
        cut_may_fill: Whether one that the border cuts may fill more.
    """

    shape: tuple[int, ...]
    least: float
    longest: float
    extents: tuple[float, float]
    cut_may_fill: bool

    @property
    def axes(self) -> int:
        """3, or 2 for circles."""
        return 2 if self.shape[0] == 1 else 3


def set_limits(settings: SphereSettings, shape: tuple[int, ...], voxel_nm: float) -> ObjectLimits:
    """The limits of objects of an image (z, y, x).

    Those of extents are a ball's in its cube; a disk fills more of its square.
    """
    radius, axes = settings.min_radius_nm / voxel_nm, 2 if shape[0] == 1 else 3
    scale = _BALL_EXTENT[axes] / _BALL_EXTENT[3]
    room = (1 - _BALL_EXTENT[axes]) / (1 - _BALL_EXTENT[3])
    return ObjectLimits(
        shape=shape,
        least=4 / 3 * math.pi * radius**3 if axes == 3 else math.pi * radius**2,
        longest=2 * settings.max_radius_nm / voxel_nm,
        extents=(settings.smallest_extent * scale, 1 - (1 - settings.largest_extent) * room),
        cut_may_fill=not settings.paper,
    )


def find_odd(found: VesicleObject, limits: ObjectLimits, smallest: float) -> str:
    """Why an object is no vesicle: "small", "large", "sparse" or "boxlike"; "" where it may be one.

    Args:
        found: The object.
        limits: See there.
        smallest: Voxels that it must have.
    """
    if found.volume < smallest:
        return "small"
    if found.longest_edge > limits.longest:
        return "large"
    if found.extent < limits.extents[0]:
        return "sparse"
    cut = any(
        side.start == 0 or side.stop == size
        for side, size in zip(
            found.box[3 - limits.axes :], limits.shape[3 - limits.axes :], strict=True
        )
    )
    full = found.extent > limits.extents[1] and not (cut and limits.cut_may_fill)
    return "boxlike" if full else ""


def label_objects(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Labels what is connected by faces: ids 1, 2 .. int32 (z, y, x), and their number."""
    labels = np.zeros(mask.shape, np.int32)
    return labels, int(ndimage.label(mask, output=labels))


def measure_objects(
    labels: np.ndarray, count: int, *, least: float
) -> tuple[list[VesicleObject], np.ndarray]:
    """Measures the objects of an image of labels.

    Args:
        labels: Ids 0 .. count, int32 (z, y, x).
        count: The highest id.
        least: Objects of fewer voxels are not measured.

    Returns:
        The objects of at least that size in the order of their ids; voxels of every id (count + 1).
    """
    volumes, sums, boxes = _measure(labels, count)
    return [
        VesicleObject(
            label=int(label),
            volume=int(volumes[label]),
            centre=sums[label] / volumes[label],
            box=_box(boxes[label]),
        )
        for label in np.flatnonzero(volumes >= max(least, 1))
        if label
    ], volumes


def _box(ends: np.ndarray) -> tuple[slice, slice, slice]:
    z, y, x = (slice(int(ends[axis, 0]), int(ends[axis, 1])) for axis in range(3))
    return z, y, x


@numba.njit(cache=True, nogil=True)
def _measure(labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Voxels, sums of their places, and first place and place after the last of every id."""
    volumes, sums = np.zeros(count + 1, np.int64), np.zeros((count + 1, 3))
    boxes = np.zeros((count + 1, 3, 2), np.int64)
    boxes[:, :, 0] = max(labels.shape)
    for z in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                label = labels[z, y, x]
                if label == 0:
                    continue
                volumes[label] += 1
                for axis, place in enumerate((z, y, x)):
                    sums[label, axis] += place
                    boxes[label, axis, 0] = min(boxes[label, axis, 0], place)
                    boxes[label, axis, 1] = max(boxes[label, axis, 1], place + 1)
    return volumes, sums, boxes


@numba.njit(cache=True, nogil=True)
def keep_objects(labels: np.ndarray, new_ids: np.ndarray) -> None:
    """Gives every label another id, in place; 0 removes it.

    Args:
        labels: Ids, int32 (z, y, x).
        new_ids: The new id of each, int32; of 0 it is 0.
    """
    for z in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                if labels[z, y, x]:
                    labels[z, y, x] = new_ids[labels[z, y, x]]
