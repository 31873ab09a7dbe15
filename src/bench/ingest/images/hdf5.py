"""Reads sections from the arrays of an HDF5 file."""

import math
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import TypeVar

import h5py
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
from bench.ingest.images.axis_names import read_tagged_sides
from bench.ingest.images.chunks import (
    GZIP_RATIO,
    check_unpacked,
    chunk_grid,
    find_slab,
    read_through,
    stamp_of,
)
from bench.ingest.images.headers import ImageHeader, decode
from bench.ingest.images.keys import (
    choose_key,
    elsewhere,
    follow_links,
    list_hdf5_keys,
    name_axes,
    no_array,
    split_channel,
)
from bench.ingest.images.limits import FREE_BYTES, check_decoded_size

_LARGEST_ATTRIBUTE = 16

# Filters that are part of every HDF5 library, so that none is loaded from elsewhere.
_COMPRESSORS = {h5py.h5z.FILTER_DEFLATE: "gzip", h5py.h5z.FILTER_SZIP: "szip", 32000: "lzf"}
_FILTERS = {h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, *_COMPRESSORS}
_CHECKSUM_BYTES = 4

_T = TypeVar("_T")


def read_header(path: Path, key: str = "") -> ImageHeader:
    """Reads size, number of sections and pixel size of an array.

    Args:
        path: The HDF5 file.
        key: The array, and after a colon which of its channels; empty is ``volumes/raw`` of the
            CREMI layout, or the only array.

    Raises:
        BenchError: If the file is damaged, the key names no array that can be sections, or the
            array cannot be read safely.
    """
    return decode(path, lambda file: _with_array(file, key, _describe_array), "HDF5 file")


def read_plane(path: Path, page: int, key: str = "") -> np.ndarray:
    """Reads a section (y, x) of an array at its stored depth; only its chunks are read.

    Args:
        path: The HDF5 file.
        page: Which section, from 0.
        key: The array, as for `read_header`.

    Raises:
        BenchError: As for `read_header`, or if there is no such section.
    """

    def read(file: Path, dataset: h5py.Dataset, channel: int | None) -> np.ndarray:
        axes = _find_axes(file, dataset, channel)
        index = index_plane(file, dataset.shape, axes, page)
        _check_dataset(file, dataset, axes)
        return _read_sections(file, dataset, axes, page, index)

    return decode(path, lambda file: _with_array(file, key, read), "HDF5 file")


def read_offset(path: Path, key: str) -> tuple[float, float, float]:
    """Reads where the first voxel of an array lies (z, y, x in nm) by its attribute ``offset``.

    CREMI gives it to labels that cover a part of the raw volume; without it, it is zero.
    """

    def read(file: Path, dataset: h5py.Dataset, channel: int | None) -> tuple[float, float, float]:
        axes = _find_axes(file, dataset, channel)
        return find_offset(_read_numbers(dataset, "offset"), dataset.shape, axes)

    return decode(path, lambda file: _with_array(file, key, read), "HDF5 file")


def list_arrays(path: Path) -> dict[str, ImageHeader]:
    """Returns the arrays of a file that can be sections, by key; of several channels the first.

    Those are arrays of numbers as (y, x) or (z, y, x), whatever their number of axes of one
    element. Links are not followed: what they lead to is listed under its own key.
    """

    def read(file: Path) -> dict[str, ImageHeader]:
        with h5py.File(file, "r", locking=False) as content:
            keys = list_hdf5_keys(file, content)
            return {key: _describe_array(file, content[key], 0) for key in keys}

    return decode(path, read, "HDF5 file")


def list_channels(path: Path, key: str) -> tuple[str, ...]:
    """Returns the numbers of an array's channels as text; none where it has one, or one is named.

    Raises:
        BenchError: As for `read_header`.
    """

    def read(file: Path, dataset: h5py.Dataset, channel: int | None) -> tuple[str, ...]:
        axes = _find_axes(file, dataset, channel or 0)
        if axes.channels is None or channel is not None:
            return ()
        return tuple(map(str, range(dataset.shape[axes.channels])))

    return decode(path, lambda file: _with_array(file, key, read), "HDF5 file")


def _with_array(path: Path, key: str, read: Callable[[Path, h5py.Dataset, int | None], _T]) -> _T:
    with h5py.File(path, "r", locking=False) as file:
        channel = None
        node = follow_links(path, file, key or choose_key(path, list_hdf5_keys(path, file)))
        if node is None:
            name, channel = split_channel(key)
            node = follow_links(path, file, name) if channel is not None else None
        if not isinstance(node, h5py.Dataset):
            raise no_array(path, key, list_hdf5_keys(path, file))
        return read(path, node, channel)


def _find_axes(path: Path, dataset: h5py.Dataset, channel: int | None) -> SectionAxes:
    return find_section_axes(path, dataset.name, dataset.shape, name_axes(dataset), channel)


