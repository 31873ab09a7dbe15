"""Which axes of an array are sections, rows and columns, and what its header says of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import BenchError
from bench.ingest.images.headers import ImageHeader, may_be_pixel
from bench.ingest.images.limits import check_decoded_size

# Attributes that state the sides of a voxel as z, y, x, and their unit in nm.
SIDES_NM = {"resolution": 1.0, "voxel_size": 1.0, "element_size_um": 1e3}
MOST_SECTIONS = 100_000


@dataclass(frozen=True)
class SectionAxes:
    """Where an array of more axes has its sections; every other axis has one element.

    Attributes:
        z: The axis of sections; None in a single section.
        y: The axis of rows.
        x: The axis of columns.
    """

    z: int | None
    y: int
    x: int


def may_be_sections(shape: tuple[int, ...] | None, dtype: np.dtype) -> bool:
    """Whether an array can be sections; a table of coordinates (n, 3) is none."""
    if shape is None or dtype.kind not in "buif" or 0 in shape:
        return False
    sides = [side for side in shape if side > 1]
    return len(sides) == 3 or (len(sides) == 2 and sides[-1] > 3)


def find_section_axes(
    path: Path, key: str, shape: tuple[int, ...], names: tuple[str, ...] = ()
) -> SectionAxes:
    """Finds the axes of sections in a shape.

    Args:
        path: The file, for messages.
        key: The array, for messages.
        shape: Its shape.
        names: The names of its axes, where they are known; the order z, y, x is expected else.

    Raises:
        BenchError: If there are channels or time points beside.
    """
    if len(names) == len(shape):
        axes = [index for index, name in enumerate(names) if name in ("z", "y", "x")]
        fits = [names[index] for index in axes] in (["z", "y", "x"], ["y", "x"])
    else:
        axes = list(range(len(shape)))
        while len(axes) > 2 and shape[axes[-1]] == 1:
            axes.pop()
        while len(axes) > 3 and 1 in (outer := [shape[axis] for axis in axes[:-2]]):
            axes.pop(outer.index(1))
        fits = len(axes) in (2, 3)
        # Three or four columns in a large array are colours.
        if fits and len(axes) == 3 and shape[axes[2]] in (2, 3, 4):
            fits = min(shape[axes[0]], shape[axes[1]]) < 32
    others = [side for axis, side in enumerate(shape) if axis not in axes]
    if not fits or any(side != 1 for side in others) or 0 in shape:
        stated = f" (axes {', '.join(names)})" if names else ""
        raise BenchError(
            f"array {key} of {path} must be grey sections (y, x) or (z, y, x), received shape "
            f"{tuple(shape)}{stated}: save a single channel and time point"
        )
    return SectionAxes(axes[0] if len(axes) == 3 else None, axes[-2], axes[-1])


def index_plane(
    path: Path, shape: tuple[int, ...], axes: SectionAxes, page: int
) -> tuple[int | slice, ...]:
    """Returns the index of a section in an array."""
    pages = 1 if axes.z is None else shape[axes.z]
    if not 0 <= page < pages:
        raise BenchError(
            f"section must be 0 to {pages - 1} in {path}, received {page}: correct the section"
        )
    index: list[int | slice] = [0] * len(shape)
    index[axes.y] = index[axes.x] = slice(None)
    if axes.z is not None:
        index[axes.z] = page
    return tuple(index)


def cut_sections(
    index: tuple[int | slice, ...], axis: int, sections: range
) -> tuple[int | slice, ...]:
    """Returns the index of a section with several in its place, as `index_plane` gives it."""
    return (*index[:axis], slice(sections.start, sections.stop), *index[axis + 1 :])


def check_size(
    path: Path, key: str, shape: tuple[int, ...], dtype: np.dtype, axes: SectionAxes, stored: int
) -> None:
    """Refuses arrays of no numbers, of absurdly many sections or of sections absurdly large.

    Args:
        path: The file, for messages.
        key: The array, for messages.
        shape: Its shape.
        dtype: Its type.
        axes: Its axes.
        stored: Bytes on disk that a section may come from.
    """
    if dtype.kind not in "buif":
        raise BenchError(
            f"array {key} of {path} must hold integers or real numbers, received {dtype}: "
            "convert it"
        )
    if axes.z is not None and shape[axes.z] > MOST_SECTIONS:
        raise BenchError(
            f"array {key} of {path} must have no more than {MOST_SECTIONS} sections, received "
            f"{shape[axes.z]}: cut out what is annotated"
        )
    check_decoded_size(path, shape[axes.y] * shape[axes.x] * dtype.itemsize, stored)


def build_header(
    shape: tuple[int, ...], axes: SectionAxes, sides_nm: tuple[float, ...]
) -> ImageHeader:
    """Builds the header of an array from the sides of its voxels in nm.

    Args:
        shape: Shape of the array.
        axes: Its axes.
        sides_nm: A side for each axis, or only for the last ones; empty if unknown.
    """
    order = [axis for axis in (axes.z, axes.y, axes.x) if axis is not None]
    if len(sides_nm) == len(shape):
        sides_nm = tuple(sides_nm[axis] for axis in order)
    usual = may_be_pixel(sides_nm[-2:])
    known = len(sides_nm) >= 2 and usual
    pages = 1 if axes.z is None else shape[axes.z]
    stack = known and pages > 1 and len(sides_nm) >= 3 and 0 < sides_nm[-3] < math.inf
    return ImageHeader(
        shape=(shape[axes.y], shape[axes.x]),
        pages=pages,
        pixel_sides_nm=(sides_nm[-2], sides_nm[-1]) if known else None,
        section_nm=sides_nm[-3] if stack else None,
    )


def find_sides(stated: Mapping[str, tuple[float, ...]]) -> tuple[float, ...]:
    """Returns the sides of voxels in nm that attributes state; empty where they do not."""
    for name, unit_nm in SIDES_NM.items():
        if len(stated.get(name, ())) >= 2:
            return tuple(side * unit_nm for side in stated[name])
    return ()


def find_offset(offset: tuple[float, ...]) -> tuple[float, float, float]:
    """Returns the offset (z, y, x) in nm that an attribute states, else zero."""
    if len(offset) < 2 or not all(math.isfinite(value) for value in offset):
        return 0.0, 0.0, 0.0
    z, y, x = (0.0, *offset)[-3:]
    return z, y, x


def as_numbers(value: Any) -> tuple[float, ...]:
    """Returns a value as numbers; none if it is something else."""
    try:
        return tuple(float(number) for number in np.atleast_1d(np.asarray(value, float)).ravel())
    except (TypeError, ValueError, OverflowError):
        return ()


def native(pixels: np.ndarray) -> np.ndarray:
    """Returns pixels in the byte order of the machine."""
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
