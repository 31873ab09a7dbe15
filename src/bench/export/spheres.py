"""The balls of a volume's vesicles: as a table gives them, else measured from the labels."""

import logging
import math
from collections.abc import Sequence

import numpy as np

from bench.export.instances import Instance, list_instances
from bench.export.sphere_table import SphereRow

_logger = logging.getLogger(__name__)

# Dice of a ball and its label below which somebody has painted the label since.
_SAME = 0.8


def find_balls(
    labels: np.ndarray, rows: Sequence[SphereRow], *, section_px: float, volume: str = ""
) -> list[SphereRow]:
    """A sphere for every instance of a volume, in order of id.

    A row of the table stands for the label of its id if its ball covers that; the other labels
    are measured. Rows without a label are those that somebody removed.

    Args:
        labels: Ids (z, y, x).
        rows: The spheres that are known of this volume.
        section_px: Distance of two sections in px.
        volume: Name of the volume, for what is measured.
    """
    known = {row.id: row for row in rows if row.kept}
    found, painted = [], 0
    for instance in list_instances(labels):
        row = known.get(instance.id)
        if row is not None and _covers(row, instance, labels.shape, section_px):
            found.append(row)
            continue
        painted += row is not None
        found.append(measure_ball(instance, section_px=section_px, volume=volume))
    if painted:
        _logger.info("%d labels are no longer the spheres of the table: measured anew", painted)
    return found


def measure_ball(instance: Instance, *, section_px: float, volume: str = "") -> SphereRow:
    """The ball of an instance: its centroid, and the radius of a ball of its volume.

    Args:
        instance: The instance (z, y, x).
        section_px: Distance of two sections in px.
        volume: Name of its volume.
    """
    places = np.nonzero(instance.mask)
    z, y, x = (
        float(axis.mean() + start) for axis, start in zip(places, instance.corner, strict=True)
    )
    radius = math.cbrt(3 * len(places[0]) * section_px / (4 * math.pi))
    return SphereRow(volume, instance.id, z, y, x, radius)


def ball_in_box(
    row: SphereRow, shape: tuple[int, ...], section_px: float
) -> tuple[tuple[slice, ...], np.ndarray]:
    """The voxels of a sphere within a volume.

    Args:
        row: The sphere.
        shape: Sections, height and width of the volume.
        section_px: Distance of two sections in px.

    Returns:
        Its box, and where in that the centres of voxels lie in the ball (z, y, x); an empty box
        where the ball lies outside.
    """
    scale = (section_px, 1.0, 1.0)
    box = tuple(
        slice(
            min(side, max(0, math.ceil(centre - row.radius / step))),
            max(0, min(side, math.floor(centre + row.radius / step) + 1)),
        )
        for centre, step, side in zip(row.centre, scale, shape, strict=True)
    )
    away = [
        (step * (np.arange(side.start, side.stop) - centre)) ** 2
        for side, centre, step in zip(box, row.centre, scale, strict=True)
    ]
    z, y, x = np.ix_(*away)
    return box, z + y + x <= row.radius**2


def _covers(row: SphereRow, instance: Instance, shape: tuple[int, ...], section_px: float) -> bool:
    """Whether a label is a ball but for what lies outside of the image, or below others."""
    box, ball = ball_in_box(row, shape, section_px)
    own = np.zeros_like(ball)
    starts = [side.start for side in box]
    stops = [start + size for start, size in zip(instance.corner, instance.mask.shape, strict=True)]
    low = [max(a, b) for a, b in zip(starts, instance.corner, strict=True)]
    high = [min(side.stop, stop) for side, stop in zip(box, stops, strict=True)]
    if any(a >= b for a, b in zip(low, high, strict=True)):
        return False
    here = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, starts, strict=True))
    there = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, instance.corner, strict=True))
    own[here] = instance.mask[there]
    common = np.count_nonzero(own & ball)
    together = np.count_nonzero(instance.mask) + np.count_nonzero(ball)
    return bool(2 * common >= _SAME * together)
