"""Vesicles: spheres in the terminals, tethered to ribbons, in pools and scattered."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from bench.phantom.mitochondria import Mitochondria
from bench.phantom.neurites import Cells, Neurites
from bench.phantom.synapses import RIBBON_FOOT_NM, RIBBON_HALF_NM, Synapse

_RADII_NM = (15.0, 20.0)
# A cap with a smaller profile shows no lumen: it is neither drawn nor part of the truth.
_MIN_PROFILE_RADIUS_NM = 6.0
_SPACING_NM = 3.0
_TETHER_NM = 9.0
_POOL_WIDTH_NM = 120.0
_POOL_HEIGHT_NM = 380.0
_MEMBRANE_CLEARANCE_NM = 19.0
_MITOCHONDRION_CLEARANCE_NM = 10.0
# Vesicles outside pools, per square micrometre of section.
_SCATTERED = 12.0


@dataclass(frozen=True)
class Spheres:
    """Vesicles in space.

    Attributes:
        centre_nm: Centres (n, 3) as z, y, x; y and x relative to the centre of the first pixel of
            a section without drift.
        radius_nm: Radii (n,).
        neurite: The neurite that each lies in (n,).
        tether_nm: Foot (y, x) of its tether on a ribbon (n, 2), NaN without one.
    """

    centre_nm: np.ndarray
    radius_nm: np.ndarray
    neurite: np.ndarray
    tether_nm: np.ndarray

    def take(self, keep: np.ndarray) -> "Spheres":
        """Selects vesicles by index or mask."""
        return Spheres(
            self.centre_nm[keep], self.radius_nm[keep], self.neurite[keep], self.tether_nm[keep]
        )

    def cut(self, z_nm: float, drift_nm: np.ndarray) -> "_Profiles":
        """Cuts the vesicles with a plane displaced by (y, x)."""
        square = self.radius_nm**2 - (self.centre_nm[:, 0] - z_nm) ** 2
        radii = np.sqrt(np.maximum(square, 0))
        return _Profiles(
            self.centre_nm[:, 1:] + drift_nm,
            np.where(radii >= _MIN_PROFILE_RADIUS_NM, radii, 0.0),
            np.abs(self.centre_nm[:, 0] - z_nm),
            self.tether_nm + drift_nm,
        )


@dataclass(frozen=True)
class _Profiles:
    """All vesicles (n,) as one section sees them, relative to the centre of its first pixel."""

    centre_nm: np.ndarray  # (n, 2) as y, x
    radius_nm: np.ndarray  # 0 where the plane misses or barely grazes a sphere
    off_nm: np.ndarray  # distances of the plane from the spheres' centres
    tether_nm: np.ndarray  # feet of tethers (n, 2), NaN without one


def place_vesicles(
    rng: np.random.Generator,
    neurites: Neurites,
    cells: list[Cells],
    mitochondria: list[Mitochondria],
    synapses: list[Synapse],
    drift_nm: np.ndarray,
    pixel_nm: float,
    section_nm: float,
) -> Spheres:
    """Draws the vesicles that the sections cut, none of which touches anything else.

    Args:
        rng: Source of randomness.
        neurites: The neurites.
        cells: The cells of every section.
        mitochondria: The mitochondria of every section.
        synapses: The synapses of every section.
        drift_nm: Displacement of every section (n, 2).
        pixel_nm: Pixel size in nm.
        section_nm: Distance of sections in nm.
    """
    rows = [_tether_vesicles(rng, s, pixel_nm, section_nm) for s in synapses if s.ribbon_nm]
    rows += [_fill_pool(rng, s, pixel_nm, section_nm) for s in synapses]
    rows += [
        _scatter_vesicles(rng, here, index, pixel_nm, section_nm)
        for index, here in enumerate(cells)
    ]
    origin = [s.section for s in synapses if s.ribbon_nm] + [s.section for s in synapses]
    origin += range(len(cells))
    displaced = np.repeat(drift_nm[origin], [len(part) for part in rows], axis=0)
    table = np.concatenate(rows)
    spheres = Spheres(
        centre_nm=table[:, :3] - np.pad(displaced, [(0, 0), (1, 0)]),
        radius_nm=rng.uniform(*_RADII_NM, len(table)),
        neurite=table[:, 3].astype(np.intp),
        tether_nm=table[:, 4:] - displaced,
    )
    keep, cut = np.ones(len(table), bool), np.zeros(len(table), bool)
    for index, (here, organelles) in enumerate(zip(cells, mitochondria, strict=True)):
        profiles = spheres.cut(index * section_nm, drift_nm[index])
        ribbons = [s for s in synapses if s.section == index and s.ribbon_nm]
        clear = _find_clear(profiles, spheres.neurite, here, organelles, pixel_nm)
        missed = profiles.radius_nm == 0
        keep &= missed | (clear & _miss_ribbons(profiles, ribbons, pixel_nm))
        cut |= ~missed
    spheres = spheres.take(keep & cut)
    spheres = spheres.take(_find_free(spheres))
    for index, organelles in enumerate(mitochondria):
        profiles = spheres.cut(index * section_nm, drift_nm[index])
        spheres = spheres.take(~_find_hits(profiles, organelles.number > 0, pixel_nm))
    return spheres


def _tether_vesicles(
    rng: np.random.Generator, synapse: Synapse, pixel_nm: float, section_nm: float
) -> np.ndarray:
    """Vesicles on both sides of a ribbon and on its top: rows z, y, x, neurite, foot y, foot x."""
    aside = np.array([-synapse.inward[1], synapse.inward[0]])
    start = synapse.anchor_px * pixel_nm
    heights = np.arange(RIBBON_FOOT_NM + 20, synapse.ribbon_nm + 15, 43.0)
    rows = []
    for side in (-1, 1):
        for height in heights + rng.normal(0, 3, len(heights)):
            foot = start + synapse.inward * height + side * RIBBON_HALF_NM * aside
            centre = foot + side * aside * (_TETHER_NM + _RADII_NM[1] + rng.uniform(-2, 3))
            rows.append((*centre, *foot))
    top = start + synapse.inward * (synapse.ribbon_nm + RIBBON_HALF_NM)
    rows.append((*(top + synapse.inward * (_TETHER_NM + _RADII_NM[1])), *top))
    table = np.array(rows)
    z = synapse.section * section_nm + rng.uniform(-1, 1, len(table)) * min(15, section_nm / 2)
    return _assemble(z, table[:, :2], synapse.terminal, table[:, 2:])


def _fill_pool(
    rng: np.random.Generator, synapse: Synapse, pixel_nm: float, section_nm: float
) -> np.ndarray:
    """Candidates for the pool over an active zone, dense near the membrane."""
    count = int(synapse.vesicles * section_nm / 50) + 1
    aside = np.array([-synapse.inward[1], synapse.inward[0]])
    height = 36 + _POOL_HEIGHT_NM * rng.beta(1, 1.7, count)
    lateral = rng.normal(0, _POOL_WIDTH_NM, count) * (0.6 + height / 400)
    centre = (
        synapse.anchor_px * pixel_nm + height[:, None] * synapse.inward + lateral[:, None] * aside
    )
    z = (synapse.section + rng.uniform(-0.5, 0.5, count)) * section_nm
    return _assemble(z, centre, synapse.terminal)


def _scatter_vesicles(
    rng: np.random.Generator, cells: Cells, section: int, pixel_nm: float, section_nm: float
) -> np.ndarray:
    """Candidates anywhere in a section."""
    shape = np.array(cells.owner.shape)
    count = int(_SCATTERED * np.prod(shape * pixel_nm / 1000) * section_nm / 50)
    centre = rng.uniform(0, 1, (count, 2)) * (shape - 1)
    y, x = np.rint(centre).astype(int).T
    z = (section + rng.uniform(-0.5, 0.5, count)) * section_nm
    return _assemble(z, centre * pixel_nm, cells.owner[y, x])


def _assemble(
    z: np.ndarray, centre: np.ndarray, neurite: int | np.ndarray, foot: np.ndarray | None = None
) -> np.ndarray:
    """Joins columns to rows z, y, x, neurite, foot y, foot x."""
    feet = np.full((len(z), 2), np.nan) if foot is None else foot
    return np.column_stack([z, centre, np.broadcast_to(neurite, len(z)), feet])


def _find_clear(
    profiles: _Profiles,
    neurite: np.ndarray,
    cells: Cells,
    mitochondria: Mitochondria,
    pixel_nm: float,
) -> np.ndarray:
    """Whether each profile (n,) lies in its neurite, clear of membranes and mitochondria."""
    pixel = np.rint(profiles.centre_nm / pixel_nm).astype(int)
    shape = np.array(cells.owner.shape)
    inside = np.all((pixel >= 0) & (pixel < shape), axis=1)
    y, x = np.clip(pixel, 0, shape - 1).T
    room = cells.boundary_nm[y, x] - _MEMBRANE_CLEARANCE_NM
    room = np.minimum(room, -mitochondria.depth_nm[y, x])
    clear = room > profiles.radius_nm + pixel_nm / 2
    return np.asarray(inside & (cells.owner[y, x] == neurite) & clear)


def _find_hits(profiles: _Profiles, taken: np.ndarray, pixel_nm: float) -> np.ndarray:
    """Whether each profile (n,) comes too close to a mask (y, x), pixel by pixel."""
    cut = np.flatnonzero(profiles.radius_nm)
    pixels, rows, depth = list_disk_pixels(
        taken.shape, profiles.centre_nm[cut], profiles.radius_nm[cut], pixel_nm
    )
    near = depth > -max(_MITOCHONDRION_CLEARANCE_NM, 1.5 * pixel_nm)
    hits = np.zeros(len(profiles.radius_nm), bool)
    hits[cut[rows[near & taken.ravel()[pixels]]]] = True
    return hits


def _miss_ribbons(profiles: _Profiles, ribbons: list[Synapse], pixel_nm: float) -> np.ndarray:
    """Whether each profile (n,) stays off the ribbons of its section."""
    free = np.ones(len(profiles.radius_nm), bool)
    for synapse in ribbons:
        relative = profiles.centre_nm - synapse.anchor_px * pixel_nm
        height = np.clip(relative @ synapse.inward, 0, synapse.ribbon_nm)
        distance = np.hypot(*(relative - height[:, None] * synapse.inward).T)
        free &= distance > RIBBON_HALF_NM + profiles.radius_nm + _SPACING_NM
    return free


def _find_free(spheres: Spheres) -> np.ndarray:
    """Indices of the vesicles that overlap none before them, in order."""
    free = np.ones(len(spheres.radius_nm), bool)
    if not len(free):
        return np.flatnonzero(free)
    pairs = cKDTree(spheres.centre_nm).query_pairs(
        2 * _RADII_NM[1] + _SPACING_NM, output_type="ndarray"
    )
    gaps = np.linalg.norm(
        spheres.centre_nm[pairs[:, 0]] - spheres.centre_nm[pairs[:, 1]], axis=1
    ) - spheres.radius_nm[pairs].sum(axis=1)
    pairs = pairs[gaps < _SPACING_NM]
    for first, second in pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]:
        free[second] &= ~free[first]
    return np.flatnonzero(free)


def list_disk_pixels(
    shape: tuple[int, ...], centre_nm: np.ndarray, radius_nm: np.ndarray, pixel_nm: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pixels in and around disks: flat index, row of the disk, and depth in it in nm."""
    reach = int(np.ceil(radius_nm.max(initial=0) / pixel_nm)) + 2
    window = np.arange(-reach, reach + 1)
    middle = np.rint(centre_nm / pixel_nm).astype(np.intp)
    y = middle[:, 0, None, None] + window[:, None]
    x = middle[:, 1, None, None] + window
    depth = radius_nm[:, None, None] - np.hypot(
        y * pixel_nm - centre_nm[:, 0, None, None], x * pixel_nm - centre_nm[:, 1, None, None]
    )
    inside = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
    rows = np.broadcast_to(np.arange(len(radius_nm))[:, None, None], inside.shape)
    return (y * shape[1] + x)[inside], rows[inside], depth[inside].astype(np.float32)
