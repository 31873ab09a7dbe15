"""The chunks of a binary IMOD model, and where its points lie in the image.

They are read here, as imodmodel refuses common meshes and never ends on a truncated file.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.errors import BenchError
from bench.ingest.classes import tidy_name
from bench.ingest.images.mrc import MrcGeometry

MODEL_HEADER = struct.Struct(">128s3iiI4i3f3f5ffii3f")
OBJECT_HEADER = struct.Struct(">64s64xiIii3fi8Bii")
_CONTOUR_HEADER = struct.Struct(">iIii")
_MESH_HEADER = struct.Struct(">iiIhh")
_MINX = struct.Struct(">18f")
_POINT_BYTES = 12
OPEN = 1 << 3  # flag of an object or a contour
# No image is as wide, and no model has as much in it.
LARGEST_COORDINATE = 1e7
_MOST_CONTOURS, MOST_POINTS = 250_000, 10_000_000

_NO_SIZES = np.empty(0)
_HAS_ORIGIN, _FLIPPED = 1 << 14, 1 << 16  # flags of a model
_LARGEST_SCALE = 1e3
_SAME = 1e-3


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
        points: Points of all its contours.
    """

    size: tuple[int, int, int]
    flags: int
    z_scale: float
    pixel_size: float
    unit: int
    minx: np.ndarray | None = None
    objects: list[ImodObject] = field(default_factory=list)
    points: int = 0


def parse_model(content: bytes) -> StoredModel:
    """Reads the chunks of a model; ValueError or struct.error if it is damaged."""
    if content[:4] != b"IMOD":
        raise ValueError("no IMOD model" if content[:4] != b"imod" else "an ASCII model")
    if (contours := content.count(b"CONT")) > _MOST_CONTOURS:
        raise ValueError(f"{contours} contours, more than {_MOST_CONTOURS}")
    stated = MODEL_HEADER.unpack_from(content, 8)
    model = StoredModel(stated[1:4], stated[5], stated[15], stated[21], stated[22])
    place = 8 + MODEL_HEADER.size
    while (kind := content[place : place + 4]) != b"IEOF":
        if len(kind) < 4:
            raise ValueError("it ends without its end mark")
        place = _parse_chunk(model, kind, content, place + 4)
    return model


def _parse_chunk(model: StoredModel, kind: bytes, content: bytes, place: int) -> int:
    """Reads a chunk into a model and returns where the next one starts."""
    if kind == b"OBJT":
        stated = OBJECT_HEADER.unpack_from(content, place)
        radius = _check_radii(np.array([stated[8]]))[0]
        model.objects.append(ImodObject(_decode_name(stated[0]), stated[2], float(radius)))
        return place + OBJECT_HEADER.size
    if kind == b"CONT":
        points, flags, _, surface = map(int, _CONTOUR_HEADER.unpack_from(content, place))
        place += _CONTOUR_HEADER.size
        values = _read_floats(content, place, 3 * points)
        model.points += points
        if model.points > MOST_POINTS:
            raise ValueError(f"{model.points} points or more, more than {MOST_POINTS}")
        contour = ImodContour(values.reshape(-1, 3), bool(flags & OPEN), surface, _NO_SIZES)
        _last_object(model).contours.append(contour)
        return place + _POINT_BYTES * points
    if kind == b"MESH":
        vertices, indices, *_ = map(int, _MESH_HEADER.unpack_from(content, place))
        _last_object(model).meshes += 1
        length = _MESH_HEADER.size + _POINT_BYTES * vertices + 4 * indices
        if vertices < 0 or indices < 0 or length > len(content) - place:
            raise ValueError(f"a mesh of {vertices} vertices")
        return place + length
    length = int.from_bytes(content[place : place + 4], "big")
    place += 4
    if length > len(content) - place:
        raise ValueError(f"chunk {kind!r} of {length} bytes")
    if kind == b"SIZE":
        contour = _last_object(model).contours[-1]
        contour.sizes = _check_radii(_read_floats(content, place, len(contour.points)))
    elif kind == b"MINX":
        rows = np.array(_MINX.unpack_from(content, place)).reshape(6, 3)
        model.minx = rows[[1, 3, 4]]
    return place + length