def _read_sections(
    path: Path, dataset: h5py.Dataset, axes: SectionAxes, page: int, index: tuple[int | slice, ...]
) -> np.ndarray:
    """Reads a section of an array, with others of its chunks for those asked for next."""
    z = axes.z
    if z is None or (dataset.chunks is None and not axes.turned):
        _check_chunks(path, dataset, index)
        return turn(dataset[index], axes)

    def read(sections: range) -> np.ndarray:
        _check_chunks(path, dataset, index)
        return turn(dataset[cut_sections(index, z, sections)], axes)

    plane_bytes = dataset.shape[axes.y] * dataset.shape[axes.x] * dataset.dtype.itemsize
    # Without chunks, the sections of a turned array lie among each other in the whole file.
    together = dataset.shape[z] if dataset.chunks is None else dataset.chunks[z]
    slab = find_slab(page, dataset.shape[z], together, plane_bytes)
    array = (path, f"{dataset.name}:{axes.channel}")
    return read_through(array, stamp_of(path), page, slab, read)


def _describe_array(path: Path, dataset: h5py.Dataset, channel: int | None = None) -> ImageHeader:
    axes = _find_axes(path, dataset, channel)
    _check_dataset(path, dataset, axes)
    sides_nm = find_sides({name: _read_numbers(dataset, name) for name in SIDES_NM})
    notes = note_order(dataset.name, axes, sides_nm)
    if not sides_nm and {"axistags", "axis_units"} <= dataset.attrs.keys():
        tagged = read_tagged_sides(dataset.attrs["axistags"], dataset.attrs["axis_units"])
        sides_nm = tagged if len(tagged) == len(dataset.shape) else ()
    named = bool(name_axes(dataset))
    return build_header(dataset.shape, axes, sides_nm, named=named, notes=notes)


def _read_numbers(dataset: h5py.Dataset, name: str) -> tuple[float, ...]:
    """Returns the numbers of an attribute; none if it is missing, long or something else."""
    if name not in dataset.attrs:
        return ()
    attribute = dataset.attrs.get_id(name)
    if attribute.dtype.kind not in "uif" or math.prod(attribute.shape) > _LARGEST_ATTRIBUTE:
        return ()
    return as_numbers(dataset.attrs[name])


def _check_dataset(path: Path, dataset: h5py.Dataset, axes: SectionAxes) -> None:
    """Refuses an array that is stored elsewhere, or cannot be read without a foreign filter."""
    if dataset.is_virtual:
        raise elsewhere(path, dataset.name, "a view of other arrays")
    if dataset.external:
        raise elsewhere(path, dataset.name, f"values in {dataset.external[0][0]!r}")
    check_size(path, dataset.name, dataset.shape, dataset.dtype, axes, path.stat().st_size)
    codes = _filter_codes(dataset)
    foreign = [code for code in codes if code not in _FILTERS]
    packed = [place for place, code in enumerate(codes) if code in _COMPRESSORS]
    # Shuffled after compression, the bytes would not say what they become.
    twisted = packed and h5py.h5z.FILTER_SHUFFLE in codes[packed[0] :]
    if foreign or len(packed) > 1 or twisted:
        raise BenchError(
            f"array {dataset.name} of {path} must be compressed once, with gzip, lzf or szip, "
            f"received filters {foreign or codes}: save it with gzip"
        )


def _filter_codes(dataset: h5py.Dataset) -> list[int]:
    """Returns the registered numbers of an array's filters, in the order they were applied."""
    properties = dataset.id.get_create_plist()
    return [properties.get_filter(place)[0] for place in range(properties.get_nfilters())]


def _check_chunks(path: Path, dataset: h5py.Dataset, index: tuple[int | slice, ...]) -> None:
    """Refuses chunks of a section that would be far larger in memory than they should.

    HDF5 lets a chunk's compressed bytes say how much they become, whatever the chunk's size.
    """
    if dataset.chunks is None:
        return
    size = math.prod(dataset.chunks) * dataset.dtype.itemsize
    check_decoded_size(path, size, path.stat().st_size)
    grid = chunk_grid(path, dataset.shape, dataset.chunks, index)
    if dataset.compression not in ("gzip", "szip"):
        return
    codes = _filter_codes(dataset)
    place_of_compressor = next(n for n, code in enumerate(codes) if code in _COMPRESSORS)
    for place in product(*grid):
        start = tuple(step * side for step, side in zip(place, dataset.chunks, strict=True))
        stored = dataset.id.get_chunk_info_by_coord(start)
        risky = dataset.compression == "szip" or stored.size * GZIP_RATIO > FREE_BYTES
        if stored.byte_offset is not None and risky:
            skipped, packed = dataset.id.read_direct_chunk(start)
            if not skipped >> place_of_compressor & 1:
                check_unpacked(path, dataset.compression, packed, size + _CHECKSUM_BYTES)
