"""The loops over runs of ids, compiled: `label_runs` imports them when they are used."""

import numba
import numpy as np

from bench.postprocess.components import unite, unite_rows

# Pixels that are looked at together: nearly all hold nothing.
_STRETCH_PX = 128


@numba.njit(cache=True, nogil=True)
def find_runs_of_ids(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first run of each row, the spans of all runs, and their ids."""
    rows, columns = labels.shape
    first_of_row = np.zeros(rows + 1, np.int64)
    spans, ids = np.empty((1024, 2), np.int32), np.empty(1024, np.uint32)
    found = 0
    for row in range(rows):
        first_of_row[row] = found
        # A row has no more runs than pixels.
        if found + columns > ids.size:
            spans, ids = _enlarge(spans, ids, 2 * (found + columns))
        pixels = labels[row]
        open_id = np.uint32(0)
        for left in range(0, columns, _STRETCH_PX):
            right = min(left + _STRETCH_PX, columns)
            # A view, in which the compiler compares many pixels at a time.
            stretch = pixels[left:right]
            largest = stretch[0]
            for place in range(stretch.size):
                largest = max(largest, stretch[place])
            if largest == 0 and open_id == 0:
                continue
            for column in range(left, right):
                here = np.uint32(pixels[column])
                if here == open_id:
                    continue
                if open_id:
                    spans[found, 1] = column
                    found += 1
                if here:
                    spans[found, 0], ids[found] = column, here
                open_id = here
        if open_id:
            spans[found, 1] = columns
            found += 1
    first_of_row[rows] = found
    return first_of_row, spans[:found].copy(), ids[:found].copy()


@numba.njit(cache=True, nogil=True)
def _enlarge(spans: np.ndarray, ids: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    more_spans, more_ids = np.empty((size, 2), np.int32), np.empty(size, np.uint32)
    more_spans[: ids.size] = spans
    more_ids[: ids.size] = ids
    return more_spans, more_ids


@numba.njit(cache=True, nogil=True)
def join_spans(first_of_row: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """What `join_runs` returns of the runs of `LabelRuns`."""
    parent, edges = np.arange(spans.shape[0]), spans.reshape(-1)
    for row in range(first_of_row.size - 1):
        for run in range(first_of_row[row] + 1, first_of_row[row + 1]):
            if spans[run, 0] == spans[run - 1, 1]:
                unite(parent, run - 1, run)
        if row:
            unite_rows(edges, parent, first_of_row, row, row - 1, 0)
    for run in range(parent.size):
        # Parents come first and point to the first run already.
        parent[run] = parent[parent[run]]
    return parent


@numba.njit(cache=True, nogil=True)
def count_beside(
    rows: int,
    columns: int,
    first_of_row: np.ndarray,
    spans: np.ndarray,
    places: np.ndarray,
    count: int,
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """The attributes of `_Neighbours`: see `count_neighbours`, and `find_runs_of_ids` for runs."""
    same_below, touching = np.zeros(count, np.int64), np.zeros(count, np.int64)
    outlines = specks = 0
    # The ids of three rows, by their places from 1 on, with a column beyond either end.
    window = np.zeros((3, columns + 2), np.int64)
    if rows:
        _fill(window[0], first_of_row[0], first_of_row[1], spans, places, True)
    for row in range(rows):
        here, above, below = window[row % 3], window[(row + 2) % 3], window[(row + 1) % 3]
        if row >= 2:
            _fill(below, first_of_row[row - 2], first_of_row[row - 1], spans, places, False)
        if row + 1 < rows:
            _fill(below, first_of_row[row + 1], first_of_row[row + 2], spans, places, True)
        for run in range(first_of_row[row], first_of_row[row + 1]):
            start, stop, own = spans[run, 0], spans[run, 1], places[run] + 1
            inner_row = 0 < row < rows - 1
            for column in range(start, stop):
                # Beyond the image's edge nothing differs, and there is no other id.
                up = above[column + 1] if row else own
                down = below[column + 1] if row + 1 < rows else own
                left = here[column] if column else own
                right = here[column + 2] if column + 1 < columns else own
                same_below[own - 1] += row + 1 < rows and down == own
                others = 0
                for side in (up, down, left, right):
                    others += side != 0 and side != own
                touching[own - 1] += others
                outlines += up != own or down != own or left != own or right != own
                alone = up != own and down != own and stop - start == 1
                inner = inner_row and 0 < column < columns - 1
                specks += alone and inner and others > 0
    return same_below, touching, outlines, specks


@numba.njit(cache=True, nogil=True)
def _fill(
    line: np.ndarray, first: int, last: int, spans: np.ndarray, places: np.ndarray, write: bool
) -> None:
    """Writes some runs of a row into a line, or 0 in their stead."""
    for run in range(first, last):
        value = places[run] + 1 if write else 0
        for column in range(spans[run, 0], spans[run, 1]):
            line[column + 1] = value


@numba.njit(cache=True, nogil=True)
def paint_spans(labels: np.ndarray, spans: np.ndarray, ids: np.ndarray, lost: np.ndarray) -> None:
    """Gives stretches of pixels ids, one after the other, and counts those that others had before.

    Args:
        labels: Ids (y, x), written to.
        spans: Anything, row, first column and column after the last of each (n, 4).
        ids: The id of each (n,).
        lost: Pixels that each id has lost to later ones, added to.
    """
    for number in range(spans.shape[0]):
        row, own = spans[number, 1], ids[number]
        for column in range(spans[number, 2], spans[number, 3]):
            under = labels[row, column]
            if under != 0 and under != own:
                lost[under] += 1
            labels[row, column] = own
