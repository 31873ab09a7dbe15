"""Reads IMOD models: closed contours and scattered points as drawn objects.

The chunks are read here, as imodmodel refuses common meshes and never ends on a truncated file.
"""

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.data.drawing import Disc, DrawnObject, Outline, Shape
from bench.data.hdf5 import MOST_SECTIONS, decode_as
from bench.data.images import LARGEST_PIXEL_NM, SMALLEST_PIXEL_NM
from bench.data.limits import ANNOTATION_BYTES
from bench.data.mrc import MrcGeometry
from bench.errors import BenchError

MODEL_HEADER = struct.Struct(">128s3iiI4i3f3f5ffii3f")
OBJECT_HEADER = struct.Struct(">64s64xiIii3fi8Bii")
CONTOUR_HEADER = struct.Struct(">iIii")
MESH_HEADER = struct.Struct(">iiIhh")
MINX = struct.Struct(">18f")
POINT_BYTES = 12

HIDDEN, OPEN, SCATTERED = 1 << 1, 1 << 3, 1 << 9  # flags of an object; OPEN of a contour too
HAS_ORIGIN, FLIPPED = 1 << 14, 1 << 16  # flags of a model
UNIT_NM = {-12: 1e-3, -10: 0.1, -9: 1.0, -6: 1e3, -3: 1e6, -2: 1e7, 1: 1e9}

# No image is as wide, and no model has as much in it.
LARGEST_COORDINATE = 1e7
MOST_CONTOURS, MOST_SHAPES = 250_000, 500_000
LARGEST_SCALE = 1e3
SAME = 1e-3
NO_SIZES = np.empty(0)


@dataclass(eq=False, slots=True)
class ImodContour:
    """A contour as stored.

    Attributes:
        points: Its points (n, 3) as x, y, z.
        is_open: Whether its ends are not joined, whatever its object says.
        surface: Its surface number, 0 if none.
        sizes: Radius of each point in px, negative for the object's; empty if it has none.
    """

    points: np.ndarray
    is_open: bool
    surface: int
    sizes: np.ndarray


@dataclass(eq=False)
class ImodObject:
    """An object as stored.

    Attributes:
        name: Its name, which may be blank.
        flags: Its flags.
        radius: Radius in px of points without one of their own.
        contours: Its contours.
        meshes: How many meshes it has.
    """

    name: str
    flags: int
    radius: float
    contours: list[ImodContour] = field(default_factory=list)
    meshes: int = 0


@dataclass(eq=False)
class StoredModel:
    """The chunks of a model file that matter here.

    Attributes:
        size: Size of the image it was drawn on, as x, y, z in px; 0 if unknown.
        flags: Its flags.
        z_scale: Distance of sections over the edge of a pixel.
        pixel_size: Edge of a pixel in its unit.
        unit: Exponent of the unit of length; 0 is px.
        minx: Rows of otrans, cscale and ctrans (3, 3); None if the model has none.
        objects: Its objects.
    """

    size: tuple[int, int, int]
    flags: int
    z_scale: float
    pixel_size: float
    unit: int
    minx: np.ndarray | None = None
    objects: list[ImodObject] = field(default_factory=list)


@dataclass(frozen=True)
class ImodModel:
    """What is annotated in a model.

    Attributes:
        objects: Every instance: a closed contour, a surface of closed contours, or a sphere.
        pixel_size_nm: Edge of a pixel by the model's header; None if it does not say it.
        warnings: What was left out, or is read otherwise than it is stored.
    """

    objects: tuple[DrawnObject, ...]
    pixel_size_nm: float | None
    warnings: tuple[str, ...]


