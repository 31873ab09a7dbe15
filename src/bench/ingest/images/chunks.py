"""Chunks of arrays: bounds on what they become, and those kept that are read next.

A chunk is decoded whole for any section of it: a volume in chunks of 64 sections, read one section
at a time, would be decoded 64 times.
"""

import gzip
import io
import math
import zlib
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from bench.errors import BenchError
from bench.ingest.images.axes import SectionAxes, check_size
from bench.ingest.images.limits import FREE_BYTES, check_decoded_size, check_inside
from bench.ingest.images.zarr_metadata import StoredArray

# Raw and labels are read in turn, so several arrays have to fit.
LARGEST_SLAB, MOST_BYTES = 64 * 2**20, 256 * 2**20

# The most that a byte of gzip or zlib can become.
GZIP_RATIO = 1032
_MOST_CHUNKS = 250_000
_HEADER_BYTES = 32


@dataclass(frozen=True, eq=False)
class _Slab:
    """Sections of an array that were read together."""

    stamp: Hashable  # what would differ had the array changed since
    sections: range
    pixels: np.ndarray  # (z, y, x)


# The last slab of each array, the one used longest ago first.
kept: dict[tuple[Path, str], _Slab] = {}


def find_slab(page: int, pages: int, chunk: int, plane_bytes: int) -> range:
    """Returns the sections of the same chunks to read with one; only itself if they are too large.

    Args:
        page: The section wanted.
        pages: Sections of the array.
        chunk: Sections of a chunk.
        plane_bytes: Bytes of a section.
    """
    depth = min(chunk, LARGEST_SLAB // max(plane_bytes, 1))
    if depth < 2:
        return range(page, page + 1)
    layer = page // chunk * chunk
    first = page - (page - layer) % depth
    return range(first, min(first + depth, layer + chunk, pages))


def read_through(
    array: tuple[Path, str],
    stamp: Hashable,
    page: int,
    sections: range,
    read: Callable[[range], np.ndarray],
) -> np.ndarray:
    """Returns a section (y, x) of a slab, which is read unless it is kept already.

    Args:
        array: The file or folder, and the key in it.
        stamp: What differs once the array has changed, such as the time of its file.
        page: The section, one of the slab's.
        sections: The slab, by `find_slab`.
        read: Reads sections (z, y, x).
    """
    if len(sections) == 1:
        plane: np.ndarray = read(sections)[0]
        return plane
    slab = kept.pop(array, None)
    if slab is None or slab.stamp != stamp or slab.sections != sections:
        slab = None  # its memory is free before the next one is read
        slab = _Slab(stamp, sections, read(sections))
        _make_room(slab.pixels.nbytes)
    kept[array] = slab
    # A copy, as the caller may change it, and as a view would keep the slab.
    copied: np.ndarray = slab.pixels[page - sections.start].copy()
    return copied


def stamp_of(file: Path) -> Hashable:
    """Returns what differs once a file has been written again."""
    status = file.stat()
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size


def _make_room(wanted: int) -> None:
    while kept and sum(slab.pixels.nbytes for slab in kept.values()) + wanted > MOST_BYTES:
        del kept[next(iter(kept))]


def chunk_grid(
    path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], index: tuple[int | slice, ...]
) -> list[range]:
    """Returns the chunks that a section has parts of, as a range of places along each axis."""
    grid = []
    for side, chunk, part in zip(shape, chunks, index, strict=True):
        place = None if isinstance(part, slice) else part // chunk
        grid.append(range(-(-side // chunk)) if place is None else range(place, place + 1))
    if math.prod(map(len, grid)) > _MOST_CHUNKS:
        raise BenchError(
            f"a section of {path} must lie in no more than {_MOST_CHUNKS} chunks, received chunks "
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
        unpacked = _unpacked_by_zstd(packed, expected)
    elif packed.startswith(b"\x1f\x8b"):
        unpacked = len(gzip.GzipFile(fileobj=io.BytesIO(packed)).read(expected + 1))
    else:
        unpacked = len(zlib.decompressobj().decompress(packed, expected + 1))
    if unpacked > expected:
        raise BenchError(
            f"chunks of {path} must unpack to {expected} bytes, received one that becomes "
            f"{unpacked} or more: save it again"
        )


def _unpacked_by_zstd(packed: bytes, expected: int) -> int:
    """Returns how many bytes a frame of zstd becomes, by its header or by unpacking it."""
    flags = packed[4] if packed[:4] == b"\x28\xb5\x2f\xfd" and len(packed) > 4 else 0
    single_segment, width = flags & 0x20, (0, 2, 4, 8)[flags >> 6]
    if not width and not single_segment:
        return len(imagecodecs.zstd_decode(packed, out=expected + 1))
    start = 5 + (not single_segment) + (0, 1, 2, 4)[flags & 3]
    size = int.from_bytes(packed[start : start + max(width, 1)], "little")
    return size + 256 if width == 2 else size


def check_chunks(
    root: Path, array: StoredArray, axes: SectionAxes, index: tuple[int | slice, ...]
) -> None:
    """Refuses sections and chunks that would be far larger in memory than on disk."""
    expected, stored = math.prod(array.chunks) * array.dtype.itemsize, 0
    for file in chunk_files(root, array, index):
        size = file.stat().st_size
        stored += size
        if not array.compressor:
            continue
        with file.open("rb") as content:
            for start, length in _chunks_in_file(root, array, content, size):
                content.seek(start)
                unstated = array.compressor in ("gzip", "zlib", "zstd")
                if array.compressor in ("gzip", "zlib") and length * GZIP_RATIO <= FREE_BYTES:
                    continue
                packed = content.read(length if unstated else _HEADER_BYTES)
                check_unpacked(root, array.compressor, packed, expected)
    check_size(root, array.key or "/", array.shape, array.dtype, axes, stored)
    check_decoded_size(root, band_bytes(array, axes), stored)


def _chunks_in_file(
    root: Path, array: StoredArray, content: Any, size: int
) -> Iterator[tuple[int, int]]:
    if not array.index:
        yield 0, size
        return
    entries = _read_index(array, content, size)
    for start, count in entries[entries[:, 0] != 2**64 - 1].tolist():
        if start + count > size:
            raise ValueError("a chunk reaches beyond its shard")
        yield start, count


def _read_index(array: StoredArray, content: Any, size: int) -> np.ndarray:
    """Reads where the chunks of a shard begin and how many bytes they have (n, 2)."""
    inner = math.prod(-(-f // c) for f, c in zip(array.files, array.chunks, strict=True))
    length = 16 * inner + 4
    if length > size:
        raise ValueError("a shard is shorter than its index")
    content.seek(size - length if array.index == "end" else 0)
    return np.frombuffer(content.read(length - 4), "<u8").reshape(-1, 2)


def chunk_entries(array: StoredArray, file: Path) -> np.ndarray:
    """Reads the index of a shard (n, 2): start and bytes of each chunk, 2^64 - 1 for none."""
    with file.open("rb") as content:
        return _read_index(array, content, file.stat().st_size)


def chunk_files(root: Path, array: StoredArray, index: tuple[int | slice, ...]) -> Iterator[Path]:
    """Yields the files that hold chunks of a section; a chunk without a file is empty."""
    for place in product(*chunk_grid(root, array.shape, array.files, index)):
        if file := chunk_file(root, array, place):
            yield file


def chunk_file(root: Path, array: StoredArray, place: tuple[int, ...]) -> Path | None:
    """Returns the file of a chunk, or of a shard, by its place; None where it has none."""
    first, between = array.name_chunk
    name = between.join([first, *map(str, place)] if first else map(str, place))
    file = root / array.key / name
    return check_inside(file, (root,), str(root)) if file.is_file() else None


def band_bytes(array: StoredArray, axes: SectionAxes) -> int:
    """Returns the bytes of a row of chunks."""
    along_x = -(-array.shape[axes.x] // array.chunks[axes.x])
    return max(1, math.prod(array.chunks) * along_x * array.dtype.itemsize)
