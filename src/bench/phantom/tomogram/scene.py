"""Where things are in a tomogram: the membrane of an active zone, a mitochondrion, vesicles.

Positions are z, y, x in nm from the centre of the first voxel. A function of positions takes three
arrays that broadcast, so that it measures single points and whole grids alike.
"""

from dataclasses import dataclass

import numpy as np

from bench.errors import BenchError
from bench.phantom.tomogram.placing import PlacedBalls, place_balls

# A bilayer with the proteins on it.
MEMBRANE_NM = 4.5
# Share of the shorter side of a plane by which the active zone lies off the middle.
_ZONE_OFF = 0.27
_ZONE_SHARE = (0.28, 0.38)
_TILT_Z = 0.15
_CURVATURE = 1 / 900  # largest, 1/nm
_BUMP_NM, _BUMP_PERIODS_NM = 3.0, (150.0, 240.0)
# Half axes of the mitochondrion: shares of that side, and no larger than real ones, nm.
_MITO_SHARES = ((0.5, 0.65), (0.2, 0.26), (0.22, 0.3))
_MITO_LARGEST_NM = (260.0, 120.0, 140.0)
_MITO_OFF = 0.64
_MITO_BEND = 0.3  # by which its ends are moved, of the width
# Between the surface of a vesicle and another membrane, nm.
_DOCKED_NM = (2.0, 6.0)
_MEMBRANE_CLEARANCE_NM = 8.0
_MITO_CLEARANCE_NM = 6.0


@dataclass(frozen=True)
class TomogramSettings:
    """What a tomogram is like.

    Attributes:
        shape: Voxels (z, y, x).
        voxel_nm: Edge of a voxel in nm.
        diameters_nm: Smallest and largest outer diameter of a vesicle in nm.
        vesicles: Vesicles whose centre lies in it; None follows from the room there is.
        tilt_deg: Largest tilt, to both sides.
        noise: Standard deviation of noise over that of the noise-free tomogram.
    """

    shape: tuple[int, int, int]
    voxel_nm: float
    diameters_nm: tuple[float, float]
    vesicles: int | None
    tilt_deg: float
    noise: float

    @property
    def extent_nm(self) -> np.ndarray:
        """Distance from the first to the last voxel (z, y, x)."""
        return np.asarray((np.array(self.shape) - 1) * self.voxel_nm)

    @property
    def side_nm(self) -> float:
        """The shorter side of a plane."""
        return min(self.shape[1:]) * self.voxel_nm


