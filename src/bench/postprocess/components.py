"""Connected components of a mask and their areas in one reading of it, by runs.

A run is a stretch of foreground within a row. Runs that touch from row to row, and in a volume from
plane to plane, are united; what is too small is known before a single label is written. Libraries
write all labels first and read them twice more for the filter, which takes several times as long.
Beside the mask and the labels there are 40 bytes a run.

Reference: He, Chao, Suzuki, "A run-based two-scan labeling algorithm", IEEE Transactions on Image
Processing 17 (2008) 749.
"""

import numba
import numpy as np

from bench.errors import BenchError

# Neighbours of a pixel or voxel: those that share an edge or face, the default; all that touch.
_NEIGHBOURS = {2: (4,), 3: (6, 26)}


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
    first_of_row, runs, parent = _find_runs(foreground, rows_of_plane, connectivity == 26)
    ids, kept_px = _number_runs(runs, parent, min_area_px)
    _write_runs(labels.reshape(-1, columns), first_of_row, runs, ids)
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
        The first run of each row, and the number of runs at the end; (runs, 2) first column and
        column after the last, int32; and of each run an earlier one of its component, or itself
        if it is the first: following these leads to the first.
    """
    rows, columns = mask.shape
    first_of_row = np.empty(rows + 1, np.intp)
    runs = np.empty((1024, 2), np.int32)
    parent = np.empty(1024, np.intp)
    changed, edges = np.zeros(-(-columns // 8) * 8, np.uint8), np.empty(columns + 2, np.int32)
    found, reach = 0, int(corners)
    for row in range(rows):
        first_of_row[row] = found
        in_row = _find_edges(mask[row], changed, edges) // 2
        if found + in_row > parent.size:
            runs, parent = _enlarge(runs, parent, 2 * (found + in_row))
        for run in range(found, found + in_row):
            runs[run, 0], runs[run, 1] = edges[2 * (run - found)], edges[2 * (run - found) + 1]
            parent[run] = run
        first_of_row[row + 1] = found + in_row
        in_plane, before = row % rows_of_plane, row - rows_of_plane
        if in_plane:
            unite_rows(runs, parent, first_of_row, row, row - 1, reach)
        if before >= 0:
            unite_rows(runs, parent, first_of_row, row, before, reach)
            if corners and in_plane:
                unite_rows(runs, parent, first_of_row, row, before - 1, reach)
            if corners and in_plane + 1 < rows_of_plane:
                unite_rows(runs, parent, first_of_row, row, before + 1, reach)
        found += in_row
    first_of_row[rows] = found
    return first_of_row, runs[:found], parent[:found]


@numba.njit(cache=True, nogil=True)
def unite_rows(
    runs: np.ndarray, parent: np.ndarray, first_of_row: np.ndarray, row: int, other: int, reach: int
) -> None:
    """Unites the runs of a row with those of an earlier one that they touch.

    Args:
        runs: First column of each run, and the column after its last.
        parent: An earlier run of the component of each.
        first_of_row: The first run of each row, up to the row after this one.
        row: The row.
        other: The earlier row.
        reach: Columns between runs that touch nevertheless: 1 where corners count, else 0.
    """
    above, above_end = first_of_row[other], first_of_row[other + 1]
    for run in range(first_of_row[row], first_of_row[row + 1]):
        start, stop = runs[run, 0] - reach, runs[run, 1] + reach
        while above < above_end and runs[above, 1] <= start:
            above += 1
        touching = above
        while touching < above_end and runs[touching, 0] < stop:
            unite(parent, touching, run)
            touching += 1


@numba.njit(cache=True, nogil=True)
def _enlarge(runs: np.ndarray, parent: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    more_runs, more_parents = np.empty((size, 2), np.int32), np.empty(size, np.intp)
    more_runs[: parent.size] = runs
    more_parents[: parent.size] = parent
    return more_runs, more_parents


@numba.njit(cache=True, nogil=True)
def _find_edges(row: np.ndarray, changed: np.ndarray, edges: np.ndarray) -> int:
    """Writes the columns where runs begin and end, in turns; returns their number, which is even.

    Args:
        row: Pixels of a row, at least one.
        changed: (columns, filled up to a multiple of 8) uint8, to work in; 0 beyond the columns.
        edges: Room for two places more than columns.
    """
    # Views side by side, which the compiler compares many pixels at a time.
    here, before, differ = row[1:], row[:-1], changed[1:]
    changed[0] = row[0] != 0
    for place in range(here.size):
        differ[place] = (here[place] != 0) ^ (before[place] != 0)
    found = 0
    words = changed.view(np.uint64)
    for word in range(words.size):
        if words[word] == 0:
            continue
        # Each place is written, and kept by counting it: processors guess branches on noise wrong.
        for column in range(8 * word, 8 * word + 8):
            edges[found] = column
            found += changed[column]
    edges[found] = row.size
    return found + int(row[-1] != 0)


@numba.njit(cache=True, nogil=True)
def unite(parent: np.ndarray, first: int, second: int) -> None:
    """Makes two runs one component, which is named by its first run."""
    while parent[first] != first:
        parent[first] = parent[parent[first]]
        first = parent[first]
    while parent[second] != second:
        parent[second] = parent[parent[second]]
        second = parent[second]
    parent[max(first, second)] = min(first, second)


@numba.njit(cache=True, nogil=True)
def _number_runs(runs: np.ndarray, parent: np.ndarray, min_area_px: int) -> tuple[np.ndarray, int]:
    """The id of each run, 0 where its component is too small, int32; and the pixels of the rest."""
    areas = np.zeros(parent.size, np.intp)
    for run in range(parent.size):
        # Parents come first and point to the first run already.
        parent[run] = parent[parent[run]]
        areas[parent[run]] += runs[run, 1] - runs[run, 0]
    ids = np.zeros(parent.size, np.int32)
    kept = kept_px = 0
    for run in range(parent.size):
        if parent[run] != run:
            ids[run] = ids[parent[run]]
        elif areas[run] >= min_area_px:
            kept += 1
            kept_px += areas[run]
            ids[run] = kept
    return ids, kept_px


@numba.njit(cache=True, nogil=True)
def _write_runs(
    labels: np.ndarray, first_of_row: np.ndarray, runs: np.ndarray, ids: np.ndarray
) -> None:
    for row in range(first_of_row.size - 1):
        for run in range(first_of_row[row], first_of_row[row + 1]):
            if ids[run]:
                for column in range(runs[run, 0], runs[run, 1]):
                    labels[row, column] = ids[run]
