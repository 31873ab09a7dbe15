"""Reads IMOD models: closed contours and scattered points as drawn objects."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.errors import BenchError
from bench.ingest.annotations.drawing import Disc, DrawnObject, Outline, Shape
from bench.ingest.annotations.imod_model import (
    LARGEST_COORDINATE,
    OPEN,
    ImodContour,
    ImodObject,
    StoredModel,
    find_drawn_on,
    parse_model,
    place_contours,
    place_model,
)
from bench.ingest.images.axes import MOST_SECTIONS
from bench.ingest.images.headers import decode, may_be_pixel
from bench.ingest.images.limits import ANNOTATION_BYTES
from bench.ingest.images.mrc import MrcGeometry

_CENTRAL = 1 << 7  # flag of an object whose spheres show in their own section only
_HIDDEN, _SCATTERED = 1 << 1, 1 << 9  # flags of an object
_UNIT_NM = {-12: 1e-3, -10: 0.1, -9: 1.0, -6: 1e3, -3: 1e6, -2: 1e7, 1: 1e9}
MOST_SHAPES = 500_000


@dataclass(frozen=True)
class _ImodModel:
    """What is annotated in a model."""

    objects: tuple[DrawnObject, ...]
    pixel_size_nm: float | None  # by the model's header; None if it does not say it
    warnings: tuple[str, ...]  # what was left out, or is read otherwise than it is stored
    size: tuple[int, int] | None  # height and width in px of the image that it was drawn on


def read_model(path: Path, image: MrcGeometry | None = None) -> _ImodModel:
    """Reads a binary IMOD model.

    A closed contour lies in the section nearest to its z and is an instance, unless the object has
    surface numbers: then all contours of a surface are one, and those inside another one are its
    holes (even-odd). A scattered point is a sphere with its own radius or that of its object; in
    the section z it is a disc of radius sqrt(r**2 - d**2) px, where d is the distance in z times
    the model's z scale. Where the object shows spheres in their central section only, it is a disc
    in the section nearest to it. Open contours are no areas and are left out.

    Rows count from the first one stored in the image, and sections from 0.

    Args:
        path: The model.
        image: The MRC image it belongs to. A model that was drawn on another one, such as a
            binned or trimmed one, is scaled and moved as 3dmod does it.

    Raises:
        BenchError: If the file is damaged or too large, a coordinate is no position in an image,
            or the spheres have too many discs.
    """
    model = decode(path, _load_model, "binary IMOD model")
    scale, shift, warnings = place_model(path, model, image)
    sections = range(MOST_SECTIONS if image is None else image.size[2])
    left_out: dict[str, int] = {}
    drawn: list[DrawnObject] = []
    shapes = 0
    for number, item in enumerate(model.objects, start=1):
        place_contours(path, item.contours, model, scale, shift)
        if not item.contours and item.meshes:
            _count(left_out, "objects with a mesh only")
        if item.flags & _SCATTERED:
            spheres = _find_spheres(item, scale, model.z_scale)
            instances = _draw_spheres(number, item, spheres, sections, left_out)
        else:
            instances = _draw_areas(number, item, left_out)
        for instance in instances:
            shapes += sum(map(len, instance.shapes.values()))
            if shapes > MOST_SHAPES:
                raise BenchError(
                    f"model {path} must draw no more than {MOST_SHAPES} discs and outlines, "
                    "received more: split it, or correct the radii of its points"
                )
            drawn.append(instance)
    warnings += [f"{path.name} has {n} {what}: left out" for what, n in left_out.items()]
    return _ImodModel(tuple(drawn), _pixel_size_nm(model), tuple(warnings), find_drawn_on(model))


def _load_model(path: Path) -> StoredModel:
    size = path.stat().st_size
    if size > ANNOTATION_BYTES:
        raise BenchError(
            f"model {path} must have no more than {ANNOTATION_BYTES >> 20} MB, received {size} "
            "bytes: split it"
        )
    return parse_model(path.read_bytes())


def _pixel_size_nm(model: StoredModel) -> float | None:
    """Returns the edge of a pixel in nm; None if the model's unit is px or the size absurd."""
    size = model.pixel_size * _UNIT_NM.get(model.unit, 0.0)
    return float(f"{size:.6g}") if may_be_pixel((size,)) else None


