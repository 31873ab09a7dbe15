"""The chunks of a Zarr array on disk, and bounds on what they become in memory."""

import math
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from bench.ingest.images.axes import SectionAxes, check_size
from bench.ingest.images.limits import FREE_BYTES, check_decoded_size, check_inside
from bench.ingest.images.unpacking import GZIP_RATIO, check_unpacked, chunk_grid
from bench.ingest.images.zarr_metadata import StoredArray

HEADER_BYTES = 32


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
            for start, length in chunks_in_file(root, array, content, size):
                content.seek(start)
                unstated = array.compressor in ("gzip", "zlib", "zstd")
                if array.compressor in ("gzip", "zlib") and length * GZIP_RATIO <= FREE_BYTES:
                    continue
                packed = content.read(length if unstated else HEADER_BYTES)
                check_unpacked(root, array.compressor, packed, expected)
    check_size(root, array.key or "/", array.shape, array.dtype, axes, stored)
    check_decoded_size(root, band_bytes(array, axes), stored)


def chunks_in_file(
    root: Path, array: StoredArray, content: Any, size: int
) -> Iterator[tuple[int, int]]:
    """Yields where the chunks in a file start and how many bytes they have."""
    if not array.index:
        yield 0, size
        return
    inner = math.prod(-(-f // c) for f, c in zip(array.files, array.chunks, strict=True))
    length = 16 * inner + 4
    if length > size:
        raise ValueError("a shard is shorter than its index")
    content.seek(size - length if array.index == "end" else 0)
    entries = np.frombuffer(content.read(length - 4), "<u8").reshape(-1, 2)
    for start, count in entries[entries[:, 0] != 2**64 - 1].tolist():
        if start + count > size:
            raise ValueError("a chunk reaches beyond its shard")
        yield start, count


def chunk_files(root: Path, array: StoredArray, index: tuple[int | slice, ...]) -> Iterator[Path]:
    """Yields the files that hold chunks of a section; a chunk without a file is empty."""
    first, between = array.name_chunk
    for place in product(*chunk_grid(root, array.shape, array.files, index)):
        name = between.join([first, *map(str, place)] if first else map(str, place))
        file = root / array.key / name
        if file.is_file():
            yield check_inside(file, (root,), str(root))


def band_bytes(array: StoredArray, axes: SectionAxes) -> int:
    """Returns the bytes of a row of chunks."""
    along_x = -(-array.shape[axes.x] // array.chunks[axes.x])
    return max(1, math.prod(array.chunks) * along_x * array.dtype.itemsize)
