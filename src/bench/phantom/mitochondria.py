"""Mitochondria: bent ellipsoids inside neurites, some of them pressed against each other."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects, label

from bench.phantom.neurites import Cells, Neurites, smooth_minimum

# Chance of 0, 1, 2 or 3 mitochondria per disk that is wide enough for one.
_COUNTS = (0.35, 0.4, 0.2, 0.05)
_WIDE_NM = 160.0
_LONG_SHARE = 0.35
_TOUCHING_SHARE = 0.5
# Clear cytoplasm between the middle of the cleft and an outer membrane, nm.
_CLEARANCE_NM = 32.0
_MIN_AREA_NM2 = 6000.0
_OUTSIDE_NM = -1e4


@dataclass(frozen=True)
class _Ellipsoids:
    """Mitochondria (n,) that move with their disk, in bent coordinates."""

    disk: np.ndarray
    neurite: np.ndarray
    offset_nm: np.ndarray  # centre relative to that of the disk, (n, 2) as y, x
    z_nm: np.ndarray  # depth of the centre
    half_nm: np.ndarray  # half axes along, across and in depth (n, 3)
    angle: np.ndarray  # direction of the long axis
    bend: np.ndarray  # curvature of the long axis, 1/nm


@dataclass(frozen=True)
class Mitochondria:
    """The mitochondria in one section; every map is (y, x).

    Attributes:
        number: 1 + row of the ellipsoid, 0 outside.
        depth_nm: Distance to the surface in nm, positive inside.
        along: Coordinate along the long axis in nm.
    """

    number: np.ndarray
    depth_nm: np.ndarray
    along: np.ndarray


def place_mitochondria(
    rng: np.random.Generator, neurites: Neurites, depth_nm: float, middle_nm: np.ndarray
) -> _Ellipsoids:
    """Draws the mitochondria of every neurite through a depth in nm.

    Args:
        rng: Source of randomness.
        neurites: The neurites.
        depth_nm: Thickness of the series in nm.
        middle_nm: The synapse (z, y, x) whose terminal always gets a touching pair.
    """
    rows = [_pair_in_middle(rng, neurites, depth_nm, middle_nm, side) for side in (-1, 1)]
    for disk, radius in enumerate(neurites.radius_nm):
        if disk > 0 and radius > _WIDE_NM:
            rows += _draw_ellipsoids(rng, disk, radius, depth_nm)
    table = np.array(rows).reshape(-1, 9)
    disks = table[:, 0].astype(np.intp)
    columns = table[:, 1:3], table[:, 3], table[:, 4:7], table[:, 7], table[:, 8]
    return _Ellipsoids(disks, neurites.number[disks], *columns)


def _draw_ellipsoids(
    rng: np.random.Generator, disk: int, radius_nm: float, depth_nm: float
) -> list[tuple[float, ...]]:
    """The mitochondria of one disk, side by side: the columns of `_Ellipsoids`, less neurite."""
    rows = []
    count = int(rng.choice(len(_COUNTS), p=_COUNTS))
    angle = rng.uniform(0, np.pi)
    touching, long = rng.random() < _TOUCHING_SHARE, rng.random() < _LONG_SHARE
    for turn in range(count):
        half = rng.uniform([90, 65, 350], [150, 105, 1100]) * min(1.25, radius_nm / 280)
        half[0] *= 2 if long else 1
        gap = 1.7 * half[1] if touching else 0.6 * radius_nm
        offset = (turn - (count - 1) / 2) * gap * np.array([np.cos(angle), -np.sin(angle)])
        offset += rng.normal(0, 0.08, 2) * radius_nm
        z = rng.uniform(-half[2] / 2, depth_nm + half[2] / 2)
        turned = angle + (rng.normal(0, 0.15) if touching else rng.uniform(0, np.pi))
        rows.append((disk, *offset, z, *half, turned, _draw_bend(rng, half)))
    return rows


def _pair_in_middle(
    rng: np.random.Generator, neurites: Neurites, depth_nm: float, middle_nm: np.ndarray, side: int
) -> tuple[float, ...]:
    """One of two touching mitochondria behind the pool of the synapse in the middle."""
    centres = neurites.centres(middle_nm[0])
    away = (centres[0] - centres[1]) / np.hypot(*(centres[0] - centres[1]))
    half = rng.uniform([105, 75], [130, 90])
    offset = 5 * away + side * half[1] * 0.9 * np.array([away[1], -away[0]])
    angle = np.arctan2(away[0], away[1]) + rng.normal(0, 0.1)
    return (0, *offset, middle_nm[0], *half, 600 + depth_nm, angle, _draw_bend(rng, half))


def _draw_bend(rng: np.random.Generator, half_nm: np.ndarray) -> float:
    """Curvature of a long axis (1/nm) that moves its ends by a third of the width, typically."""
    return float(np.clip(rng.normal(0, 0.35), -0.7, 0.7) * half_nm[1] / half_nm[0] ** 2)


def cut_mitochondria(
    ellipsoids: _Ellipsoids, neurites: Neurites, cells: Cells, z_nm: float, pixel_nm: float
) -> Mitochondria:
    """Cuts the ellipsoids at a depth.

    They keep clear of the membrane of their neurite. Where two overlap, the surface between them
    runs where both are equally deep, so that they touch. Parts of a profile other than the
    largest, and profiles under ``_MIN_AREA_NM2``, are dropped.
    """
    first = np.full_like(cells.boundary_nm, _OUTSIDE_NM)
    second, along = first.copy(), np.zeros_like(first)
    number = np.zeros(first.shape, np.int32)
    centres = neurites.centres(z_nm)[ellipsoids.disk] + ellipsoids.offset_nm
    boxes = find_objects(cells.owner + 1, max_label=len(neurites.number))
    flat = 1 - ((z_nm - ellipsoids.z_nm) / ellipsoids.half_nm[:, 2]) ** 2
    for row in np.flatnonzero(flat > 0.05):
        half = ellipsoids.half_nm[row, :2] * np.sqrt(flat[row])
        box = boxes[ellipsoids.neurite[row]]
        if box is None:
            continue
        depth, axis = _measure_depth(
            cells.bent_y[box] - centres[row, 0],
            cells.bent_x[box] - centres[row, 1],
            half,
            ellipsoids.angle[row],
            ellipsoids.bend[row],
        )
        room = cells.boundary_nm[box] - _CLEARANCE_NM
        inside = cells.owner[box] == ellipsoids.neurite[row]
        depth = np.where(inside, smooth_minimum(depth, room, 60), _OUTSIDE_NM)
        wins = depth > first[box]
        second[box] = np.maximum(second[box], np.where(wins, first[box], depth))
        number[box] = np.where(wins, row + 1, number[box])
        along[box] = np.where(wins, axis, along[box])
        first[box] = np.where(wins, depth, first[box])
    depth_nm = np.minimum(first, (first - second) / 2)
    depth_nm[first <= 0] = first[first <= 0]
    number[depth_nm <= 0] = 0
    _drop_slivers(number, depth_nm, _MIN_AREA_NM2 / pixel_nm**2)
    return Mitochondria(number, depth_nm, along)


def _measure_depth(
    dy: np.ndarray, dx: np.ndarray, half: np.ndarray, angle: float, bend: float
) -> tuple[np.ndarray, np.ndarray]:
    """Distance to the surface of a bent ellipse, positive inside, to first order, and the axis."""
    along = np.float32(np.cos(angle)) * dx + np.float32(np.sin(angle)) * dy
    across = np.float32(np.cos(angle)) * dy - np.float32(np.sin(angle)) * dx
    across = across - np.float32(bend) * (along**2 - np.float32(half[0] ** 2 / 3))
    u, v = along / np.float32(half[0]), across / np.float32(half[1])
    slope = 2 * np.hypot(u / np.float32(half[0]), v / np.float32(half[1])) + np.float32(1e-4)
    return (1 - u**2 - v**2) / slope, along


def _drop_slivers(number: np.ndarray, depth_nm: np.ndarray, min_area_px: float) -> None:
    """Removes all but the largest part of every profile, and small profiles, in place."""
    for row, box in enumerate(find_objects(number), start=1):
        if box is None:
            continue
        profile = number[box] == row
        parts, _ = label(profile)
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        keep = sizes.argmax() if sizes.max() >= min_area_px else -1
        drop = profile & (parts != keep)
        number[box][drop] = 0
        depth_nm[box][drop] = _OUTSIDE_NM
