"""Active zones and synaptic ribbons, found on the cut membranes and followed through sections."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench.phantom.mitochondria import Mitochondria
from bench.phantom.neurites import Cells, Neurites

_RIBBON_SHARE = 0.5
_SECOND_SYNAPSE_SHARE = 0.3
RIBBON_HALF_NM = 16.0
RIBBON_FOOT_NM = 35.0
_MIN_RIBBON_NM = 80.0
# The synapse in the middle of a region runs through all of its sections.
_MIDDLE: dict[str, Any] = {"half_nm": 1e6, "ribbon_nm": 165.0, "vesicles": 500, "central": True}
_FOLLOW_NM = 250.0
_NEIGHBOURHOOD_NM = 70.0
_MIN_PROFILE_NM2 = 60000.0


@dataclass(frozen=True)
class Synapse:
    """One synapse in one section.

    Attributes:
        terminal: The presynaptic neurite.
        partner: The postsynaptic neurite.
        section: Index of the section.
        anchor_px: Where the active zone meets the cleft (y, x).
        inward: Unit vector (y, x) from there into the terminal.
        zone_nm: Half length of the active zone.
        ribbon_nm: Height of the ribbon over the membrane, 0 without one.
        vesicles: How many vesicles to try to place in its pool, per 50 nm of depth.
    """

    terminal: int
    partner: int
    section: int
    anchor_px: np.ndarray
    inward: np.ndarray
    zone_nm: float
    ribbon_nm: float
    vesicles: int

    @property
    def ribbon_ends_nm(self) -> tuple[np.ndarray, np.ndarray]:
        """Foot and top of the ribbon's axis, relative to the anchor in nm."""
        return self.inward * RIBBON_FOOT_NM, self.inward * max(self.ribbon_nm, RIBBON_FOOT_NM)


@dataclass(frozen=True)
class _Plan:
    """A synapse before it is followed through the sections; the rest as in `Synapse`."""

    terminal: int
    section: int  # index of the section in its middle
    half_nm: float  # half of its depth
    zone_nm: float
    ribbon_nm: float
    vesicles: int
    central: bool  # whether it is the synapse in the middle of the region


