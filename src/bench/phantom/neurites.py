"""Packed neurites: which cell a point belongs to, and how far it is from the cell's boundary.

A section is a power diagram (Aurenhammer 1987, SIAM J. Comput. 16, 78-96) of one disk per
neurite, in coordinates bent by smooth functions. From section to section the disks move.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

# Variance of a cubic B-spline of unit white noise, per dimension, averaged over a lattice cell.
_SPLINE_VARIANCE = 151 / 315

# Lattice spacing and amplitude of the bends, nm.
_BENDS = ((1000.0, 130.0), (330.0, 48.0), (140.0, 13.0))
_MARGIN_NM = 1200.0
# Radius of a disk in nm and the disks thrown per unit of its own area, large ones first.
_SIZES = ((520.0, 0.04), (400.0, 0.16), (300.0, 0.35), (220.0, 0.6), (150.0, 1.1), (95.0, 2.0))
_MIN_GAP = 0.86
# Share of disks that belong to the same neurite as their nearest neighbour: long, bent profiles.
_JOINED_SHARE = 0.4
_JOINED_MAX = 4
_TERMINAL_SHARE = 0.4
_TERMINAL_RADII_NM = (170.0, 450.0)
_TILT = 0.3
# The synapse in the middle: distance of its disks from the cleft, and radius of the terminal, nm.
_MIDDLE_TERMINAL_NM = (320.0, 345.0)
_MIDDLE_PARTNER_NM = 330.0
# The cleft is this far from the middle, so that a small region holds the mitochondria too.
_MIDDLE_CLEFT_NM = 90.0
# A triple junction is rounded within this distance of two boundaries, nm.
_ROUNDING_NM = 30.0
_CANDIDATES = 5
_FAR_NM = 1e4


@dataclass(frozen=True)
class _SmoothField:
    """A random function of (z, y, x) in nm: zero mean, unit variance, twice differentiable.

    It repeats after the lattice's length, so it is defined everywhere.

    Attributes:
        lattice: Spline coefficients (z, y, x).
        spacing_nm: Distance of the lattice's nodes in nm, about half a wave.
    """

    lattice: np.ndarray
    spacing_nm: float

    def plane(self, z_nm: float, y_nm: np.ndarray, x_nm: np.ndarray) -> np.ndarray:
        """Evaluates the function on the grid of y and x at one z; float32 (y, x)."""
        slab = _blend(self.lattice, np.array([z_nm / self.spacing_nm]), axis=0)[0]
        rows = _blend(slab, y_nm / self.spacing_nm, axis=0)
        return _blend(rows, x_nm / self.spacing_nm, axis=1)


def make_field(
    rng: np.random.Generator, extent_nm: tuple[float, float, float], spacing_nm: float
) -> _SmoothField:
    """Draws a function that does not repeat within an extent (z, y, x) in nm."""
    shape = [int(np.ceil(length / spacing_nm)) + 4 for length in extent_nm]
    lattice = rng.standard_normal(shape, dtype=np.float32) / np.float32(_SPLINE_VARIANCE**1.5)
    return _SmoothField(lattice, spacing_nm)


def _blend(lattice: np.ndarray, positions: np.ndarray, axis: int) -> np.ndarray:
    """Evaluates cubic B-splines along an axis; positions are in lattice steps."""
    base = np.floor(positions).astype(np.intp)
    t = positions - base
    weights = (
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    )
    shape = [1] * lattice.ndim
    shape[axis] = len(positions)
    length = lattice.shape[axis]
    total = np.zeros(
        (*lattice.shape[:axis], len(positions), *lattice.shape[axis + 1 :]), np.float32
    )
    for tap, weight in enumerate(weights):
        nodes = np.take(lattice, (base + tap - 1) % length, axis=axis)
        total += nodes * weight.astype(np.float32).reshape(shape)
    return total


@dataclass(frozen=True)
class Neurites:
    """The neurites of a region, as one or a few moving disks each, in bent coordinates.

    Attributes:
        centre_nm: Centres of the disks at z = 0, (n, 2) as y, x.
        tilt: Movement of the centre per nm of z, (n, 2).
        radius_nm: Radii (n,).
        number: The neurite that a disk belongs to (n,): the number of one of its disks.
        terminal: Whether that is a presynaptic terminal (n,). Number 0 is the terminal of the
            synapse in the middle of the region and number 1 its partner.
        bends: Functions (y, x per row of _BENDS) that bend space.
    """

    centre_nm: np.ndarray
    tilt: np.ndarray
    radius_nm: np.ndarray
    number: np.ndarray
    terminal: np.ndarray
    bends: tuple[tuple[_SmoothField, _SmoothField], ...]

    def centres(self, z_nm: float) -> np.ndarray:
        """Centres at a depth, (n, 2) in nm."""
        return np.asarray(self.centre_nm + z_nm * self.tilt)


@dataclass(frozen=True)
class Cells:
    """The neurites in one section; every map is (y, x).

    Attributes:
        owner: Number of the neurite that a pixel lies in.
        partner: Number of the nearest other neurite.
        boundary_nm: Distance to the boundary with it.
        bent_y: Bent coordinate y in nm.
        bent_x: Bent coordinate x in nm.
    """

    owner: np.ndarray
    partner: np.ndarray
    boundary_nm: np.ndarray
    bent_y: np.ndarray
    bent_x: np.ndarray


def grow_neurites(
    rng: np.random.Generator, extent_nm: tuple[float, float, float], middle_nm: np.ndarray
) -> Neurites:
    """Packs disks into an extent (z, y, x), around a synapse in their middle.

    Args:
        rng: Source of randomness.
        extent_nm: Depth, height and width in nm.
        middle_nm: Position (z, y, x) of the synapse in nm.
    """
    size = (extent_nm[0] + _MARGIN_NM, extent_nm[1] + _MARGIN_NM, extent_nm[2] + _MARGIN_NM)
    bends = tuple(
        (make_field(rng, size, spacing), make_field(rng, size, spacing)) for spacing, _ in _BENDS
    )
    z, y, x = middle_nm
    shift = [float(d[0, 0]) for d in _displace(bends, z, np.array([y]), np.array([x]))]
    cleft_nm = min(_MIDDLE_CLEFT_NM, 0.15 * min(extent_nm[1:]))
    centre, radius = _pair_disks(rng, np.array([y + shift[0], x + shift[1]]), cleft_nm)
    centre, radius = _pack_disks(rng, extent_nm, centre, radius)
    number = _join_disks(rng, centre, radius)
    low, high = _TERMINAL_RADII_NM
    terminal = (rng.random(len(radius)) < _TERMINAL_SHARE) & (radius > low) & (radius < high)
    terminal[:2] = True, False
    tilt = rng.normal(0, _TILT, centre.shape)[number]
    tilt[:2] = tilt[0] / 3
    return Neurites(centre - z * tilt, tilt, radius, number, terminal[number], bends)


def _pair_disks(
    rng: np.random.Generator, middle: np.ndarray, cleft_nm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Terminal and partner of the synapse in the middle, with the cleft at a distance from it."""
    angle = rng.uniform(0, 2 * np.pi)
    across = np.array([np.sin(angle), np.cos(angle)])
    distance, radius = _MIDDLE_TERMINAL_NM
    cleft = middle + cleft_nm * across
    centre = np.stack([cleft - distance * across, cleft + _MIDDLE_PARTNER_NM * across])
    same_power = np.sqrt(radius**2 - distance**2 + _MIDDLE_PARTNER_NM**2)
    return centre, np.array([radius, same_power])


