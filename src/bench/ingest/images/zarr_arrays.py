"""Reads sections from the arrays of a Zarr folder, and chooses a level of an OME-Zarr image."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import BenchError
from bench.ingest.images.axes import (
    SIDES_NM,
    SectionAxes,
    as_numbers,
    build_header,
    check_size,
    cut_sections,
    find_offset,
    find_section_axes,
    find_sides,
    index_plane,
    note_order,
    turn,
)
from bench.ingest.images.chunks import (
    band_bytes,
    check_chunks,
    chunk_files,
    find_slab,
    read_through,
    stamp_of,
)
from bench.ingest.images.gaps import find_gaps
from bench.ingest.images.headers import ImageHeader, decode
from bench.ingest.images.keys import choose, find_channel, list_zarr_arrays
from bench.ingest.images.limits import FREE_BYTES
from bench.ingest.images.zarr_metadata import COMPRESSORS, StoredArray

if TYPE_CHECKING:
    import zarr

# How many small chunks are looked at for one without foreground.
_TRIED = 8


def read_header(path: Path, key: str = "") -> ImageHeader:
    """Reads size, number of sections and pixel size of an array.

    Args:
        path: The Zarr folder, version 2 or 3.
        key: The array, or the group of a multiscale image, whose finest level is taken, and after
            a colon which of its channels; empty chooses as `choose_level` does.

    Raises:
        BenchError: If the metadata are damaged, the key names no array of sections, or the array
            cannot be read safely.
    """
    return decode(path, lambda root: _describe_array(root, *find_channel(root, key)), "Zarr folder")


def read_plane(path: Path, page: int, key: str = "") -> np.ndarray:
    """Reads a section (y, x) of an array at its stored depth; only its chunks are read.

    Args:
        path: The Zarr folder.
        page: Which section, from 0.
        key: The array, as for `read_header`.

    Raises:
        BenchError: As for `read_header`, or if there is no such section.
    """

    def read(root: Path) -> np.ndarray:
        return _read_stored(root, *find_channel(root, key), page)

    return decode(path, read, "Zarr folder")


def read_offset(path: Path, key: str) -> tuple[float, float, float]:
    """Reads where the first voxel of an array lies (z, y, x in nm).

    It is the translation of OME metadata, or the attribute ``offset``; without them it is zero.
    """

    def read(root: Path) -> tuple[float, float, float]:
        array, channel = find_channel(root, key)
        axes = _axes_of(root, array, channel)
        level = array.level.offset_nm
        if level:
            z = 0.0 if axes.z is None else level[axes.z]
            return z, level[axes.y], level[axes.x]
        return find_offset(as_numbers(array.attributes.get("offset", ())), array.shape, axes)

    return decode(path, read, "Zarr folder")


def list_arrays(path: Path) -> dict[str, ImageHeader]:
    """Returns the arrays of a folder that can be sections, by key; labels of OME-Zarr as well.

    Of several channels the header is that of the first.
    """

    def read(root: Path) -> dict[str, ImageHeader]:
        arrays = list_zarr_arrays(root)
        return {key: _describe_array(root, array, 0) for key, array in arrays.items()}

    return decode(path, read, "Zarr folder")


def list_channels(path: Path, key: str) -> tuple[str, ...]:
    """Returns the channels of an array by name or number; none where it has one, or one is named.

    Raises:
        BenchError: As for `read_header`.
    """

    def read(root: Path) -> tuple[str, ...]:
        array, channel = find_channel(root, key)
        axes = _axes_of(root, array, channel or 0)
        if axes.channels is None or channel is not None:
            return ()
        count = array.shape[axes.channels]
        names = array.level.channels
        clear = len(names) == count == len(set(filter(None, names)))
        return names if clear else tuple(map(str, range(count)))

    return decode(path, read, "Zarr folder")


def note_gaps(
    path: Path, key: str, *, labels: bool, doubtful: bool = False, sections: range | None = None
) -> tuple[str, ...]:
    """Says how many chunks of an array have no file, where that is no good sign.

    A program may leave out chunks without foreground, so that of labels some may be missing by
    right; unless it wrote others that have none.

    Args:
        path: The Zarr folder.
        key: The array, as for `read_header`.
        labels: Whether it is a label array.
        doubtful: Whether other arrays of the folder lack chunks, too.
        sections: The sections that are looked at; None for all.

    Returns:
        A sentence on the file, or none.
    """

    def read(root: Path) -> tuple[str, ...]:
        array, channel = find_channel(root, key)
        axes = _axes_of(root, array, channel or 0)
        spans = [range(side) for side in array.shape]
        if axes.z is not None and sections is not None:
            spans[axes.z] = sections
        if axes.channels is not None:
            spans[axes.channels] = range(axes.channel, axes.channel + 1)
        gaps = find_gaps(root, array, spans, _TRIED if labels and not doubtful else 0)
        if gaps is None or not gaps.missing:
            return ()
        empty_ones = (_is_empty(root, array, axes, place) for place in gaps.smallest)
        if labels and not doubtful and not any(empty_ones):
            return ()
        first = 0 if axes.z is None else gaps.first[axes.z] * array.chunks[axes.z]
        empty = "chunks without labels" if labels else "black chunks"
        return (
            f"{gaps.missing} of {gaps.total} chunks of array {array.key or '/'} have no file, the "
            f"first at section {first}: copy the folder again, unless its program leaves out "
            f"{empty}",
        )

    return decode(path, read, "Zarr folder")


def _is_empty(root: Path, array: StoredArray, axes: SectionAxes, place: tuple[int, ...]) -> bool:
    """Whether a chunk that is there has no foreground."""
    page = 0 if axes.z is None else place[axes.z] * array.chunks[axes.z]
    check_chunks(root, array, axes, index_plane(root, array.shape, axes, page))
    stored = _open_array(root, array)
    part = tuple(slice(p * c, (p + 1) * c) for p, c in zip(place, array.chunks, strict=True))
    return not np.any(stored[part])


def _open_array(root: Path, array: StoredArray) -> "zarr.Array[Any]":
    import zarr
    from zarr.storage import LocalStore

    store = LocalStore(root, read_only=True)
    return zarr.open_array(store=store, path=array.key, mode="r")


def choose_level(path: Path, pixel_size_nm: float | None, key: str = "") -> str:
    """Chooses the array of a multiscale image whose pixel size is nearest.

    Nearest is by ratio, and of two at the same distance the finer one. Where the folder has no
    multiscale metadata, its only array is taken, or ``volumes/raw`` of the CREMI layout.

    Args:
        path: The Zarr folder.
        pixel_size_nm: Pixel size wanted; None, or where the metadata state no unit, is the
            finest level.
        key: The group of the image; empty is the only image beside labels.

    Returns:
        The key of the array.

    Raises:
        BenchError: If there is no array of sections, or several that are no levels of one image.
    """
    return decode(path, lambda root: choose(root, pixel_size_nm, key), "Zarr folder")


def _axes_of(root: Path, array: StoredArray, channel: int | None) -> SectionAxes:
    if array.foreign:
        raise BenchError(
            f"array {array.key or '/'} of {root} must hold numbers, compressed with one of "
            f"{', '.join(sorted(COMPRESSORS))} or not at all, without filters, received "
            f"{array.foreign[:200]}: save it with zstd"
        )
    return find_section_axes(root, array.key or "/", array.shape, array.axes, channel)


def _describe_array(root: Path, array: StoredArray, channel: int | None) -> ImageHeader:
    axes = _axes_of(root, array, channel)
    plane = array.shape[axes.y] * array.shape[axes.x] * array.dtype.itemsize
    stored = 0
    if plane > FREE_BYTES:
        index = index_plane(root, array.shape, axes, 0)
        stored = sum(file.stat().st_size for file in chunk_files(root, array, index))
    check_size(root, array.key or "/", array.shape, array.dtype, axes, stored)
    named = bool(array.axes)
    if array.level.sides_nm:
        return build_header(array.shape, axes, array.level.sides_nm, named=named)
    sides_nm = find_sides({n: as_numbers(array.attributes.get(n, ())) for n in SIDES_NM})
    notes = note_order(array.key or "/", axes, sides_nm)
    return build_header(array.shape, axes, sides_nm, named=named, notes=notes)


def _read_stored(root: Path, array: StoredArray, channel: int | None, page: int) -> np.ndarray:
    """Reads a section of an array, with others of its chunks for those asked for next."""
    axes = _axes_of(root, array, channel)
    index = index_plane(root, array.shape, axes, page)
    z = axes.z
    if z is None:
        check_chunks(root, array, axes, index)
        return _read_bands(root, array, axes, index)

    def read(sections: range) -> np.ndarray:
        check_chunks(root, array, axes, index)
        return _read_bands(root, array, axes, cut_sections(index, z, sections))

    plane_bytes = array.shape[axes.y] * array.shape[axes.x] * array.dtype.itemsize
    slab = find_slab(page, array.shape[z], array.chunks[z], plane_bytes)
    stamp = (array.dtype, *map(stamp_of, chunk_files(root, array, index)))
    return read_through((root, f"{array.key}:{axes.channel}"), stamp, page, slab, read)


def _read_bands(
    root: Path, array: StoredArray, axes: SectionAxes, index: tuple[int | slice, ...]
) -> np.ndarray:
    """Reads a part of an array (y, x) or (z, y, x), a band of chunks after the other."""
    stored = _open_array(root, array)
    if stored.shape != array.shape or stored.dtype != array.dtype:
        raise ValueError("metadata changed while they were read")
    band = array.chunks[axes.y] * max(1, FREE_BYTES // band_bytes(array, axes))
    height, width = array.shape[axes.y], array.shape[axes.x]
    sections = None if axes.z is None else index[axes.z]
    depth = [sections.stop - sections.start] if isinstance(sections, slice) else []
    pixels = np.empty((*depth, height, width), array.dtype.newbyteorder("="))
    for top in range(0, height, band):
        rows = slice(top, min(top + band, height))
        part = stored[(*index[: axes.y], rows, *index[axes.y + 1 :])]
        pixels[..., rows, :] = turn(np.asarray(part), axes)
    return pixels