def _last_object(model: StoredModel) -> ImodObject:
    if not model.objects:
        raise ValueError("a contour without an object")
    return model.objects[-1]


def _read_floats(content: bytes, place: int, number: int) -> np.ndarray:
    if not 0 <= 4 * number <= len(content) - place:
        raise ValueError(f"{number} numbers in {len(content) - place} bytes")
    return np.frombuffer(content, ">f4", number, place).astype(np.float64)


def _check_radii(radii: np.ndarray) -> np.ndarray:
    if not (radii <= LARGEST_COORDINATE).all():
        raise ValueError(f"a point of radius {radii.max():g} px")
    return radii


def _decode_name(name: bytes) -> str:
    name = name.split(b"\0")[0]
    try:
        return tidy_name(name.decode())
    except UnicodeDecodeError:
        return tidy_name(name.decode("latin-1"))


def place_model(
    path: Path, model: StoredModel, image: MrcGeometry | None
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Returns the scale and shift (x, y, z) from points of a model to its image in px.

    3dmod notes in _MINX where what it had loaded lay (ctrans), where the whole image lies (otrans)
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
    if image is not None and _is_of_another_image(model, image):
        sides = np.where(np.array(image.spacing) > 0, image.spacing, spacing)
        scale, shift = spacing / sides, (np.array(image.origin) - loaded) / sides
        moved = ", ".join(f"{value:g}" for value in shift)
        moved = f"scaled by {scale[0]:g} and moved by {moved} px (x, y, z)"
        if not ((scale > 1 / _LARGEST_SCALE) & (scale < _LARGEST_SCALE)).all():
            raise BenchError(
                f"model {path} must fit its image, received voxels that want it {moved}: correct "
                "the pixel size of the image"
            )
        return scale, shift, [f"{path.name} was drawn on another image: it is {moved}"]
    if model.flags & _HAS_ORIGIN:
        shift = (whole - loaded) / spacing
    return scale, shift, []


def find_drawn_on(model: StoredModel) -> tuple[int, int] | None:
    """Height and width in px of the image that a model was drawn on; None if it does not say."""
    width, height = model.size[0], model.size[2 if model.flags & _FLIPPED else 1]
    return (height, width) if min(width, height) > 0 else None


def _is_of_another_image(model: StoredModel, image: MrcGeometry) -> bool:
    """Whether a model with MINX was drawn on an image of another size and another place."""
    size = np.array(model.size)
    if model.flags & _FLIPPED:
        size = size[[0, 2, 1]]
    if model.minx is None or (size <= 0).any() or (size == image.size).all():
        return False
    whole, spacing, _ = model.minx
    sides = np.where(np.array(image.spacing) > 0, image.spacing, spacing)
    near = np.abs(sides - spacing) <= _SAME * spacing
    placed = np.abs(np.array(image.origin) - whole) <= _SAME * spacing
    return not (near.all() and (placed.all() or not model.flags & _HAS_ORIGIN))


def place_contours(
    path: Path,
    contours: Sequence[ImodContour],
    model: StoredModel,
    scale: np.ndarray,
    shift: np.ndarray,
) -> None:
    """Moves the points of contours to their place in px of the image, those of all at once."""
    if not contours:
        return
    points = np.concatenate([contour.points for contour in contours])
    if model.flags & _FLIPPED:
        points = points[:, [0, 2, 1]]
    points = points * scale + shift
    # NaN is not within either.
    if not (np.abs(points) <= LARGEST_COORDINATE).all():
        bad = points[~(np.abs(points) <= LARGEST_COORDINATE).all(axis=1)][0]
        raise BenchError(
            f"points of model {path} must lie within {LARGEST_COORDINATE:g} px, received "
            f"{bad.tolist()} (x, y, z): delete them in 3dmod"
        )
    start = 0
    for contour in contours:
        end = start + len(contour.points)
        contour.points, start = points[start:end], end