def _draw_areas(number: int, item: ImodObject, left_out: dict[str, int]) -> Iterator[DrawnObject]:
    by_surface = any(contour.surface for contour in item.contours)
    surfaces: dict[str, list[ImodContour]] = {}
    for place, contour in enumerate(item.contours, start=1):
        if item.flags & OPEN or contour.is_open:
            _count(left_out, "open contours (an area must be closed)")
        elif len(contour.points) < 3:
            _count(left_out, "closed contours of less than 3 points")
        elif len(set(_nearest_section(contour.points[:, 2]).tolist())) > 1:
            _count(left_out, "closed contours through several sections")
        else:
            name = f"surface {contour.surface}" if by_surface else f"contour {place}"
            surfaces.setdefault(name, []).append(contour)
    for name, contours in surfaces.items():
        yield _build_object(number, item, name, _outline_sections(contours))


def _outline_sections(contours: Sequence[ImodContour]) -> dict[int, tuple[Shape, ...]]:
    rings: dict[int, list[np.ndarray]] = {}
    for contour in contours:
        section = int(_nearest_section(contour.points[0, 2]))
        rings.setdefault(section, []).append(contour.points[:, :2])
    return {section: (Outline(tuple(found)),) for section, found in rings.items()}


@dataclass(frozen=True, eq=False)
class _Spheres:
    """The scattered points (n,) of an object."""

    places: np.ndarray  # number (n, 2) of the contour of each, and of the point in it, from 1
    centres: np.ndarray  # x, y in px and z in sections (n, 3)
    radii: np.ndarray  # in px
    z_scale: float  # distance of sections in px
    central: bool  # whether each is a disc in the section nearest to its centre


def _draw_spheres(
    number: int, item: ImodObject, spheres: _Spheres, sections: range, left_out: dict[str, int]
) -> Iterator[DrawnObject]:
    drawn = 0
    for name, shapes in _cut_spheres(spheres, sections):
        drawn += 1
        yield _build_object(number, item, name, shapes)
    missed = len(spheres.radii) - drawn
    _count(left_out, "scattered points without a radius that reaches a section", missed)


def _find_spheres(item: ImodObject, scale: np.ndarray, z_scale: float) -> _Spheres:
    """The points of an object placed in an image; scale (x, y, z) is that from its own image."""
    lengths = np.array([len(contour.points) for contour in item.contours], int)
    starts = np.cumsum(lengths) - lengths
    radii = np.full(lengths.sum(), item.radius)
    for contour, start in zip(item.contours, starts.tolist(), strict=True):
        if len(sizes := contour.sizes):
            own = np.where(sizes >= 0, sizes, item.radius)
            radii[start : start + len(own)] = own
    contours = np.repeat(np.arange(len(lengths)), lengths)
    points = np.arange(len(radii)) - starts[contours]
    return _Spheres(
        np.column_stack([contours, points]) + 1,
        np.concatenate([np.empty((0, 3)), *(contour.points for contour in item.contours)]),
        radii * float(scale[0]),
        # Sections of the image are closer by the z of scale, and its pixels smaller by the x.
        (z_scale if 0 < z_scale < math.inf else 1.0) * float(scale[0] / scale[2]),
        bool(item.flags & _CENTRAL),
    )


def _cut_spheres(
    spheres: _Spheres, sections: range
) -> Iterator[tuple[str, dict[int, tuple[Shape, ...]]]]:
    """Yields the name of every sphere that reaches a section, and its disc in each of them."""
    first, last = _find_sections(spheres, sections)
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


def _find_sections(spheres: _Spheres, sections: range) -> tuple[np.ndarray, np.ndarray]:
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


def _build_object(
    number: int, item: ImodObject, name: str, shapes: dict[int, tuple[Shape, ...]]
) -> DrawnObject:
    return DrawnObject(
        name=f"object {number} {name}",
        kind=item.name or f"object {number}",
        shapes=shapes,
        visible=not item.flags & _HIDDEN,
    )


def _nearest_section(z: np.ndarray) -> np.ndarray:
    """Returns the sections that are nearest; a section's centre has a whole z."""
    return np.floor(z + 0.5)


def _count(counts: dict[str, int], what: str, number: int = 1) -> None:
    """Adds to a count, which is there only if it is not 0."""
    if number:
        counts[what] = counts.get(what, 0) + number
