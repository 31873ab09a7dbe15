"""Bounds on the chunks of a section: how many they are, and how much each of them unpacks to."""

import gzip
import io
import math
import zlib
from pathlib import Path

import imagecodecs

from bench.errors import BenchError

# The most that a byte of gzip or zlib can become.
GZIP_RATIO = 1032
MOST_CHUNKS = 250_000


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