def read_model(path: Path, image: MrcGeometry | None = None) -> ImodModel:
    """Reads a binary IMOD model.

    A closed contour lies in the section nearest to its z and is an instance, unless the object has
    surface numbers: then all contours of a surface are one, and those inside another one are its
    holes (even-odd). A scattered point is a sphere with its own radius or that of its object; in
    the section z it is a disc of radius sqrt(r**2 - d**2) px, where d is the distance in z times
    the model's z scale. Open contours are no areas and are left out.

    Rows count from the first one stored in the image, and sections from 0.

    Args:
        path: The model.
        image: The MRC image it belongs to. A model that was drawn on another one, such as a
            binned or trimmed one, is scaled and moved as 3dmod does it.

    Raises:
        BenchError: If the file is damaged or too large, a coordinate is no position in an image,
            or the spheres have too many discs.
    """
    if path.is_file() and path.stat().st_size > ANNOTATION_BYTES:
        raise BenchError(
            f"model {path} must have no more than {ANNOTATION_BYTES >> 20} MB, received "
            f"{path.stat().st_size} bytes: split it"
        )
    model = decode_as("binary IMOD model", path, lambda file: parse_model(file.read_bytes()))
    scale, shift, warnings = place_model(path, model, image)
    left_out: dict[str, int] = {}
    drawn: list[DrawnObject] = []
    sections = range(MOST_SECTIONS if image is None else image.size[2])
    shapes = 0
    for number, item in enumerate(model.objects, start=1):
        for contour in item.contours:
            contour.points = place_points(path, contour.points, model, scale, shift)
        if not item.contours and item.meshes:
            count(left_out, "objects with a mesh only")
        if item.flags & SCATTERED:
            spheres = find_spheres(item, scale, model.z_scale)
            instances = draw_spheres(number, item, spheres, sections, left_out)
        else:
            instances = draw_areas(number, item, left_out)
        for instance in instances:
            shapes += sum(map(len, instance.shapes.values()))
            check_shapes(path, shapes)
            drawn.append(instance)
    warnings += [f"{path.name} has {n} {what}: left out" for what, n in left_out.items()]
    return ImodModel(tuple(drawn), pixel_size_nm(model), tuple(warnings))


def parse_model(content: bytes) -> StoredModel:
    """Reads the chunks of a model; ValueError or struct.error if it is damaged."""
    if content[:4] != b"IMOD":
        raise ValueError("no IMOD model" if content[:4] != b"imod" else "an ASCII model")
    if (contours := content.count(b"CONT")) > MOST_CONTOURS:
        raise ValueError(f"{contours} contours, more than {MOST_CONTOURS}")
    stated = MODEL_HEADER.unpack_from(content, 8)
    model = StoredModel(stated[1:4], stated[5], stated[15], stated[21], stated[22])
    place = 8 + MODEL_HEADER.size
    while (kind := content[place : place + 4]) != b"IEOF":
        if len(kind) < 4:
            raise ValueError("it ends without its end mark")
        place = parse_chunk(model, kind, content, place + 4)
    return model


def parse_chunk(model: StoredModel, kind: bytes, content: bytes, place: int) -> int:
    """Reads a chunk into a model and returns where the next one starts."""
    if kind == b"OBJT":
        stated = OBJECT_HEADER.unpack_from(content, place)
        radius = check_radii(np.array([stated[8]]))[0]
        model.objects.append(ImodObject(decode_name(stated[0]), stated[2], float(radius)))
        return place + OBJECT_HEADER.size
    if kind == b"CONT":
        points, flags, _, surface = map(int, CONTOUR_HEADER.unpack_from(content, place))
        place += CONTOUR_HEADER.size
        values = read_floats(content, place, 3 * points)
        contour = ImodContour(values.reshape(-1, 3), bool(flags & OPEN), surface, NO_SIZES)
        last_object(model).contours.append(contour)
        return place + POINT_BYTES * points
    if kind == b"MESH":
        vertices, indices, *_ = map(int, MESH_HEADER.unpack_from(content, place))
        last_object(model).meshes += 1
        length = MESH_HEADER.size + POINT_BYTES * vertices + 4 * indices
        if vertices < 0 or indices < 0 or length > len(content) - place:
            raise ValueError(f"a mesh of {vertices} vertices")
        return place + length
    length = int.from_bytes(content[place : place + 4], "big")
    place += 4
    if length > len(content) - place:
        raise ValueError(f"chunk {kind!r} of {length} bytes")
    if kind == b"SIZE":
        contour = last_object(model).contours[-1]
        contour.sizes = check_radii(read_floats(content, place, len(contour.points)))
    elif kind == b"MINX":
        rows = np.array(MINX.unpack_from(content, place)).reshape(6, 3)
        model.minx = rows[[1, 3, 4]]
    return place + length


def last_object(model: StoredModel) -> ImodObject:
    """Returns the object that a chunk belongs to."""
    if not model.objects:
        raise ValueError("a contour without an object")
    return model.objects[-1]


def read_floats(content: bytes, place: int, number: int) -> np.ndarray:
    """Returns numbers in single precision as doubles."""
    if not 0 <= 4 * number <= len(content) - place:
        raise ValueError(f"{number} numbers in {len(content) - place} bytes")
    return np.frombuffer(content, ">f4", number, place).astype(np.float64)


