"""Connected components of a mask and their areas in one reading of it, by runs.

A run is a stretch of foreground within a row. Runs that touch from row to row, and in a volume from
plane to plane, are united; what is too small is known before a single label is written. Libraries
write all labels first and read them twice more for the filter, which takes several times as long.
Beside the mask and the labels there are 24 bytes a run, and as many while they are enlarged.

Reference: He, Chao, Suzuki, "A run-based two-scan labeling algorithm", IEEE Transactions on Image
Processing 17 (2008) 749.
"""

import numba
import numpy as np

from bench.errors import BenchError

# Neighbours of a pixel or voxel: those that share an edge or face, the default; all that touch.
_NEIGHBOURS = {2: (4,), 3: (6, 26)}
# A factor that gathers the eight bytes of a word, each 0 or 1, as the bits of its highest byte.
_GATHER = np.uint64(0x0102040810204080)
# By a de Bruijn sequence a word of one bit is looked up: its product's highest six bits say which.
_SEQUENCE = np.uint64(0x03F79D71B4CB0A89)
_PLACES = np.argsort([(int(_SEQUENCE) << bit) % 2**64 >> 58 for bit in range(64)]).astype(np.int32)


def label_components(
    mask: np.ndarray, *, min_area_px: int, connectivity: int | None = None
) -> tuple[np.ndarray, int]:
    """Labels the connected components of at least an area, in a section or a volume.

    Args:
        mask: Boolean (y, x) or (z, y, x).
        min_area_px: Area of the smallest component kept, of a volume its voxels; 0 and 1 keep all.
        connectivity: Neighbours of a pixel: 4 of a section; of a voxel 6 (the faces, the default)
            or 26 (edges and corners as well).

    Returns:
        Ids 1, 2 .. in the order of the components' first pixels, 0 background, int32 of the mask's
        shape; and the pixels of all kept.

    Raises:
        BenchError: If the mask is of another number of axes, or has not so many neighbours.
    """
    known = _NEIGHBOURS.get(mask.ndim, ())
    if not known or connectivity not in (None, *known):
        raise BenchError(
            "components are of 4 neighbours (y, x), or of 6 or 26 (z, y, x), received "
            f"{connectivity or 'the default'} for shape {mask.shape}: choose one of these"
        )
    # Memory that comes zeroed from the system is cheaper than zeros written here.
    labels = np.zeros(mask.shape, np.int32)
    if not mask.size:
        return labels, 0
    rows_of_plane, columns = mask.shape[-2:]
    foreground = np.ascontiguousarray(mask).view(np.uint8).reshape(-1, columns)
    first_of_row, edges, parent = _find_runs(foreground, rows_of_plane, connectivity == 26)
    kept_px = _number_runs(edges, parent, min_area_px)
    _write_runs(labels.reshape(-1, columns), first_of_row, edges, parent)
    return labels, kept_px


