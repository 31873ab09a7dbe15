"""Balls in a box: docked ones, ones that touch another, and all others apart."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# Share of the vesicles that are laid against another one.
_TOUCHING_SHARE = 0.15
# Gap between surfaces, in voxels: of those laid against each other, and least of others.
_TOUCHING_GAP, _APART_GAP = 0.4, 1.5
# Share of the room for centres that the balls fill, where their number is not given.
_PACKING = 0.24
_SAMPLES = 4096
# As many failures in a row say that there is no room left.
_MOST_FAILURES = 3000


@dataclass(frozen=True)
class PlacedBalls:
    """Vesicles (n,), none of which overlap.

    Attributes:
        centres_nm: Centres (n, 3) as z, y, x from the centre of the first voxel.
        radii_nm: Outer radii: to the outside of the membrane.
        docked: Whether each was put next to the active zone.
        touching: Whether each was laid against another one, or another one against it.
    """

    centres_nm: np.ndarray
    radii_nm: np.ndarray
    docked: np.ndarray
    touching: np.ndarray


def place_balls(
    rng: np.random.Generator,
    *,
    extent_nm: np.ndarray,
    radii_nm: tuple[float, float],
    voxel_nm: float,
    number: int | None,
    docked: tuple[np.ndarray, np.ndarray],
    measure_room: Callable[[np.ndarray], np.ndarray],
) -> PlacedBalls:
    """Places balls by random sequential addition.

    Every centre lies in the box, as one does that a person clicks on; balls near its faces are cut.

    Args:
        rng: Source of randomness.
        extent_nm: The box (z, y, x), from 0.
        radii_nm: Smallest and largest radius.
        voxel_nm: Edge of a voxel in nm, in which gaps are measured.
        number: How many; fewer where they find no room. None fills a share of the room.
        docked: Centres (n, 3) and radii (n,) of those at the active zone, which come first; of two
            that overlap the first is kept.
        measure_room: The largest radius (n,) that fits around centres (n, 3).
    """
    room = measure_room(rng.uniform(0, 1, (_SAMPLES, 3)) * extent_nm)
    if number is None:
        ball = 4 / 3 * np.pi * np.mean(radii_nm) ** 3
        share = np.mean(room > np.mean(radii_nm))
        number = max(1, int(_PACKING * share * np.prod(extent_nm + voxel_nm) / ball))
    placed = _Placed(np.empty((number, 3)), np.empty(number), np.full(number, -1))
    for centre, radius in zip(*docked, strict=True):
        if placed.count < number and placed.gap(centre, radius) >= _APART_GAP * voxel_nm:
            placed.add(centre, radius)
    first_free, failures = placed.count, 0
    while placed.count < number and failures < _MOST_FAILURES:
        failures += 1
        radius = rng.uniform(*radii_nm)
        beside = -1
        if placed.count and rng.random() < _TOUCHING_SHARE:
            beside = int(rng.integers(placed.count))
            step = rng.normal(size=3)
            away = placed.radii[beside] + radius + rng.uniform(0, _TOUCHING_GAP) * voxel_nm
            centre = placed.centres[beside] + away * step / np.linalg.norm(step)
        else:
            centre = rng.uniform(0, 1, 3) * extent_nm
        outside = np.any((centre < 0) | (centre > extent_nm))
        if outside or placed.gap(centre, radius, beside) < _APART_GAP * voxel_nm:
            continue
        if measure_room(centre[None])[0] >= radius:
            placed.add(centre, radius, beside)
            failures = 0
    return placed.finish(first_free)


@dataclass
class _Placed:
    """The balls so far; arrays have room for all."""

    centres: np.ndarray
    radii: np.ndarray
    beside: np.ndarray  # row of the ball that each was laid against, -1 for none
    count: int = 0

    def gap(self, centre: np.ndarray, radius: float, beside: int = -1) -> float:
        """Distance from a ball to the surface of the nearest one, but for the one it is beside."""
        gaps = np.linalg.norm(self.centres[: self.count] - centre, axis=1) - radius
        gaps -= self.radii[: self.count]
        if beside >= 0:
            gaps[beside] = np.inf
        return float(gaps.min(initial=np.inf))

    def add(self, centre: np.ndarray, radius: float, beside: int = -1) -> None:
        row, self.count = self.count, self.count + 1
        self.centres[row], self.radii[row], self.beside[row] = centre, radius, beside

    def finish(self, docked: int) -> PlacedBalls:
        """All balls, of which the first are docked."""
        beside = self.beside[: self.count]
        touching = beside >= 0
        touching[beside[beside >= 0]] = True
        rows = np.arange(self.count)
        return PlacedBalls(
            self.centres[: self.count], self.radii[: self.count], rows < docked, touching
        )