@dataclass(frozen=True)
class _ActiveZone:
    """A curved presynaptic membrane, and the patch of it that is the active zone.

    Attributes:
        anchor_nm: Middle of the patch (3,).
        inward: Unit vector (3,) into the terminal.
        aside: Unit vector (3,) along the membrane, within a plane.
        up: Unit vector (3,) across both, about along the beam.
        curvature: Along aside and up, 1/nm.
        wave: Period in nm and phase of the bumps along aside.
        radius_nm: Radius of the patch.
    """

    anchor_nm: np.ndarray
    inward: np.ndarray
    aside: np.ndarray
    up: np.ndarray
    curvature: tuple[float, float]
    wave: tuple[float, float]
    radius_nm: float

    def height(self, z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Distance to the middle of the membrane in nm, positive in the terminal."""
        along, across = self._project(self.aside, z, y, x), self._project(self.up, z, y, x)
        period, phase = self.wave
        turn = along * (2 * np.pi / period) + phase
        sag = (self.curvature[0] * along**2 + self.curvature[1] * across**2) / 2
        height = self._project(self.inward, z, y, x) - sag - _BUMP_NM * np.sin(turn)
        slope = self.curvature[0] * along + _BUMP_NM * 2 * np.pi / period * np.cos(turn)
        return np.asarray(height / np.sqrt(1 + slope**2 + (self.curvature[1] * across) ** 2))

    def distance(self, z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Distance to the axis of the patch in nm."""
        along, across = self._project(self.aside, z, y, x), self._project(self.up, z, y, x)
        return np.asarray(np.hypot(along, across))

    def _project(self, axis: np.ndarray, z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        # Single precision: grids are large.
        a, offset = axis.astype(np.float32), np.float32(axis @ self.anchor_nm)
        return np.asarray(a[0] * z + a[1] * y + a[2] * x - offset)


@dataclass(frozen=True)
class Mitochondrion:
    """A bent ellipsoid.

    Attributes:
        centre_nm: Its centre (3,).
        axes: Unit vectors (3, 3), a row each: along, across, and across both.
        half_nm: Half axes (3,).
        bend: Curvature of the long axis, 1/nm.
    """

    centre_nm: np.ndarray
    axes: np.ndarray
    half_nm: np.ndarray
    bend: float

    def coordinates(
        self, z: np.ndarray, y: np.ndarray, x: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coordinates along the three axes in nm, bent."""
        axes, offset = self.axes.astype(np.float32), self.axes @ self.centre_nm
        along, across, third = (
            a[0] * z + a[1] * y + a[2] * x - np.float32(o)
            for a, o in zip(axes, offset, strict=True)
        )
        return along, across - np.float32(self.bend) * along**2, third

    def depth(self, z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Distance to the surface in nm to first order, positive inside."""
        coordinates = self.coordinates(z, y, x)
        parts = [c / np.float32(h) for c, h in zip(coordinates, self.half_nm, strict=True)]
        steps = [p / np.float32(h) for p, h in zip(parts, self.half_nm, strict=True)]
        level = np.sqrt(sum(p**2 for p in parts))
        slope = np.sqrt(sum(s**2 for s in steps)) + np.float32(1e-6)
        return np.asarray(level * (1 - level) / slope)


@dataclass(frozen=True)
class TomogramScene:
    """All that a tomogram shows."""

    settings: TomogramSettings
    zone: _ActiveZone
    mitochondrion: Mitochondrion
    balls: PlacedBalls


def draw_scene(settings: TomogramSettings, rng: np.random.Generator) -> TomogramScene:
    """Draws a presynapse.

    The active zone stands about upright on the planes, as it is looked for in the microscope, with
    the cleft and the partner behind it; the mitochondrion lies at the far side of the terminal,
    beyond the vesicles.

    Raises:
        BenchError: If the vesicles that were asked for do not fit.
    """
    zone = _draw_zone(settings, rng)
    mitochondrion = _draw_mitochondrion(settings, zone, rng)
    smallest, largest = (diameter / 2 for diameter in settings.diameters_nm)

    def measure_room(centres: np.ndarray) -> np.ndarray:
        """The largest radius (n,) that a vesicle may have around each centre."""
        from_membrane = zone.height(*centres.T) - MEMBRANE_NM / 2 - _MEMBRANE_CLEARANCE_NM
        from_organelle = -mitochondrion.depth(*centres.T) - _MITO_CLEARANCE_NM
        return np.minimum(from_membrane, from_organelle)

    docked = _draw_docked(settings, zone, rng)
    radii = rng.uniform(smallest, largest, len(docked))
    docked = _lift(zone, docked, radii + MEMBRANE_NM / 2 + rng.uniform(*_DOCKED_NM, len(docked)))
    inside = np.all((docked >= 0) & (docked <= settings.extent_nm), axis=1)
    balls = place_balls(
        rng,
        extent_nm=settings.extent_nm,
        radii_nm=(smallest, largest),
        voxel_nm=settings.voxel_nm,
        number=settings.vesicles,
        docked=(docked[inside], radii[inside]),
        measure_room=measure_room,
    )
    if settings.vesicles is not None and len(balls.radii_nm) < settings.vesicles:
        raise BenchError(
            f"vesicles of a tomogram must fit into it, received {settings.vesicles} of which "
            f"{len(balls.radii_nm)} found room: lower vesicles, or enlarge size_px or planes"
        )
    return TomogramScene(settings, zone, mitochondrion, balls)


def _draw_zone(settings: TomogramSettings, rng: np.random.Generator) -> _ActiveZone:
    angle = rng.uniform(0, 2 * np.pi)
    inward = np.array([rng.uniform(-_TILT_Z, _TILT_Z), np.sin(angle), np.cos(angle)])
    inward /= np.linalg.norm(inward)
    aside = np.array([0, np.cos(angle), -np.sin(angle)])
    middle = settings.extent_nm / 2
    level = np.array([0, np.sin(angle), np.cos(angle)])
    period, phase = rng.uniform(*_BUMP_PERIODS_NM), rng.uniform(0, 2 * np.pi)
    along, across = rng.uniform(-_CURVATURE, _CURVATURE, 2)
    return _ActiveZone(
        anchor_nm=middle - _ZONE_OFF * settings.side_nm * level,
        inward=inward,
        aside=aside,
        up=np.cross(inward, aside),
        curvature=(float(along), float(across)),
        wave=(float(period), float(phase)),
        radius_nm=float(rng.uniform(*_ZONE_SHARE) * settings.side_nm),
    )


def _draw_mitochondrion(
    settings: TomogramSettings, zone: _ActiveZone, rng: np.random.Generator
) -> Mitochondrion:
    half = np.array([rng.uniform(*share) for share in _MITO_SHARES]) * settings.side_nm
    half = np.minimum(half, _MITO_LARGEST_NM)
    along = zone.aside + rng.uniform(-0.5, 0.5) * zone.up + rng.uniform(-0.3, 0.3) * zone.inward
    along /= np.linalg.norm(along)
    across = zone.inward - (zone.inward @ along) * along
    across /= np.linalg.norm(across)
    centre = settings.extent_nm / 2
    centre = centre + (_MITO_OFF - _ZONE_OFF) * settings.side_nm * zone.inward
    centre += rng.uniform(-0.15, 0.15) * settings.side_nm * zone.aside
    bend = rng.uniform(-_MITO_BEND, _MITO_BEND) * half[1] / half[0] ** 2
    axes = np.stack([along, across, np.cross(along, across)])
    return Mitochondrion(centre, axes, half, float(bend))


def _draw_docked(
    settings: TomogramSettings, zone: _ActiveZone, rng: np.random.Generator
) -> np.ndarray:
    """Places (n, 3) on the patch, in a row or two, for vesicles that dock."""
    largest = settings.diameters_nm[1]
    number = int(np.ceil(np.pi * zone.radius_nm**2 / (3 * largest**2)))
    turn, share = rng.uniform(0, 2 * np.pi, number), np.sqrt(rng.uniform(0, 1, number))
    off = zone.radius_nm * share
    aside, up = (off * np.cos(turn))[:, None], (off * np.sin(turn))[:, None]
    return np.asarray(zone.anchor_nm + aside * zone.aside + up * zone.up)


def _lift(zone: _ActiveZone, places: np.ndarray, height_nm: np.ndarray) -> np.ndarray:
    """Moves places (n, 3) into the terminal until they are at a height (n,) over the membrane."""
    for _ in range(6):
        places = places + (height_nm - zone.height(*places.T))[:, None] * zone.inward
    return places
