"""Keeps the sections of chunked volumes that were decoded together, for those read next.

A chunk is decoded whole for any section of it: a volume in chunks of 64 sections, read one section
at a time, would be decoded 64 times.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Raw and labels are read in turn, so several arrays have to fit.
LARGEST_SLAB, MOST_BYTES = 64 * 2**20, 256 * 2**20


@dataclass(frozen=True, eq=False)
class Slab:
    """Sections of an array that were read together.

    Attributes:
        stamp: What would differ had the array changed since.
        sections: Which sections they are.
        pixels: Their pixels (z, y, x).
    """

    stamp: Hashable
    sections: range
    pixels: np.ndarray


# The last slab of each array, the one used longest ago first.
kept: dict[tuple[Path, str], Slab] = {}


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
        slab = Slab(stamp, sections, read(sections))
        make_room(slab.pixels.nbytes)
    kept[array] = slab
    # A copy, as the caller may change it, and as a view would keep the slab.
    copied: np.ndarray = slab.pixels[page - sections.start].copy()
    return copied


def stamp_of(file: Path) -> Hashable:
    """Returns what differs once a file has been written again."""
    status = file.stat()
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size


def make_room(wanted: int) -> None:
    """Drops the slabs used longest ago until there is room for some bytes."""
    while kept and sum(slab.pixels.nbytes for slab in kept.values()) + wanted > MOST_BYTES:
        del kept[next(iter(kept))]
