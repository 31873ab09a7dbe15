"""IMOD models of instance labels: contours along pixel corners, or spheres."""

import logging
from pathlib import Path

import numpy as np
from imodmodel import ImodModel
from imodmodel.models import MINX, Contour, ContourHeader, ModelHeader, Object, ObjectHeader

from bench.core.files import write_whole
from bench.errors import BenchError
from bench.export.instances import Instance, list_instances
from bench.export.label_images import viewable
from bench.export.mrc import origin_angstrom, voxel_angstrom, write_mrc
from bench.export.spheres import find_balls
from bench.export.stack import VESICLES, LabelStack, colour_of

_UNIT_PX, _UNIT_NM = 0, -9
# What 3dmod sets in the models it writes: among others, that z counts from the centre of the
# first section and that MINX holds the image's origin.
_MODEL_FLAGS = 0xF600
# Scattered points, which 3dmod marks as open too; spheres drawn in their own section only, but for
# those of volumes.
_POINT_FLAGS, _CENTRAL_FLAG = 1 << 9 | 1 << 3, 1 << 7
_LARGEST_SURFACE = np.iinfo(np.int32).max

_logger = logging.getLogger(__name__)


def write_imod(stack: LabelStack, folder: Path) -> None:
    """Writes ``labels.mod`` with closed contours, and ``raw.mrc`` of the image below it."""
    write_whole(folder / "labels.mod", make_imod_model(stack).to_file)
    _write_raw(stack, folder)


def write_imod_spheres(stack: LabelStack, folder: Path) -> None:
    """Writes the same with a sphere per instance; its outline is lost, which is warned of."""
    kept = "volume" if stack.volume else "area"
    _logger.warning(
        "spheres keep centre and %s of an instance, not its outline: use imod for it", kept
    )
    write_whole(folder / "labels.mod", make_imod_model(stack, spheres=True).to_file)
    _write_raw(stack, folder)


def make_imod_model(stack: LabelStack, *, spheres: bool = False) -> ImodModel:
    """Makes the model of a stack: one object per structure.

    A contour is a ring of one instance in one section, holes too; the surface number tells which
    instance. Coordinates are px from the corner of the image, with z counting sections from 0.

    Args:
        stack: The labels.
        spheres: A point per instance instead, at the centre of the section where it is largest,
            with the radius of the disc of the same area. In a volume it is the ball of
            `find_balls`; structures that are no balls, such as an active zone, keep contours.

    Raises:
        BenchError: If an id does not fit a surface number.
    """
    sections, height, width = stack.shape
    known = stack.pixel_size_nm is not None
    header = ModelHeader(
        name="synapse-bench",
        xmax=width,
        ymax=height,
        zmax=sections,
        flags=_MODEL_FLAGS,
        zscale=stack.section_px,
        pixelsize=stack.pixel_size_nm or 1.0,
        units=_UNIT_NM if known else _UNIT_PX,
    )
    objects = [
        _make_object(stack, structure, labels, spheres=spheres and _is_round(stack, structure))
        for structure, labels in stack.labels.items()
    ]
    return ImodModel(header=header, objects=objects, minx=_make_reference(stack) if known else None)


def _is_round(stack: LabelStack, structure: str) -> bool:
    """Whether instances of a structure are balls; sections are too few to tell by."""
    return not stack.volume or structure in (VESICLES, *stack.spheres)


def _make_object(stack: LabelStack, structure: str, labels: np.ndarray, *, spheres: bool) -> Object:
    if labels.max(initial=0) > _LARGEST_SURFACE:
        raise BenchError(
            f"ids of {structure} must be at most {_LARGEST_SURFACE} for IMOD, received "
            f"{labels.max()}: number the instances from 1"
        )
    if spheres and stack.volume:
        contours = [_make_balls(stack, structure)]
    elif spheres:
        contours = [_make_points(list(list_instances(labels)))]
    else:
        contours = _make_contours(list(list_instances(labels)))
    contours = [contour for contour in contours if len(contour.points)]
    red, green, blue = (channel / 255 for channel in colour_of(structure, stack.labels))
    points = _POINT_FLAGS | (0 if stack.volume else _CENTRAL_FLAG)
    header = ObjectHeader(
        name=structure[:63],
        flags=points if spheres else 0,
        red=red,
        green=green,
        blue=blue,
        surfsize=max((contour.header.surf for contour in contours), default=0),
    )
    return Object(header=header, contours=contours)


def _make_contours(instances: list[Instance]) -> list[Contour]:
    return [
        Contour(
            header=ContourHeader(surf=instance.id),
            points=np.column_stack([ring, np.full(len(ring), section)]).astype(np.float32),
        )
        for instance in instances
        for section, rings in instance.rings()
        for ring in rings
    ]


def _make_points(instances: list[Instance]) -> Contour:
    points, radii = [], []
    for instance in instances:
        areas = np.count_nonzero(instance.mask, axis=(1, 2))
        section = int(areas.argmax())
        rows, columns = np.nonzero(instance.mask[section])
        z, y, x = instance.corner
        # A pixel's centre is half a pixel from its corner.
        points.append((x + columns.mean() + 0.5, y + rows.mean() + 0.5, z + section))
        radii.append(np.sqrt(areas[section] / np.pi))
    return Contour(
        points=np.array(points, np.float32).reshape(-1, 3), point_sizes=np.array(radii, np.float32)
    )


def _make_balls(stack: LabelStack, structure: str) -> Contour:
    """A point per vesicle of a volume with its radius."""
    balls = find_balls(
        stack.labels[structure],
        stack.spheres.get(structure, ()),
        section_px=stack.section_px,
        volume=stack.volume,
    )
    # The centre of a voxel is half a pixel from its corner; z counts from the middle of sections.
    points = np.array([(ball.x + 0.5, ball.y + 0.5, ball.z) for ball in balls], np.float32)
    return Contour(
        points=points.reshape(-1, 3),
        point_sizes=np.array([ball.radius for ball in balls], np.float32),
    )


def _make_reference(stack: LabelStack) -> MINX:
    """Makes the record of the image's scale; without it 3dmod takes coordinates as they are."""
    zero = (0.0, 0.0, 0.0)
    scale, origin = voxel_angstrom(stack), origin_angstrom(stack)
    return MINX(oscale=scale, otrans=origin, orot=zero, cscale=scale, ctrans=origin, crot=zero)


def _write_raw(stack: LabelStack, folder: Path) -> None:
    """Writes the image, if there is one; its rows are in the order of the model's y."""
    stack.warn_of_distance("3dmod")
    if stack.raw is not None:
        write_mrc(stack, viewable(stack.raw), folder / "raw.mrc")
