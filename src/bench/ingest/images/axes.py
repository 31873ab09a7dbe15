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
        channels: The axis of channels; None where there is one at most.
        channel: Which of them is taken, from 0.
    """

    z: int | None
    y: int
    x: int
    channels: int | None = None
    channel: int = 0

    @property
    def kept(self) -> tuple[int, ...]:
        """The axes of what is read, in the order z, y, x."""
        return (self.y, self.x) if self.z is None else (self.z, self.y, self.x)

    @property
    def turned(self) -> bool:
        """Whether the array stores them in another order."""
        return self.kept != tuple(sorted(self.kept))


def may_be_sections(
    shape: tuple[int, ...] | None, dtype: np.dtype, names: tuple[str, ...] = ()
) -> bool:
    """Whether an array can be sections, of a channel at least; a table (n, 3) is none."""
    if shape is None or dtype.kind not in "buif" or 0 in shape:
        return False
    if len(names) == len(shape):
        shape = tuple(side for side, name in zip(shape, names, strict=True) if name != "c")
    sides = [side for side in shape if side > 1]
    return len(sides) == 3 or (len(sides) == 2 and sides[-1] > 3)


def find_section_axes(
    path: Path,
    key: str,
    shape: tuple[int, ...],
    names: tuple[str, ...] = (),
    channel: int | None = None,
) -> SectionAxes:
    """Finds the axes of sections in a shape.

    Args:
        path: The file, for messages.
        key: The array, for messages.
        shape: Its shape.
        names: What its axes are, by `known_axes`; the order z, y, x is expected without.
        channel: Which channel is wanted; None where there must be no more than one.

    Raises:
        BenchError: If there are time points beside, or channels of which none is chosen.
    """
    wide = tuple(axis for axis, side in enumerate(shape) if side != 1)
    channels = next((axis for axis in wide if names and names[axis] == "c"), None)
    axes = _axes_by_name(shape, names) if names else _axes_by_order(shape)
    fits = axes is not None and all(axis in (*axes, channels) for axis in wide) and 0 not in shape
    if axes is None or not fits:
        stated = f" (axes {', '.join(name or '?' for name in names)})" if names else ""
        raise BenchError(
            f"array {key} of {path} must be grey sections (y, x) or (z, y, x), received shape "
            f"{tuple(shape)}{stated}: save a single channel and time point, its axes named z, y, x"
        )
    count = 1 if channels is None else shape[channels]
    if channel is None and channels is not None:
        raise BenchError(
            f"array {key} of {path} must be one channel, received {count} channels: name the one "
            f"to take, as in -P raw_key={key.strip('/')}:0, or save labels as a single channel"
        )
    if channel is not None and not 0 <= channel < count:
        raise BenchError(
            f"channel must be 0 to {count - 1} in array {key} of {path}, received {channel}: "
            "correct the number after the colon"
        )
    z = axes[0] if len(axes) == 3 else None
    return SectionAxes(z, axes[-2], axes[-1], channels, channel or 0)


def _axes_by_order(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The axes z, y, x, or y, x, of an array without names; None where it has others."""
    axes = list(range(len(shape)))
    while len(axes) > 2 and shape[axes[-1]] == 1:
        axes.pop()
    while len(axes) > 3 and 1 in (outer := [shape[axis] for axis in axes[:-2]]):
        axes.pop(outer.index(1))
    fits = len(axes) in (2, 3)
    # Three or four columns in a large array are colours.
    if fits and len(axes) == 3 and shape[axes[2]] in (2, 3, 4):
        fits = min(shape[axes[0]], shape[axes[1]]) < 32
    return tuple(axes) if fits else None


def _axes_by_name(shape: tuple[int, ...], names: tuple[str, ...]) -> tuple[int, ...] | None:
    """The axes z, y, x, or y, x, of an array by their names; None where these are unclear.

    What is not named is named by what is left: of one axis that is clear, of more only where the
    others are in the usual order. A series in time is one of sections where it has no others.
    """
    named = {name: axis for axis, name in enumerate(names) if name}
    if len(named) != sum(map(bool, names)):
        return None
    if "t" in named and shape[named["t"]] > 1 and ("z" not in named or shape[named["z"]] == 1):
        named["z"] = named.pop("t")
    free = [axis for axis, name in enumerate(names) if not name and shape[axis] > 1]
    missing = [name for name in "zyx" if name not in named][-len(free) or 3 :]
    if len(free) > len(missing):
        return None
    found = named | dict(zip(missing, free, strict=False))
    axes = tuple(found[name] for name in "zyx" if name in found)
    usual = axes == tuple(sorted(axes))
    complete = "y" in found and "x" in found
    return axes if complete and (len(free) < 2 or usual) else None


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
    if axes.channels is not None:
        index[axes.channels] = axes.channel
    return tuple(index)


