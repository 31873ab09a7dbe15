"""Annotation that is drawn rather than painted: outlines and discs, not pixels yet."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


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
    """

    name: str
    kind: str
    shapes: Mapping[int, tuple[Shape, ...]]
    visible: bool = True
