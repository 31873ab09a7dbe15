"""Reads sections from the arrays of an HDF5 file."""

import gzip
import io
import math
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import h5py
import imagecodecs
import numpy as np

from bench.data.images import LARGEST_PIXEL_NM, SMALLEST_PIXEL_NM, ImageHeader
from bench.data.limits import FREE_BYTES, check_decoded_size
from bench.data.names import first_names
from bench.errors import BenchError

CREMI_RAW = "volumes/raw"
# Attributes that state the sides of a voxel as z, y, x, and their unit in nm.
SIDES_NM = {"resolution": 1.0, "voxel_size": 1.0, "element_size_um": 1e3}
LARGEST_ATTRIBUTE = 16

# Filters that are part of every HDF5 library, so that none is loaded from elsewhere.
COMPRESSORS = {h5py.h5z.FILTER_DEFLATE: "gzip", h5py.h5z.FILTER_SZIP: "szip", 32000: "lzf"}
FILTERS = {h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, *COMPRESSORS}
GZIP_RATIO = 1032
CHECKSUM_BYTES = 4

LARGEST_DEPTH, MOST_NODES, MOST_LINKS = 32, 10_000, 16
MOST_SECTIONS, MOST_CHUNKS = 100_000, 250_000

T = TypeVar("T")


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


def read_header(path: Path, key: str = "") -> ImageHeader:
    """Reads size, number of sections and pixel size of an array.

    Args:
        path: The HDF5 file.
        key: The array; empty is ``volumes/raw`` of the CREMI layout, or the only array.

    Raises:
        BenchError: If the file is damaged, the key names no array that can be sections, or the
            array cannot be read safely.
    """
    return decode_as("HDF5 file", path, lambda file: with_array(file, key, describe_array))


def read_plane(path: Path, page: int, key: str = "") -> np.ndarray:
    """Reads a section (y, x) of an array at its stored depth; only its chunks are read.

    Args:
        path: The HDF5 file.
        page: Which section, from 0.
        key: The array, as for `read_header`.

    Raises:
        BenchError: As for `read_header`, or if there is no such section.
    """

    def read(file: Path, dataset: h5py.Dataset) -> np.ndarray:
        axes = find_section_axes(file, dataset.name, dataset.shape)
        index = index_plane(file, dataset.shape, axes, page)
        check_dataset(file, dataset, axes)
        check_chunks(file, dataset, index)
        return native(dataset[index])

    return decode_as("HDF5 file", path, lambda file: with_array(file, key, read))


def read_offset(path: Path, key: str) -> tuple[float, float, float]:
    """Reads where the first voxel of an array lies (z, y, x in nm) by its attribute ``offset``.

    CREMI gives it to labels that cover a part of the raw volume; without it, it is zero.
    """

    def read(_file: Path, dataset: h5py.Dataset) -> tuple[float, float, float]:
        return find_offset({"offset": read_numbers(dataset, "offset")})

    return decode_as("HDF5 file", path, lambda file: with_array(file, key, read))


def list_arrays(path: Path) -> dict[str, ImageHeader]:
    """Returns the arrays of a file that can be sections, by key.

    Those are arrays of numbers as (y, x) or (z, y, x), whatever their number of axes of one
    element. Links are not followed: what they lead to is listed under its own key.
    """

    def read(file: Path) -> dict[str, ImageHeader]:
        with h5py.File(file, "r", locking=False) as content:
            return {key: describe_array(file, content[key]) for key in walk(file, content)}

    return decode_as("HDF5 file", path, read)


def decode_as(kind: str, path: Path, read: Callable[[Path], T]) -> T:
    """Calls a reader and turns whatever a decoder raises on a bad file into a BenchError.

    Args:
        kind: What the file must be, for the message.
        path: The file.
        read: The reader.
    """
    try:
        return read(path)
    except (BenchError, MemoryError):
        raise
    except PermissionError as error:
        raise BenchError(
            f"{path} must be readable, received {error.strerror!r}: give yourself read permission"
        ) from error
    except Exception as error:  # the decoders' own exceptions have no common class
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BenchError(
            f"{path} must be a whole {kind}, received one that does not decode ({reason}): save or "
            "copy it again"
        ) from error


def with_array(path: Path, key: str, read: Callable[[Path, h5py.Dataset], T]) -> T:
    """Calls a reader with an array of a file."""
    with h5py.File(path, "r", locking=False) as file:
        node = follow_links(path, file, key or choose_key(path, walk(path, file)))
        if not isinstance(node, h5py.Dataset):
            raise no_array(path, key, walk(path, file))
        return read(path, node)