def cut_sections(
    index: tuple[int | slice, ...], axis: int, sections: range
) -> tuple[int | slice, ...]:
    """Returns the index of a section with several in its place, as `index_plane` gives it."""
    return (*index[:axis], slice(sections.start, sections.stop), *index[axis + 1 :])


def turn(pixels: np.ndarray, axes: SectionAxes) -> np.ndarray:
    """Returns what was read by an index in the order (y, x) or (z, y, x), in the native bytes."""
    order = np.argsort(np.argsort(axes.kept[-pixels.ndim :]))
    return np.ascontiguousarray(_native(pixels.transpose(order)))


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
    shape: tuple[int, ...],
    axes: SectionAxes,
    sides_nm: tuple[float, ...],
    *,
    named: bool,
    notes: tuple[str, ...] = (),
) -> ImageHeader:
    """Builds the header of an array from the sides of its voxels in nm.

    Args:
        shape: Shape of the array.
        axes: Its axes.
        sides_nm: A side for each axis, or only for those of sections; empty if unknown.
        named: Whether its axes have names.
        notes: What was taken one way and may be meant another.
    """
    sides_nm = _order_numbers(sides_nm, shape, axes)
    usual = may_be_pixel(sides_nm[-2:])
    known = len(sides_nm) >= 2 and usual
    pages = 1 if axes.z is None else shape[axes.z]
    stack = known and pages > 1 and len(sides_nm) >= 3 and 0 < sides_nm[-3] < math.inf
    return ImageHeader(
        shape=(shape[axes.y], shape[axes.x]),
        pages=pages,
        pixel_sides_nm=(sides_nm[-2], sides_nm[-1]) if known else None,
        section_nm=sides_nm[-3] if stack else None,
        notes=notes,
        turned=axes.turned if named else None,
    )


def _order_numbers(
    numbers: tuple[float, ...], shape: tuple[int, ...], axes: SectionAxes
) -> tuple[float, ...]:
    """Returns numbers of an attribute in the order z, y, x.

    They are those of the array's axes in its order, or of its axes of sections alone; others are
    taken as they are, for the last axes.
    """
    if len(numbers) == len(shape):
        return tuple(numbers[axis] for axis in axes.kept)
    if len(numbers) == len(axes.kept):
        in_array = sorted(axes.kept)
        return tuple(numbers[in_array.index(axis)] for axis in axes.kept)
    return numbers


def note_order(key: str, axes: SectionAxes, sides_nm: tuple[float, ...]) -> tuple[str, ...]:
    """Says that an attribute's order was taken for that of the axes, where it matters."""
    if not axes.turned or len(set(sides_nm)) < 2:
        return ()
    listed = ", ".join(f"{side:g}" for side in sides_nm)
    return (
        f"the axes of array {key} have another order than z, y, x, and its voxel size of "
        f"{listed} nm is taken in that order: give -P pixel_size_nm=... -P section_nm=... if it is "
        "z, y, x",
    )


def find_sides(stated: Mapping[str, tuple[float, ...]]) -> tuple[float, ...]:
    """Returns the sides of voxels in nm that attributes state; empty where they do not."""
    for name, unit_nm in SIDES_NM.items():
        if len(stated.get(name, ())) >= 2:
            return tuple(side * unit_nm for side in stated[name])
    return ()


def find_offset(
    offset: tuple[float, ...], shape: tuple[int, ...], axes: SectionAxes
) -> tuple[float, float, float]:
    """Returns the offset (z, y, x) in nm that an attribute states, else zero."""
    offset = _order_numbers(offset, shape, axes)
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


def _native(pixels: np.ndarray) -> np.ndarray:
    """Returns pixels in the byte order of the machine."""
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