def find_synapses(
    rng: np.random.Generator,
    neurites: Neurites,
    cells: list[Cells],
    mitochondria: list[Mitochondria],
    drift_nm: np.ndarray,
    pixel_nm: float,
    section_nm: float,
) -> list[Synapse]:
    """Puts synapses on the membranes of the terminals; the first is that in the middle.

    Args:
        rng: Source of randomness.
        neurites: The neurites.
        cells: The cells of every section.
        mitochondria: The mitochondria of every section.
        drift_nm: Displacement of every section (n, 2).
        pixel_nm: Pixel size in nm.
        section_nm: Distance of sections in nm.
    """
    found = []
    for plan in _plan_synapses(rng, neurites, len(cells)):
        start = _pick_anchor(rng, cells[plan.section], plan, pixel_nm)
        if start is None:
            continue
        reach = int(plan.half_nm // section_nm)
        for index, anchor in _follow(cells, plan, start, drift_nm, pixel_nm):
            away = abs(index - plan.section) / (reach + 1)
            if away < 1:
                here = cells[index], mitochondria[index]
                size = float(np.sqrt(1 - away**2))
                found.append(_cut_synapse(*here, plan, index, anchor, size, pixel_nm))
    return found


def _plan_synapses(rng: np.random.Generator, neurites: Neurites, sections: int) -> list[_Plan]:
    plans = []
    for terminal in np.unique(neurites.number[neurites.terminal]).tolist():
        for turn in range(1 + int(rng.random() < _SECOND_SYNAPSE_SHARE)):
            drawn = _Plan(
                terminal=terminal,
                section=int(rng.integers(sections)),
                half_nm=rng.uniform(100, 350),
                zone_nm=rng.uniform(90, 170),
                ribbon_nm=rng.uniform(150, 230) * (rng.random() < _RIBBON_SHARE),
                vesicles=int(rng.integers(180, 480)),
                central=False,
            )
            if terminal == 0 and turn == 0:
                drawn = replace(drawn, section=sections // 2, **_MIDDLE)
            plans.append(drawn)
    return plans


def _cut_synapse(
    cells: Cells,
    mitochondria: Mitochondria,
    plan: _Plan,
    index: int,
    anchor: np.ndarray,
    size: float,
    pixel_nm: float,
) -> Synapse:
    """The synapse in a section where it has a share `size` of its full size."""
    synapse = Synapse(
        terminal=plan.terminal,
        partner=int(cells.partner[tuple(anchor)]),
        section=index,
        anchor_px=anchor,
        inward=_point_inward(cells, plan.terminal, anchor, pixel_nm),
        zone_nm=plan.zone_nm * size,
        ribbon_nm=plan.ribbon_nm * size,
        vesicles=int(plan.vesicles * size),
    )
    return replace(synapse, ribbon_nm=_fit_ribbon(cells, mitochondria, synapse, pixel_nm))


def _pick_anchor(
    rng: np.random.Generator, cells: Cells, plan: _Plan, pixel_nm: float
) -> np.ndarray | None:
    """Picks a pixel (y, x) on the terminal's boundary, at random or nearest to the middle."""
    inside = cells.owner == plan.terminal
    if inside.sum() * pixel_nm**2 < _MIN_PROFILE_NM2 and not plan.central:
        return None
    edge = np.argwhere(inside & (cells.boundary_nm < pixel_nm))
    if not len(edge):
        return None
    if plan.central:
        middle = np.array(cells.owner.shape) / 2 - 0.5
        return np.asarray(edge[np.argmin(np.hypot(*(edge - middle).T))])
    return np.asarray(edge[rng.integers(len(edge))])


def _follow(
    cells: list[Cells], plan: _Plan, start: np.ndarray, drift_nm: np.ndarray, pixel_nm: float
) -> list[tuple[int, np.ndarray]]:
    """Follows a pixel of a boundary up and down the sections, until the boundary ends."""
    track = [(plan.section, start)]
    partner = cells[plan.section].partner[tuple(start)]
    for direction in (1, -1):
        anchor, index = start, plan.section + direction
        while 0 <= index < len(cells):
            here = cells[index]
            anchor = anchor + (drift_nm[index] - drift_nm[index - direction]) / pixel_nm
            box, corner = cut_box(here.owner.shape, anchor, _FOLLOW_NM / pixel_nm)
            edge = np.argwhere(
                (here.owner[box] == plan.terminal)
                & (here.partner[box] == partner)
                & (here.boundary_nm[box] < pixel_nm)
            )
            if not len(edge):
                break
            edge = edge + corner
            anchor = edge[np.argmin(np.hypot(*(edge - anchor).T))]
            track.append((index, anchor))
            index += direction
    return track


def cut_box(
    shape: tuple[int, ...], middle: np.ndarray, reach: float
) -> tuple[tuple[slice, slice], np.ndarray]:
    """The square of pixels around a pixel, and its corner."""
    low = np.clip(np.floor(middle - reach).astype(int), 0, shape)
    high = np.clip(np.ceil(middle + reach).astype(int) + 1, 0, shape)
    return (slice(low[0], high[0]), slice(low[1], high[1])), low


def _point_inward(cells: Cells, terminal: int, anchor: np.ndarray, pixel_nm: float) -> np.ndarray:
    """Unit vector from a boundary pixel towards the inside of the terminal."""
    box, corner = cut_box(cells.owner.shape, anchor, _NEIGHBOURHOOD_NM / pixel_nm)
    inside = np.argwhere(cells.owner[box] == terminal) + corner
    vector = inside.mean(axis=0) - anchor
    length = float(np.hypot(*vector))
    return np.asarray(vector / length) if length > 0 else np.array([1.0, 0.0])


def _fit_ribbon(
    cells: Cells, mitochondria: Mitochondria, synapse: Synapse, pixel_nm: float
) -> float:
    """Height of a ribbon that there is room for; 0 where there is none for a recognisable one."""
    room = 0.0
    for height in np.arange(RIBBON_FOOT_NM, synapse.ribbon_nm, 5.0):
        y, x = np.rint(synapse.anchor_px + synapse.inward * height / pixel_nm).astype(int)
        if not (0 <= y < cells.owner.shape[0] and 0 <= x < cells.owner.shape[1]):
            break
        clear = cells.boundary_nm[y, x] > 30 and mitochondria.depth_nm[y, x] < -60
        if cells.owner[y, x] != synapse.terminal or not clear:
            break
        room = float(height)
    return room if room > _MIN_RIBBON_NM else 0.0