def choose_key(path: Path, keys: Iterable[str], key: str = "") -> str:
    """Returns the usual one of the arrays below a key: CREMI's raw volume, or the only one."""
    keys = list(keys)
    if CREMI_RAW in keys:
        return CREMI_RAW
    if len(keys) != 1:
        raise no_array(path, key, keys)
    return keys[0]


def no_array(path: Path, key: str, keys: list[str]) -> BenchError:
    """Builds the error for a key that names no array."""
    received = f"key {key!r}" if key else "no key"
    return BenchError(
        f"the key must name one array of sections in {path}, received {received} and the arrays "
        f"{first_names(keys) or '(none)'}: give its key"
    )


def walk(path: Path, file: h5py.File) -> list[str]:
    """Returns the keys of the arrays that can be sections, without following a link."""
    keys, waiting, seen, nodes = [], [("", file)], set(), 0
    while waiting:
        prefix, group = waiting.pop()
        for name in group:
            nodes += 1
            if nodes > MOST_NODES or prefix.count("/") > LARGEST_DEPTH:
                raise BenchError(
                    f"{path} must hold no more than {MOST_NODES} arrays and groups in "
                    f"{LARGEST_DEPTH} levels, received more: copy what is annotated to a new file"
                )
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            node = group[name]
            place = h5py.h5o.get_info(node.id).addr
            if place in seen:  # a group may be linked from below itself
                continue
            seen.add(place)
            if isinstance(node, h5py.Group):
                waiting.append((f"{prefix}{name}/", node))
            elif isinstance(node, h5py.Dataset) and may_be_sections(node.shape, node.dtype):
                keys.append(prefix + name)
    return sorted(keys)


def follow_links(path: Path, file: h5py.File, key: str) -> h5py.Dataset | h5py.Group | None:
    """Returns what a key names, soft links followed one by one; None if there is nothing.

    HDF5 would follow a link into another file on the way.
    """
    node, waiting, links = file, split_key(key), 0
    while waiting:
        name = waiting.pop()
        link = node.get(name, getlink=True) if isinstance(node, h5py.Group) else None
        if isinstance(link, h5py.SoftLink):
            links += 1
            node = file if link.path.startswith("/") else node
            waiting += split_key(link.path)
            if links > MOST_LINKS or len(waiting) > LARGEST_DEPTH:
                raise BenchError(
                    f"key {key!r} of {path} must lead to an array in {MOST_LINKS} links or less, "
                    "received more: name the array itself"
                )
        elif isinstance(link, h5py.ExternalLink):
            raise elsewhere(path, key, f"a link to {link.filename!r}")
        elif link is None:
            return None
        else:
            node = node[name]
    return node


def split_key(key: str) -> list[str]:
    """Returns the names in a key, the last one first."""
    return [name for name in key.split("/") if name not in ("", ".")][::-1]


def elsewhere(path: Path, key: str, received: str) -> BenchError:
    """Builds the error for an array that is not in the file itself."""
    return BenchError(
        f"array {key} of {path} must be stored in that file, received {received}: copy its values "
        "into one file"
    )


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


def describe_array(path: Path, dataset: h5py.Dataset) -> ImageHeader:
    """Returns the header of an array."""
    axes = find_section_axes(path, dataset.name, dataset.shape)
    check_dataset(path, dataset, axes)
    stated = {name: read_numbers(dataset, name) for name in SIDES_NM}
    return build_header(dataset.shape, axes, find_sides(stated))


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
    known = len(sides_nm) >= 2 and all(
        SMALLEST_PIXEL_NM <= side < LARGEST_PIXEL_NM for side in sides_nm[-2:]
    )
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


def find_offset(stated: Mapping[str, tuple[float, ...]]) -> tuple[float, float, float]:
    """Returns the offset (z, y, x) in nm that attributes state, else zero."""
    offset = stated["offset"]
    if len(offset) < 2 or not all(math.isfinite(value) for value in offset):
        return 0.0, 0.0, 0.0
    z, y, x = (0.0, *offset)[-3:]
    return z, y, x


def read_numbers(dataset: h5py.Dataset, name: str) -> tuple[float, ...]:
    """Returns the numbers of an attribute; none if it is missing, long or something else."""
    if name not in dataset.attrs:
        return ()
    attribute = dataset.attrs.get_id(name)
    if attribute.dtype.kind not in "uif" or math.prod(attribute.shape) > LARGEST_ATTRIBUTE:
        return ()
    return as_numbers(dataset.attrs[name])


def as_numbers(value: Any) -> tuple[float, ...]:
    """Returns a value as numbers; none if it is something else."""
    try:
        return tuple(float(number) for number in np.atleast_1d(np.asarray(value, float)).ravel())
    except (TypeError, ValueError, OverflowError):
        return ()