def _displace(
    bends: tuple[tuple[_SmoothField, _SmoothField], ...],
    z_nm: float,
    y_nm: np.ndarray,
    x_nm: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Sums the bends on the grid of y and x; displacements y and x in nm, float32."""
    shift_y, shift_x = (np.zeros((len(y_nm), len(x_nm)), np.float32) for _ in range(2))
    for (bend_y, bend_x), (_, amplitude_nm) in zip(bends, _BENDS, strict=True):
        shift_y += np.float32(amplitude_nm) * bend_y.plane(z_nm, y_nm, x_nm)
        shift_x += np.float32(amplitude_nm) * bend_x.plane(z_nm, y_nm, x_nm)
    return shift_y, shift_x


def _join_disks(rng: np.random.Generator, centre: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Joins some disks to their nearest neighbour; the neurite of each disk (n,)."""
    number = np.arange(len(radius))
    for disk in range(2, len(radius)):
        if rng.random() > _JOINED_SHARE:
            continue
        gap = np.hypot(*(centre - centre[disk]).T) - radius - radius[disk]
        gap[[0, 1, disk]] = np.inf
        joined = np.isin(number, [number[disk], number[np.argmin(gap)]])
        if joined.sum() <= _JOINED_MAX:
            number[joined] = number[joined].min()
    return number


def _pack_disks(
    rng: np.random.Generator,
    extent_nm: tuple[float, float, float],
    centre: np.ndarray,
    radius: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Throws disks into the plane of an extent, large ones first; keeps those that find room."""
    low = np.array([-_MARGIN_NM / 2, -_MARGIN_NM / 2])
    high = np.array(extent_nm[1:]) + _MARGIN_NM / 2
    area = float(np.prod(high - low))
    for size, density in _SIZES:
        for point in rng.uniform(low, high, (int(density * area / size**2) + 1, 2)):
            new = size * rng.uniform(0.85, 1.2)
            if np.all(np.hypot(*(centre - point).T) > _MIN_GAP * (radius + new)):
                centre = np.vstack([centre, point])
                radius = np.append(radius, new)
    return centre, radius


def cut_cells(neurites: Neurites, z_nm: float, y_nm: np.ndarray, x_nm: np.ndarray) -> Cells:
    """Cuts the neurites at a depth, on the grid of y and x in nm.

    The nearest few disks are looked up on a coarser grid, and compared at every pixel.
    """
    pixel_nm = float(x_nm[1] - x_nm[0])
    step = int(np.clip(round(20 / pixel_nm), 1, 8))
    shape = len(y_nm), len(x_nm)
    y, x = (_pad(axis, step) for axis in (y_nm, x_nm))
    shift_y, shift_x = _displace(neurites.bends, z_nm, y, x)
    bent = (shift_y + y[:, None].astype(np.float32), shift_x + x.astype(np.float32))
    blocks = _to_blocks(bent[0], step), _to_blocks(bent[1], step)
    points = np.stack([block.mean(axis=(1, 3)) for block in blocks], axis=-1)
    jacobian = [np.gradient(points[..., axis], step * pixel_nm) for axis in (0, 1)]
    candidates = _find_candidates(neurites, z_nm, points)[:, None, :, None, :]
    maps = _measure_boundary(neurites, neurites.centres(z_nm), blocks, candidates, jacobian)
    cut = [block.reshape(len(y), len(x))[: shape[0], : shape[1]] for block in (*maps, *blocks)]
    return Cells(*cut)


def _pad(axis_nm: np.ndarray, step: int) -> np.ndarray:
    """Continues an evenly spaced axis to a multiple of a step."""
    pixel = axis_nm[1] - axis_nm[0]
    return np.asarray(axis_nm[0] + pixel * np.arange(-(-len(axis_nm) // step) * step))


def _to_blocks(field: np.ndarray, step: int) -> np.ndarray:
    """Views an image as (block y, y, block x, x)."""
    return field.reshape(field.shape[0] // step, step, field.shape[1] // step, step)


def _find_candidates(neurites: Neurites, z_nm: float, points: np.ndarray) -> np.ndarray:
    """The disks of smallest power distance, nearest first, at points (y, x, 2); (y, x, few)."""
    weights = neurites.radius_nm**2
    lift = np.sqrt(weights.max() - weights)
    tree = cKDTree(np.column_stack([neurites.centres(z_nm), lift]))
    query = np.concatenate([points, np.zeros_like(points[..., :1])], axis=-1)
    return np.asarray(tree.query(query, k=_CANDIDATES)[1])


def _compare_powers(
    centres: np.ndarray,
    radius_nm: np.ndarray,
    blocks: tuple[np.ndarray, np.ndarray],
    candidates: np.ndarray,
) -> list[np.ndarray]:
    """Power distance to each candidate, less that to the first: linear, so exact in float32."""
    first = candidates[..., 0]
    dy, dx = (block - centres[first, axis].astype(np.float32) for axis, block in enumerate(blocks))
    powers = [np.zeros_like(dy)]
    for k in range(1, _CANDIDATES):
        other = candidates[..., k]
        to = (centres[other] - centres[first]).astype(np.float32)
        constant = np.sum(to**2, axis=-1) - radius_nm[other] ** 2 + radius_nm[first] ** 2
        powers.append(constant.astype(np.float32) - 2 * (dy * to[..., 0] + dx * to[..., 1]))
    return powers


def _measure_boundary(
    neurites: Neurites,
    centres: np.ndarray,
    blocks: tuple[np.ndarray, np.ndarray],
    candidates: np.ndarray,
    jacobian: list[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Owner, partner and distance to the boundary for blocks of bent coordinates.

    The difference of two power distances divided by its slope is the distance to where they are
    equal. The slope is taken in straight space, by the Jacobian of the bends.
    """
    powers = _compare_powers(centres, neurites.radius_nm, blocks, candidates)
    power, disk = powers[0], np.broadcast_to(candidates[..., 0], blocks[0].shape)
    for k in range(1, _CANDIDATES):
        disk = np.where(powers[k] < power, candidates[..., k], disk)
        power = np.minimum(power, powers[k])
    centres = centres.astype(np.float32)
    own_y, own_x = centres[disk, 0], centres[disk, 1]
    owner = neurites.number[disk]
    strain = [slope[:, None, :, None].astype(np.float32) for pair in jacobian for slope in pair]
    distance = np.full_like(own_y, _FAR_NM)
    closest, partner = distance, owner
    for k in range(_CANDIDATES):
        other = neurites.number[candidates[..., k]]
        to_y = centres[candidates[..., k], 0] - own_y
        to_x = centres[candidates[..., k], 1] - own_x
        slope = 2 * np.hypot(
            to_y * strain[0] + to_x * strain[2], to_y * strain[1] + to_x * strain[3]
        )
        gap = np.where(other != owner, (powers[k] - power) / (slope + 1e-6), _FAR_NM)
        partner = np.where(gap < closest, other, partner)
        closest = np.minimum(closest, gap)
        distance = smooth_minimum(distance, gap, _ROUNDING_NM)
    return owner, partner, np.maximum(distance, 0)


def smooth_minimum(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    """The minimum of two distances, rounded where they differ by less than `width`."""
    overlap = np.maximum(width - np.abs(a - b), 0) / width
    return np.asarray(np.minimum(a, b) - overlap**2 * (width / 4))
