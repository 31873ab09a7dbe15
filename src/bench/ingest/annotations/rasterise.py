"""From drawn objects to pixels: a pixel belongs to a shape that contains its centre."""

import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.ingest.annotations.drawing import Disc, DrawnObject, Outline, Painted, Shape

# Crossings of rows with so many shapes are in memory at a time.
_TRACED_AT_ONCE = 1000
_NOTHING = np.empty((0, 2))
# From there on numpy asks for large pages.
_LARGE_BYTES = 1 << 22


@dataclass(eq=False)
class DrawnLabels:
    """Objects of one structure as instance ids, and what did not fit.

    Attributes:
        labels: Instance ids (y, x), 0 background; an object's id is its place in the list plus 1.
        overlapping_px: Pixels of more than one object; the object drawn last has them.
        covered: Pixels that each object lost to later ones, by its id; only where it lost any.
        outside: Ids of objects that have no pixel of their shapes in the image.
        cut: Ids of objects that reach beyond the image.
    """

    labels: np.ndarray
    overlapping_px: int = 0
    covered: dict[int, int] = field(default_factory=dict)
    outside: list[int] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)


def draw_labels(
    objects: Sequence[DrawnObject],
    section: int,
    shape: tuple[int, int],
    *,
    origin: tuple[float, float] = (0.0, 0.0),
) -> DrawnLabels:
    """Draws the objects of a section in the order given, later ones over earlier ones.

    Args:
        objects: Objects of one structure.
        section: The section's number.
        shape: Height and width of the image in px.
        origin: x and y of the image's corner in the coordinates of the objects.
    """
    # numba is imported where something is drawn, and not by all that imports this module.
    from bench.postprocess.run_kernels import paint_spans

    drawn = DrawnLabels(_sparse_zeros(shape, np.min_scalar_type(len(objects))))
    there = [
        (identifier, item)
        for identifier, each in enumerate(objects, start=1)
        for item in each.shapes.get(section, ())
    ]
    shapes = [item for _, item in there]
    identifiers = np.array([identifier for identifier, _ in there], np.int64)
    spans = _find_spans(shapes, shape, origin)
    lost = np.zeros(len(objects) + 1, np.int64)
    ids = identifiers[spans[:, 0]]
    paint_spans(drawn.labels, spans, ids, lost)
    drawn.overlapping_px = int(lost.sum())
    drawn.covered = {int(number): int(lost[number]) for number in np.flatnonzero(lost)}
    drawn.outside = np.setdiff1d(identifiers, ids).tolist()
    beyond = identifiers[_reach_beyond(shapes, shape, origin)]
    drawn.cut = np.intersect1d(beyond, ids).tolist()
    return drawn


