"""Chunks of a Zarr array that have no file: left out as empty by a program, or lost in a copy."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from bench.ingest.images.chunks import chunk_entries, chunk_file
from bench.ingest.images.zarr_metadata import StoredArray

# Beyond, counting takes longer than reading what is annotated.
_MOST_COUNTED = 200_000
_ABSENT = 2**64 - 1


@dataclass(frozen=True)
class _Gaps:
    """Chunks without a file among those of some sections.

    Attributes:
        missing: How many have none.
        total: How many there are.
        first: Place of the first one, in chunks; empty where none is missing.
        smallest: Places of those with the fewest bytes, in which background is likely.
    """

    missing: int
    total: int
    first: tuple[int, ...]
    smallest: tuple[tuple[int, ...], ...]


def find_gaps(root: Path, array: StoredArray, spans: list[range], wanted: int) -> _Gaps | None:
    """Counts the chunks that have no file or no place in their shard.

    Args:
        root: The Zarr folder.
        array: The array.
        spans: What is looked at along each axis, in elements.
        wanted: How many of the smallest chunks to name.

    Returns:
        The gaps; None where there are too many chunks to count.
    """
    grid = [_places(span, side) for span, side in zip(spans, array.chunks, strict=True)]
    total = math.prod(map(len, grid))
    if total > _MOST_COUNTED:
        return None
    sizes = dict(_measure(root, array, spans))
    places = list(product(*grid))
    missing = [place for place in places if place not in sizes]
    present = sorted((size, place) for place, size in sizes.items())
    smallest = tuple(place for _, place in present[:wanted])
    return _Gaps(len(missing), total, missing[0] if missing else (), smallest)


def _places(span: range, side: int) -> range:
    return range(span.start // side, -(-span.stop // side))


def _measure(
    root: Path, array: StoredArray, spans: list[range]
) -> Iterator[tuple[tuple[int, ...], int]]:
    """Yields the chunks that are there with their bytes, by place in chunks."""
    inner = [file // chunk for file, chunk in zip(array.files, array.chunks, strict=True)]
    grid = [_places(span, side) for span, side in zip(spans, array.files, strict=True)]
    for place in product(*grid):
        file = chunk_file(root, array, place)
        if file is None:
            continue
        if not array.index:
            yield place, file.stat().st_size
            continue
        entries = chunk_entries(array, file).reshape(*inner, 2)
        for within in np.argwhere(entries[..., 0] != _ABSENT).tolist():
            found = tuple(p * n + w for p, n, w in zip(place, inner, within, strict=True))
            if all(
                p in _places(span, side)
                for p, span, side in zip(found, spans, array.chunks, strict=True)
            ):
                yield found, int(entries[(*within, 1)])
