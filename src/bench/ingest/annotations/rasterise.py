"""From drawn objects to pixels: a pixel belongs to a shape that contains its centre."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.ingest.annotations.drawing import Disc, DrawnObject, Outline, Painted, Shape


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
    drawn = DrawnLabels(np.zeros(shape, np.min_scalar_type(len(objects))))
    for identifier, item in enumerate(objects, start=1):
        shapes = item.shapes.get(section, ())
        patches = [p for p in (draw_shape(s, shape, origin) for s in shapes) if p is not None]
        if shapes and not patches:
            drawn.outside.append(identifier)
        elif any(_reaches_beyond(s, shape, origin) for s in shapes):
            drawn.cut.append(identifier)
        for patch in patches:
            height, width = patch.mask.shape
            window = slice(patch.top, patch.top + height), slice(patch.left, patch.left + width)
            under = drawn.labels[window]
            hit = patch.mask & (under != 0) & (under != identifier)
            if hit.any():
                drawn.overlapping_px += int(np.count_nonzero(hit))
                for lost, count in zip(*np.unique(under[hit], return_counts=True), strict=True):
                    drawn.covered[int(lost)] = drawn.covered.get(int(lost), 0) + int(count)
            under[patch.mask] = identifier
    return drawn


def draw_shape(
    shape: Shape, size: tuple[int, int], origin: tuple[float, float] = (0.0, 0.0)
) -> Painted | None:
    """Draws a shape into an image of a size (height, width); None if no pixel is inside.

    A pixel whose centre lies on an edge belongs to the side of larger x, then of larger y, so
    that of two shapes with a common edge one has it.
    """
    if isinstance(shape, Disc):
        return _draw_disc(shape, size, origin)
    if isinstance(shape, Painted):
        return _crop_painted(shape, size, origin)
    return _draw_outline(shape, size, origin)


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


def _draw_outline(
    outline: Outline, size: tuple[int, int], origin: tuple[float, float]
) -> Painted | None:
    """Draws rings by the even-odd rule.

    Every edge crosses the centre lines of the rows between its ends (half-open); from the
    crossing on, the pixels of that row change sides.
    """
    rings = [ring - origin for ring in outline.rings if len(ring) > 2]
    if not rings:
        return None
    starts = np.concatenate(rings)
    low, high = np.floor(starts.min(axis=0)), np.ceil(starts.max(axis=0))
    left, right = clip(int(low[0]), int(high[0]), size[1])
    top, bottom = clip(int(low[1]), int(high[1]), size[0])
    if top >= bottom or left >= right:
        return None
    ends = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    rows, columns = _find_crossings(starts, ends, top, bottom)
    flips = np.zeros((bottom - top, right - left + 1), np.uint8)
    np.bitwise_xor.at(flips, (rows - top, np.clip(columns, left, right) - left), 1)
    mask = np.bitwise_xor.accumulate(flips[:, :-1], axis=1).astype(bool)
    return Painted(top, left, mask) if mask.any() else None


def _find_crossings(
    starts: np.ndarray, ends: np.ndarray, top: int, bottom: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where edges (n, 2) as x, y cross the centre lines of the rows from top to before bottom.

    Returns:
        Row of each crossing, and the first column whose centre is not before it.
    """
    down = starts[:, 1] <= ends[:, 1]
    upper = np.where(down[:, None], starts, ends)
    lower = np.where(down[:, None], ends, starts)
    # Rows r with upper y <= r + 0.5 < lower y.
    first = np.clip(np.ceil(upper[:, 1] - 0.5), top, bottom).astype(np.int64)
    last = np.clip(np.ceil(lower[:, 1] - 0.5), top, bottom).astype(np.int64)
    counts = np.maximum(last - first, 0)
    edges = np.repeat(np.arange(len(counts)), counts)
    rows = first[edges] + np.arange(len(edges)) - np.repeat(np.cumsum(counts) - counts, counts)
    run = lower[edges] - upper[edges]
    x = upper[edges, 0] + (rows + 0.5 - upper[edges, 1]) * run[:, 0] / run[:, 1]
    return rows, np.ceil(x - 0.5).astype(np.int64)


def _reaches_beyond(shape: Shape, size: tuple[int, int], origin: tuple[float, float]) -> bool:
    low, high = find_bounds(shape)
    return bool((low < origin).any() or (high > np.add(origin, size[::-1])).any())


def find_bounds(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """The least and largest x, y of a shape in px; an empty shape has none (inf, -inf)."""
    if isinstance(shape, Disc):
        centre = np.array([shape.x, shape.y])
        return centre - shape.radius, centre + shape.radius
    if isinstance(shape, Painted):
        corner = np.array([shape.left, shape.top], float)
        return corner, corner + shape.mask.shape[::-1]
    corners = np.concatenate([np.empty((0, 2)), *shape.rings])
    if not len(corners):
        return np.full(2, np.inf), np.full(2, -np.inf)
    return corners.min(axis=0), corners.max(axis=0)


def clip(first: int, last: int, length: int) -> tuple[int, int]:
    """The part of a range of pixels that lies in an image."""
    return max(first, 0), min(last, length)