def _sparse_zeros(shape: tuple[int, int], dtype: "np.dtype[Any]") -> np.ndarray:
    """Zeros of which only the parts that are written to take memory and time.

    For its large arrays numpy asks the system for pages of 2 MB, each of which is cleared as a
    whole: objects here and there in a montage lie on nearly all of them.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < _LARGE_BYTES:
        return np.zeros(shape, dtype)
    try:
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"{size} bytes for an image of labels") from error
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        pages.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(pages, dtype).reshape(shape)


def _find_spans(
    shapes: Sequence[Shape], size: tuple[int, int], origin: tuple[float, float]
) -> np.ndarray:
    """The pixels of shapes in an image of a size (height, width).

    A pixel whose centre lies on an edge belongs to the side of larger x, then of larger y, so
    that of two shapes with a common edge one has it.

    Returns:
        Place of the shape, row, first column and column after the last of stretches of pixels
        (n, 4), int64, in the order of the shapes.
    """
    found = [np.empty((0, 4), np.int64)]
    outlines = [place for place, item in enumerate(shapes) if isinstance(item, Outline)]
    for first in range(0, len(outlines), _TRACED_AT_ONCE):
        places = outlines[first : first + _TRACED_AT_ONCE]
        found.append(_trace_outlines(shapes, places, size, origin))
    for place, item in enumerate(shapes):
        if not isinstance(item, Outline):
            found.append(_list_spans(place, _paint(item, size, origin)))
    spans = np.concatenate(found)
    return spans[np.argsort(spans[:, 0], kind="stable")]


def _paint(
    shape: Disc | Painted, size: tuple[int, int], origin: tuple[float, float]
) -> Painted | None:
    if isinstance(shape, Disc):
        return _draw_disc(shape, size, origin)
    return _crop_painted(shape, size, origin)


def _list_spans(place: int, painted: Painted | None) -> np.ndarray:
    """The stretches of painted pixels, as `_find_spans` returns them."""
    if painted is None:
        return np.empty((0, 4), np.int64)
    # Where a row changes, with a column beyond either end.
    beside = np.pad(painted.mask, ((0, 0), (1, 1)))
    rows, columns = np.nonzero(beside[:, 1:] != beside[:, :-1])
    rows, columns = rows + painted.top, columns + painted.left
    return np.stack([np.full(len(rows) // 2, place), rows[::2], columns[::2], columns[1::2]], 1)


def _crop_painted(
    painted: Painted, size: tuple[int, int], origin: tuple[float, float]
) -> Painted | None:
    """Takes the part of painted pixels that lies in an image; fractions of a pixel are dropped."""
    top, left = painted.top - math.floor(origin[1]), painted.left - math.floor(origin[0])
    height, width = painted.mask.shape
    first_row, last_row = clip(top, top + height, size[0])
    first_column, last_column = clip(left, left + width, size[1])
    if first_row >= last_row or first_column >= last_column:
        return None
    mask = painted.mask[first_row - top : last_row - top, first_column - left : last_column - left]
    return Painted(first_row, first_column, mask) if mask.any() else None


def _draw_disc(disc: Disc, size: tuple[int, int], origin: tuple[float, float]) -> Painted | None:
    """Draws a circle; a centre at the radius itself is inside."""
    x, y = disc.x - origin[0] - 0.5, disc.y - origin[1] - 0.5
    top, bottom = clip(math.ceil(y - disc.radius), math.floor(y + disc.radius) + 1, size[0])
    left, right = clip(math.ceil(x - disc.radius), math.floor(x + disc.radius) + 1, size[1])
    if top >= bottom or left >= right:
        return None
    rows, columns = np.ogrid[top:bottom, left:right]
    mask = (rows - y) ** 2 + (columns - x) ** 2 <= disc.radius**2
    return Painted(top, left, mask) if mask.any() else None


def _trace_outlines(
    shapes: Sequence[Shape],
    places: Sequence[int],
    size: tuple[int, int],
    origin: tuple[float, float],
) -> np.ndarray:
    """The stretches of pixels inside rings by the even-odd rule, as `_find_spans` returns them.

    Every edge crosses the centre lines of the rows between its ends (half-open); from the
    crossing on, the pixels of that row change sides.

    Args:
        shapes: Shapes.
        places: Those of them that are drawn, outlines.
        size: Height and width of the image in px.
        origin: x and y of its corner.
    """
    outlines = [(place, shapes[place]) for place in places]
    rings = [
        (place, ring)
        for place, outline in outlines
        if isinstance(outline, Outline)
        for ring in outline.rings
        if len(ring) > 2
    ]
    if not rings:
        return np.empty((0, 4), np.int64)
    corners = np.array([len(ring) for _, ring in rings])
    owners = np.repeat([place for place, _ in rings], corners)
    starts = np.concatenate([ring for _, ring in rings]) - origin
    # The last corner of a ring is followed by its first.
    following = np.arange(1, len(starts) + 1)
    last = np.cumsum(corners) - 1
    following[last] = last - corners + 1
    edges, rows, columns = _find_crossings(starts, starts[following], size[0])
    # Rings are closed, so that a shape crosses a row an even number of times.
    order = np.lexsort((columns, rows, owners[edges]))
    owners, rows = owners[edges][order], rows[order]
    columns = np.clip(columns[order], 0, size[1])
    spans = np.stack([owners[::2], rows[::2], columns[::2], columns[1::2]], axis=1)
    return spans[spans[:, 2] < spans[:, 3]]


def _find_crossings(
    starts: np.ndarray, ends: np.ndarray, height: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where edges (n, 2) as x, y cross the centre lines of the rows of an image.

    Returns:
        Edge of each crossing, its row, and the first column whose centre is not before it.
    """
    down = starts[:, 1] <= ends[:, 1]
    upper = np.where(down[:, None], starts, ends)
    lower = np.where(down[:, None], ends, starts)
    # Rows r with upper y <= r + 0.5 < lower y.
    first = np.clip(np.ceil(upper[:, 1] - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(lower[:, 1] - 0.5), 0, height).astype(np.int64)
    counts = np.maximum(last - first, 0)
    edges = np.repeat(np.arange(len(counts)), counts)
    rows = first[edges] + np.arange(len(edges)) - np.repeat(np.cumsum(counts) - counts, counts)
    run = lower[edges] - upper[edges]
    x = upper[edges, 0] + (rows + 0.5 - upper[edges, 1]) * run[:, 0] / run[:, 1]
    return edges, rows, np.ceil(x - 0.5).astype(np.int64)


def _reach_beyond(
    shapes: Sequence[Shape], size: tuple[int, int], origin: tuple[float, float]
) -> np.ndarray:
    """Whether shapes reach beyond an image of a size (height, width)."""
    bounds = np.array([find_bounds(item) for item in shapes]).reshape(-1, 2, 2)
    beyond = (bounds[:, 0] < origin) | (bounds[:, 1] > np.add(origin, size[::-1]))
    return np.asarray(beyond.any(axis=1))


def find_bounds(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """The least and largest x, y of a shape in px; an empty shape has none (inf, -inf)."""
    if isinstance(shape, Disc):
        centre = np.array([shape.x, shape.y])
        return centre - shape.radius, centre + shape.radius
    if isinstance(shape, Painted):
        corner = np.array([shape.left, shape.top], float)
        return corner, corner + shape.mask.shape[::-1]
    corners = shape.rings[0] if len(shape.rings) == 1 else np.concatenate([_NOTHING, *shape.rings])
    if not len(corners):
        return np.full(2, np.inf), np.full(2, -np.inf)
    return corners.min(axis=0), corners.max(axis=0)


def clip(first: int, last: int, length: int) -> tuple[int, int]:
    """The part of a range of pixels that lies in an image."""
    return max(first, 0), min(last, length)