def check_dataset(path: Path, dataset: h5py.Dataset, axes: SectionAxes) -> None:
    """Refuses an array that is stored elsewhere, or cannot be read without a foreign filter."""
    if dataset.is_virtual:
        raise elsewhere(path, dataset.name, "a view of other arrays")
    if dataset.external:
        raise elsewhere(path, dataset.name, f"values in {dataset.external[0][0]!r}")
    check_size(path, dataset.name, dataset.shape, dataset.dtype, axes, path.stat().st_size)
    codes = filter_codes(dataset)
    foreign = [code for code in codes if code not in FILTERS]
    packed = [place for place, code in enumerate(codes) if code in COMPRESSORS]
    # Shuffled after compression, the bytes would not say what they become.
    twisted = packed and h5py.h5z.FILTER_SHUFFLE in codes[packed[0] :]
    if foreign or len(packed) > 1 or twisted:
        raise BenchError(
            f"array {dataset.name} of {path} must be compressed once, with gzip, lzf or szip, "
            f"received filters {foreign or codes}: save it with gzip"
        )


def filter_codes(dataset: h5py.Dataset) -> list[int]:
    """Returns the registered numbers of an array's filters, in the order they were applied."""
    properties = dataset.id.get_create_plist()
    return [properties.get_filter(place)[0] for place in range(properties.get_nfilters())]


def check_size(
    path: Path,
    key: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    axes: SectionAxes,
    stored: int,
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


def check_chunks(path: Path, dataset: h5py.Dataset, index: tuple[int | slice, ...]) -> None:
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
    codes = filter_codes(dataset)
    place_of_compressor = next(n for n, code in enumerate(codes) if code in COMPRESSORS)
    for place in product(*grid):
        start = tuple(step * side for step, side in zip(place, dataset.chunks, strict=True))
        stored = dataset.id.get_chunk_info_by_coord(start)
        risky = dataset.compression == "szip" or stored.size * GZIP_RATIO > FREE_BYTES
        if stored.byte_offset is not None and risky:
            skipped, packed = dataset.id.read_direct_chunk(start)
            if not skipped >> place_of_compressor & 1:
                check_unpacked(path, dataset.compression, packed, size + CHECKSUM_BYTES)


def chunk_grid(
    path: Path,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    index: tuple[int | slice, ...],
) -> list[range]:
    """Returns the chunks that a section has parts of, as a range of places along each axis."""
    grid = []
    for side, chunk, part in zip(shape, chunks, index, strict=True):
        place = None if isinstance(part, slice) else part // chunk
        grid.append(range(-(-side // chunk)) if place is None else range(place, place + 1))
    if math.prod(map(len, grid)) > MOST_CHUNKS:
        raise BenchError(
            f"a section of {path} must lie in no more than {MOST_CHUNKS} chunks, received chunks "
            f"of {chunks} in {shape}: save it with larger chunks"
        )
    return grid


def check_unpacked(path: Path, compressor: str, packed: bytes, expected: int) -> None:
    """Refuses compressed bytes that unpack to more than expected.

    Args:
        path: The file, for the message.
        compressor: ``gzip`` (bytes of zlib or gzip), or one that states the size at the start:
            ``szip``, ``lz4``, ``blosc`` or ``zstd``.
        packed: The compressed bytes.
        expected: How many bytes they may become.
    """
    if compressor in ("szip", "lz4"):
        unpacked = int.from_bytes(packed[:4], "little")
    elif compressor == "blosc":
        unpacked = int.from_bytes(packed[4:8], "little")
    elif compressor == "zstd":
        unpacked = unpacked_by_zstd(packed, expected)
    elif packed.startswith(b"\x1f\x8b"):
        unpacked = len(gzip.GzipFile(fileobj=io.BytesIO(packed)).read(expected + 1))
    else:
        unpacked = len(zlib.decompressobj().decompress(packed, expected + 1))
    if unpacked > expected:
        raise BenchError(
            f"chunks of {path} must unpack to {expected} bytes, received one that becomes "
            f"{unpacked} or more: save it again"
        )


def unpacked_by_zstd(packed: bytes, expected: int) -> int:
    """Returns how many bytes a frame of zstd becomes, by its header or by unpacking it."""
    flags = packed[4] if packed[:4] == b"\x28\xb5\x2f\xfd" and len(packed) > 4 else 0
    single_segment, width = flags & 0x20, (0, 2, 4, 8)[flags >> 6]
    if not width and not single_segment:
        return len(imagecodecs.zstd_decode(packed, out=expected + 1))
    start = 5 + (not single_segment) + (0, 1, 2, 4)[flags & 3]
    size = int.from_bytes(packed[start : start + max(width, 1)], "little")
    return size + 256 if width == 2 else size


def native(pixels: np.ndarray) -> np.ndarray:
    """Returns pixels in the byte order of the machine."""
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
