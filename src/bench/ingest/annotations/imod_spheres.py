"""Cuts the scattered points of an IMOD model, which are spheres, into discs."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bench.ingest.annotations.drawing import Disc, Shape
from bench.ingest.annotations.imod_model import LARGEST_COORDINATE, ImodObject

CENTRAL = 1 << 7  # flag of an object whose spheres show in their own section only


@dataclass(frozen=True, eq=False)
class Spheres:
    """The scattered points of an object.

    Attributes:
        places: Number (n, 2) of the contour of each, and of the point in it, from 1.
        centres: x, y in px and z in sections (n, 3).
        radii: Radii (n,) in px.
        z_scale: Distance of sections in px.
        central: Whether each is a disc in the section nearest to its centre.
    """

    places: np.ndarray
    centres: np.ndarray
    radii: np.ndarray
    z_scale: float
    central: bool


def find_spheres(item: ImodObject, scale: np.ndarray, z_scale: float) -> Spheres:
    """Returns the scattered points of an object.

    Args:
        item: The object, its points in px of the image.
        scale: Scale (x, y, z) to that image from the one it was drawn on.
        z_scale: The model's z scale.
    """
    lengths = np.array([len(contour.points) for contour in item.contours], int)
    starts = np.cumsum(lengths) - lengths
    radii = np.full(lengths.sum(), item.radius)
    for contour, start in zip(item.contours, starts.tolist(), strict=True):
        if len(sizes := contour.sizes):
            own = np.where(sizes >= 0, sizes, item.radius)
            radii[start : start + len(own)] = own
    contours = np.repeat(np.arange(len(lengths)), lengths)
    points = np.arange(len(radii)) - starts[contours]
    return Spheres(
        np.column_stack([contours, points]) + 1,
        np.concatenate([np.empty((0, 3)), *(contour.points for contour in item.contours)]),
        radii * float(scale[0]),
        # Sections of the image are closer by the z of scale, and its pixels smaller by the x.
        (z_scale if 0 < z_scale < math.inf else 1.0) * float(scale[0] / scale[2]),
        bool(item.flags & CENTRAL),
    )


def cut_spheres(
    spheres: Spheres, sections: range
) -> Iterator[tuple[str, dict[int, tuple[Shape, ...]]]]:
    """Yields the name of every sphere that reaches a section, and its disc in each of them."""
    first, last = find_sections(spheres, sections)
    # Of millions of points without a radius none is looked at by itself.
    cut = np.flatnonzero(first <= last)
    rows = zip(
        *(spheres.places[cut].tolist(), spheres.centres[cut].tolist()),
        *(values[cut].tolist() for values in (spheres.radii, first, last)),
        strict=True,
    )
    for (contour, point), (x, y, z), radius, start, stop in rows:
        shapes: dict[int, tuple[Shape, ...]] = {}
        for section in range(start, stop + 1):
            away = 0.0 if spheres.central else (section - z) * spheres.z_scale
            shapes[section] = (Disc(x, y, math.sqrt(radius**2 - away**2)),)
        yield f"contour {contour} point {point}", shapes


def find_sections(spheres: Spheres, sections: range) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first and last section (n,) of spheres; a last before the first is none."""
    z, radii = spheres.centres[:, 2], spheres.radii
    if spheres.central:
        nearest = np.where(radii > 0, np.floor(z + 0.5), -1)
        inside = (nearest >= sections.start) & (nearest < sections.stop)
        first = np.where(inside, nearest, 0)
        return first.astype(int), np.where(inside, first, -1).astype(int)
    reach = np.minimum(radii / spheres.z_scale, LARGEST_COORDINATE)
    first = np.maximum(np.ceil(z - reach), sections.start)
    last = np.minimum(np.floor(z + reach), sections.stop - 1)
    # What a section only touches is no disc.
    for ends, step in ((first, 1), (last, -1)):
        ends += step * (radii**2 <= ((ends - z) * spheres.z_scale) ** 2)
    return first.astype(int), last.astype(int)