def check_radii(radii: np.ndarray) -> np.ndarray:
    """Returns radii in px; ValueError if one is none."""
    if not (radii <= LARGEST_COORDINATE).all():
        raise ValueError(f"a point of radius {radii.max():g} px")
    return radii


def decode_name(name: bytes) -> str:
    """Returns a name as a line of text."""
    name = name.split(b"\0")[0]
    try:
        text = name.decode()
    except UnicodeDecodeError:
        text = name.decode("latin-1")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def pixel_size_nm(model: StoredModel) -> float | None:
    """Returns the edge of a pixel in nm; None if the model's unit is px or the size absurd."""
    size = model.pixel_size * UNIT_NM.get(model.unit, 0.0)
    return float(f"{size:.6g}") if SMALLEST_PIXEL_NM <= size < LARGEST_PIXEL_NM else None


def place_model(
    path: Path, model: StoredModel, image: MrcGeometry | None
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Returns the scale and shift (x, y, z) from points of a model to its image in px.

    3dmod notes in MINX where what it had loaded lay (ctrans), where the whole image lies (otrans)
    and the sides of a voxel (cscale). A model of another image goes by what both say of space.

    Returns:
        Scale, shift in px, and a warning where the image is another one.
    """
    scale, shift = np.ones(3), np.zeros(3)
    if model.minx is None:
        return scale, shift, []
    if not np.isfinite(model.minx).all():
        raise BenchError(
            f"the image reference (MINX) of model {path} must be finite, received "
            f"{model.minx.tolist()}: save it again in 3dmod"
        )
    whole, spacing, loaded = model.minx
    if (spacing <= 0).any():
        return scale, shift, []
    if image is not None and is_of_another_image(model, image):
        sides = np.where(np.array(image.spacing) > 0, image.spacing, spacing)
        scale, shift = spacing / sides, (np.array(image.origin) - loaded) / sides
        moved = ", ".join(f"{value:g}" for value in shift)
        moved = f"scaled by {scale[0]:g} and moved by {moved} px (x, y, z)"
        if not ((scale > 1 / LARGEST_SCALE) & (scale < LARGEST_SCALE)).all():
            raise BenchError(
                f"model {path} must fit its image, received voxels that want it {moved}: correct "
                "the pixel size of the image"
            )
        return scale, shift, [f"{path.name} was drawn on another image: it is {moved}"]
    if model.flags & HAS_ORIGIN:
        shift = (whole - loaded) / spacing
    return scale, shift, []


def is_of_another_image(model: StoredModel, image: MrcGeometry) -> bool:
    """Whether a model with MINX was drawn on an image of another size and another place."""
    size = np.array(model.size)
    if model.flags & FLIPPED:
        size = size[[0, 2, 1]]
    if model.minx is None or (size <= 0).any() or (size == image.size).all():
        return False
    whole, spacing, _ = model.minx
    sides = np.where(np.array(image.spacing) > 0, image.spacing, spacing)
    near = np.abs(sides - spacing) <= SAME * spacing
    placed = np.abs(np.array(image.origin) - whole) <= SAME * spacing
    return not (near.all() and (placed.all() or not model.flags & HAS_ORIGIN))


def place_points(
    path: Path, points: np.ndarray, model: StoredModel, scale: np.ndarray, shift: np.ndarray
) -> np.ndarray:
    """Returns points (n, 3) in px of the image, y and z of a flipped model exchanged."""
    if model.flags & FLIPPED:
        points = points[:, [0, 2, 1]]
    points = points * scale + shift
    # NaN is not within either.
    if not (np.abs(points) <= LARGEST_COORDINATE).all():
        bad = points[~(np.abs(points) <= LARGEST_COORDINATE).all(axis=1)][0]
        raise BenchError(
            f"points of model {path} must lie within {LARGEST_COORDINATE:g} px, received "
            f"{bad.tolist()} (x, y, z): delete them in 3dmod"
        )
    return points


def draw_areas(number: int, item: ImodObject, left_out: dict[str, int]) -> Iterator[DrawnObject]:
    """Yields the instances of an object of closed contours; counts what is left out."""
    by_surface = any(contour.surface for contour in item.contours)
    surfaces: dict[str, list[ImodContour]] = {}
    for place, contour in enumerate(item.contours, start=1):
        if item.flags & OPEN or contour.is_open:
            count(left_out, "open contours (an area must be closed)")
        elif len(contour.points) < 3:
            count(left_out, "closed contours of less than 3 points")
        elif np.ptp(nearest_section(contour.points[:, 2])) > 0:
            count(left_out, "closed contours through several sections")
        else:
            name = f"surface {contour.surface}" if by_surface else f"contour {place}"
            surfaces.setdefault(name, []).append(contour)
    for name, contours in surfaces.items():
        yield build_object(number, item, name, outline_sections(contours))


def outline_sections(contours: Sequence[ImodContour]) -> dict[int, tuple[Shape, ...]]:
    """Returns the outline in every section of the contours of one instance."""
    rings: dict[int, list[np.ndarray]] = {}
    for contour in contours:
        section = int(nearest_section(contour.points[0, 2]))
        rings.setdefault(section, []).append(contour.points[:, :2])
    return {section: (Outline(tuple(found)),) for section, found in rings.items()}


@dataclass(frozen=True)
class Sphere:
    """A scattered point.

    Attributes:
        name: Its place in its object.
        centre: x, y in px and z in sections.
        radius: Its radius in px.
        z_scale: Distance of sections in px.
    """

    name: str
    centre: tuple[float, float, float]
    radius: float
    z_scale: float


def find_spheres(item: ImodObject, scale: np.ndarray, z_scale: float) -> Iterator[Sphere]:
    """Yields the scattered points of an object.

    Args:
        item: The object, its points in px of the image.
        scale: Scale (x, y, z) to that image from the one it was drawn on.
        z_scale: The model's z scale.
    """
    # Sections of the image are closer by the z of scale, and its pixels smaller by the x.
    z_scale = (z_scale if 0 < z_scale < math.inf else 1.0) * float(scale[0] / scale[2])
    for place, contour in enumerate(item.contours, start=1):
        radii = np.full(len(contour.points), item.radius)
        radii[: len(contour.sizes)] = np.where(contour.sizes >= 0, contour.sizes, item.radius)
        for point, (centre, radius) in enumerate(zip(contour.points, radii, strict=True), start=1):
            x, y, z = centre.tolist()
            name = f"contour {place} point {point}"
            yield Sphere(name, (x, y, z), float(radius * scale[0]), z_scale)


def draw_spheres(
    number: int,
    item: ImodObject,
    spheres: Iterator[Sphere],
    sections: range,
    left_out: dict[str, int],
) -> Iterator[DrawnObject]:
    """Yields the instances of an object of scattered points; counts what is left out."""
    for sphere in spheres:
        shapes = cut_sphere(sphere, sections)
        if shapes:
            yield build_object(number, item, sphere.name, shapes)
        else:
            count(left_out, "scattered points without a radius that reaches a section")


def cut_sphere(sphere: Sphere, sections: range) -> dict[int, tuple[Shape, ...]]:
    """Returns the disc in every section that a sphere cuts."""
    x, y, z = sphere.centre
    reach = min(sphere.radius / sphere.z_scale, LARGEST_COORDINATE)
    first = max(math.ceil(z - reach), sections.start)
    last = min(math.floor(z + reach), sections.stop - 1)
    squares = {
        section: sphere.radius**2 - ((section - z) * sphere.z_scale) ** 2
        for section in range(first, last + 1)
    }
    return {n: (Disc(x, y, math.sqrt(square)),) for n, square in squares.items() if square > 0}


def build_object(
    number: int, item: ImodObject, name: str, shapes: dict[int, tuple[Shape, ...]]
) -> DrawnObject:
    """Builds an instance of an object; number is the object's, from 1."""
    return DrawnObject(
        name=f"object {number} {name}",
        kind=item.name or f"object {number}",
        shapes=shapes,
        visible=not item.flags & HIDDEN,
    )


def nearest_section(z: np.ndarray) -> np.ndarray:
    """Returns the sections that are nearest; a section's centre has a whole z."""
    return np.floor(z + 0.5)


def check_shapes(path: Path, shapes: int) -> None:
    """Raises BenchError if a model has too many shapes to hold."""
    if shapes > MOST_SHAPES:
        raise BenchError(
            f"model {path} must draw no more than {MOST_SHAPES} discs and outlines, received more: "
            "split it, or correct the radii of its points"
        )


def count(counts: dict[str, int], what: str) -> None:
    """Adds one to a count."""
    counts[what] = counts.get(what, 0) + 1