@numba.njit(cache=True, nogil=True)
def _find_runs(
    mask: np.ndarray, rows_of_plane: int, corners: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Finds the runs of a mask and unites those that touch from row to row and plane to plane.

    Args:
        mask: (rows, columns), uint8, the rows of all planes; every value but 0 is foreground.
        rows_of_plane: Rows of a plane.
        corners: Whether runs that share an edge or a corner of voxels touch.

    Returns:
        The first run of each row, and the number of runs at the end; first column of each run and
        column after its last, in turns, int32; and of each run an earlier one of its component, or
        itself if it is the first: following these leads to the first.
    """
    rows, columns = mask.shape
    first_of_row = np.empty(rows + 1, np.intp)
    most_of_row = columns // 2 + 1
    edges = np.empty(2 * max(1024, most_of_row), np.int32)
    parent = np.empty(edges.size // 2, np.intp)
    padded = np.zeros(-(-columns // 64) * 64, np.uint8)
    found, reach = 0, int(corners)
    for row in range(rows):
        first_of_row[row] = found
        if found + most_of_row > parent.size:
            edges, parent = _enlarge(edges, parent, found, 2 * (found + most_of_row))
        end = found + _find_edges(mask[row], padded, edges[2 * found :]) // 2
        for run in range(found, end):
            parent[run] = run
        found = end
        first_of_row[row + 1] = found
        in_plane, before = row % rows_of_plane, row - rows_of_plane
        if in_plane:
            unite_rows(edges, parent, first_of_row, row, row - 1, reach)
        if before >= 0:
            unite_rows(edges, parent, first_of_row, row, before, reach)
            if corners and in_plane:
                unite_rows(edges, parent, first_of_row, row, before - 1, reach)
            if corners and in_plane + 1 < rows_of_plane:
                unite_rows(edges, parent, first_of_row, row, before + 1, reach)
    first_of_row[rows] = found
    return first_of_row, edges[: 2 * found], parent[:found]


@numba.njit(cache=True, nogil=True)
def unite_rows(
    edges: np.ndarray,
    parent: np.ndarray,
    first_of_row: np.ndarray,
    row: int,
    other: int,
    reach: int,
) -> None:
    """Unites the runs of a row with those of an earlier one that they touch.

    Args:
        edges: First column of each run, and the column after its last.
        parent: An earlier run of the component of each.
        first_of_row: The first run of each row, up to the row after this one.
        row: The row.
        other: The earlier row.
        reach: Columns between runs that touch nevertheless: 1 where corners count, else 0.
    """
    above, above_end = first_of_row[other], first_of_row[other + 1]
    for run in range(first_of_row[row], first_of_row[row + 1]):
        start, stop = edges[2 * run] - reach, edges[2 * run + 1] + reach
        while above < above_end and edges[2 * above + 1] <= start:
            above += 1
        touching = above
        while touching < above_end and edges[2 * touching] < stop:
            unite(parent, touching, run)
            touching += 1


@numba.njit(cache=True, nogil=True)
def _enlarge(
    edges: np.ndarray, parent: np.ndarray, found: int, size: int
) -> tuple[np.ndarray, np.ndarray]:
    more_edges, more_parents = np.empty(2 * size, np.int32), np.empty(size, np.intp)
    more_edges[: 2 * found] = edges[: 2 * found]
    more_parents[:found] = parent[:found]
    return more_edges, more_parents


@numba.njit(cache=True, nogil=True)
def _find_edges(row: np.ndarray, padded: np.ndarray, edges: np.ndarray) -> int:
    """Writes the columns where runs begin and end, in turns; returns their number, which is even.

    Args:
        row: Pixels of a row, at least one; taken 64 at a time, as bits.
        padded: (columns, filled up to a multiple of 64) uint8, to work in; 0 beyond the columns.
        edges: Room for the edges of any row.
    """
    for column in range(row.size):
        padded[column] = row[column] != 0
    words = padded.view(np.uint64)
    found, last = 0, np.uint64(0)
    for first in range(0, words.size, 8):
        bits = np.uint64(0)
        for place in range(8):
            gathered = (words[first + place] * _GATHER) >> np.uint64(56)
            bits |= gathered << np.uint64(8 * place)
        changed = bits ^ ((bits << np.uint64(1)) | last)
        last = bits >> np.uint64(63)
        while changed:
            lowest = changed & (~changed + np.uint64(1))
            edges[found] = 8 * first + _PLACES[(lowest * _SEQUENCE) >> np.uint64(58)]
            found += 1
            changed ^= lowest
    if last:
        edges[found] = row.size
        found += 1
    return found


@numba.njit(cache=True, nogil=True)
def unite(parent: np.ndarray, first: int, second: int) -> None:
    """Makes two runs one component, which is named by its first run."""
    one, other = parent[first], parent[second]
    if one == other:
        return
    while parent[one] != one:
        parent[one] = parent[parent[one]]
        one = parent[one]
    while parent[other] != other:
        parent[other] = parent[parent[other]]
        other = parent[other]
    root = min(one, other)
    # Both runs point to the first one now: the next one that touches them has found it at once.
    parent[one] = root
    parent[other] = root
    parent[first] = root
    parent[second] = root


@numba.njit(cache=True, nogil=True)
def _number_runs(edges: np.ndarray, parent: np.ndarray, min_area_px: int) -> int:
    """Makes parents ids, 0 where a component is too small; returns the pixels of the rest."""
    areas = np.zeros(parent.size, np.intp)
    for run in range(parent.size):
        # Parents come first and point to the first run already.
        parent[run] = parent[parent[run]]
        areas[parent[run]] += edges[2 * run + 1] - edges[2 * run]
    kept = kept_px = 0
    for run in range(parent.size):
        first = parent[run]
        if first != run:
            parent[run] = parent[first]
        elif areas[run] >= min_area_px:
            kept += 1
            kept_px += areas[run]
            parent[run] = kept
        else:
            parent[run] = 0
    return kept_px


@numba.njit(cache=True, nogil=True)
def _write_runs(
    labels: np.ndarray, first_of_row: np.ndarray, edges: np.ndarray, ids: np.ndarray
) -> None:
    for row in range(first_of_row.size - 1):
        for run in range(first_of_row[row], first_of_row[row + 1]):
            if ids[run]:
                for column in range(edges[2 * run], edges[2 * run + 1]):
                    labels[row, column] = ids[run]
