"""Outlines of objects of a section: their length, how round they are, and how long the object."""

import math

import numpy as np

# Below, a disk of pixels is too coarse to tell a round object from another.
_FEWEST_PX = 20


def feret_diameters(labels: np.ndarray, edge_nm: float) -> np.ndarray:
    """The largest Feret diameter of every object: the longest distance of two of its points.

    Points are the corners of its pixels, so that a single pixel has the diagonal of one.

    Args:
        labels: Ids (y, x), 0 background.
        edge_nm: Edge of a pixel.

    Returns:
        (objects,) in nm, in the order of the ids.

    Examples:
        >>> feret_diameters(np.array([[1, 1, 1], [1, 1, 1], [0, 0, 0], [1, 1, 1]]), 2.0).tolist()
        [10.0]
    """
    rows, columns = np.nonzero(labels)
    ids = labels[rows, columns]
    # Of each row of an object the first and the last pixel: all others lie between them.
    order = np.lexsort((columns, rows, ids))
    rows, columns, ids = rows[order], columns[order], ids[order]
    line = np.ones(ids.size + 1, bool)
    line[1:-1] = (ids[1:] != ids[:-1]) | (rows[1:] != rows[:-1])
    first, last = np.flatnonzero(line[:-1]), np.flatnonzero(line[1:])
    left = np.stack([rows[first], columns[first]], axis=1)
    right = np.stack([rows[last], columns[last] + 1], axis=1)
    below = np.array([1, 0])
    corners = np.concatenate([left, left + below, right, right + below])
    owners = np.tile(ids[first], 4)
    order = np.argsort(owners, kind="stable")
    corners, owners = corners[order], owners[order]
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    groups = np.split(corners, starts[1:]) if ids.size else []
    return edge_nm * np.array([_longest_distance(each) for each in groups])


def _longest_distance(points: np.ndarray) -> float:
    """The longest distance of two points (n, 2) that lie on no line."""
    # Imported late, as others of this room need none of it.
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import pdist

    hull = points[ConvexHull(points).vertices]
    return float(pdist(hull).max())


def circularities(areas: np.ndarray, perimeters: np.ndarray, pixel_areas: np.ndarray) -> np.ndarray:
    """4 pi area / perimeter^2, which is 1 of a disk and less of all else.

    Not defined, NaN, of objects of fewer than 20 pixels, whose outline is that of their pixels. A
    little above 1 is the error of a perimeter that pixels are counted for, and is set to 1.

    Args:
        areas: Area of each object.
        perimeters: In the same unit.
        pixel_areas: In pixels.
    """
    defined = (pixel_areas >= _FEWEST_PX) & (perimeters > 0)
    found = np.full(len(areas), np.nan)
    found[defined] = np.minimum(4 * math.pi * areas[defined] / perimeters[defined] ** 2, 1.0)
    return found
