"""Annotation that is drawn rather than painted: outlines, discs and rings, not pixels yet."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bench.errors import BenchError

LARGEST_COORDINATE_PX = 1e7
# Thinner, a rectangle or an ellipse is no area.
SMALLEST_SIDE_PX = 1e-3


@dataclass(frozen=True, eq=False)
class Outline:
    """A region inside rings, by the even-odd rule over all of them.

    Attributes:
        rings: Corners (n, 2) of each ring as x, y in px, closed without repeating the first.
            Coordinates start at the corner of the image: the first pixel's centre is (0.5, 0.5).
    """

    rings: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Disc:
    """A filled circle.

    Attributes:
        x: Its centre in px, as for `Outline`.
        y: The same.
        radius: Its radius in px.
    """

    x: float
    y: float
    radius: float


@dataclass(frozen=True, eq=False)
class Painted:
    """A region that its file gives as pixels.

    Attributes:
        top: Row of the mask's first row in the image.
        left: Column of its first column.
        mask: Boolean mask (y, x).
    """

    top: int
    left: int
    mask: np.ndarray


Shape = Outline | Disc | Painted


@dataclass(frozen=True, eq=False)
class DrawnObject:
    """An annotated object, such as one vesicle, through all the sections it is drawn in.

    Attributes:
        name: How its file tells it from others, for messages.
        kind: Its class as the file names it.
        shapes: What is drawn of it in a section, by number of the section from 0; the object is
            their union.
        visible: Whether the file shows it; hidden objects are annotation all the same.
        title: What its file calls it beside its class; empty where it does not.
    """

    name: str
    kind: str
    shapes: Mapping[int, tuple[Shape, ...]]
    visible: bool = True
    title: str = ""


def check_coordinates(values: np.ndarray, where: str) -> None:
    """Raises BenchError unless coordinates are finite and could be those of an image."""
    if values.size and not (np.abs(values) <= LARGEST_COORDINATE_PX).all():
        worst = values[~(np.abs(values) <= LARGEST_COORDINATE_PX)][0]
        raise BenchError(
            f"coordinates of {where} must be within {LARGEST_COORDINATE_PX:g} px, received "
            f"{worst:g}: draw it again, or remove it"
        )


def oval_ring(left: float, top: float, width: float, height: float) -> np.ndarray:
    """Returns the border of the pixels whose centres are in or on an ellipse.

    This is how ImageJ fills ovals, and exact, where a polygon of chords loses pixels.
    """
    a, b = width / 2, height / 2
    x, y = left + a - 0.5, top + b - 0.5
    rows = np.arange(np.ceil(y - b), np.floor(y + b) + 1)

    def inside(columns: np.ndarray) -> np.ndarray:
        return (columns - x) ** 2 / a**2 + (rows - y) ** 2 / b**2 <= 1

    reach = a * np.sqrt(np.maximum(1 - (rows - y) ** 2 / b**2, 0))
    # The root may be off by one unit in the last place, and so by a pixel: try the neighbours.
    first, last = np.ceil(x - reach), np.floor(x + reach)
    first -= inside(first - 1)
    first += ~inside(first)
    last += inside(last + 1)
    last -= ~inside(last)
    ends = np.maximum(last + 1, first)
    sides = np.repeat(rows, 2) + np.tile((0, 1), len(rows))
    right = np.stack([np.repeat(ends, 2), sides], axis=1)
    return np.concatenate([right, np.stack([np.repeat(first, 2), sides], axis=1)[::-1]])
