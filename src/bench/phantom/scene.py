"""The tissue of one region: everything that is true of it, before an image is made."""

from dataclasses import dataclass

import numpy as np

from bench.phantom.mitochondria import Mitochondria, cut_mitochondria, place_mitochondria
from bench.phantom.neurites import Cells, Neurites, cut_cells, grow_neurites, make_field
from bench.phantom.synapses import Synapse, find_synapses
from bench.phantom.vesicles import Spheres, place_vesicles

# Standard deviation of the step between sections that alignment left over, nm.
_DRIFT_NM = 9.0
# Lattice spacings of the functions that decide what fills cells, nm.
_FILLINGS_NM = {"coarse": 420.0, "medium": 170.0, "fine": 75.0}


@dataclass(frozen=True)
class Section:
    """What one plane cuts.

    Attributes:
        z_nm: Its depth.
        drift_nm: Its displacement (y, x).
        cells: The neurites.
        mitochondria: The mitochondria.
        synapses: The synapses.
        fillings: Smooth functions (y, x) per name of ``_FILLINGS_NM``.
    """

    z_nm: float
    drift_nm: np.ndarray
    cells: Cells
    mitochondria: Mitochondria
    synapses: list[Synapse]
    fillings: dict[str, np.ndarray]


@dataclass(frozen=True)
class Scene:
    """A series of sections.

    Attributes:
        sections: The sections.
        spheres: The vesicles in space.
        tone: Stain of each neurite's cytoplasm (n,), 0 clear to 1 black.
        drift_nm: Displacement of every section (n, 2) as y, x.
        pixel_nm: Pixel size.
    """

    sections: list[Section]
    spheres: Spheres
    tone: np.ndarray
    drift_nm: np.ndarray
    pixel_nm: float


def build_scene(
    *, shape: tuple[int, int, int], pixel_nm: float, section_nm: float, seed: int
) -> Scene:
    """Grows the tissue of a region with a synapse in its middle.

    Args:
        shape: Sections, height and width in px.
        pixel_nm: Pixel size in nm.
        section_nm: Distance of sections in nm.
        seed: Random seed.
    """
    rng = np.random.default_rng([seed, 0])
    depth, height, width = shape[0] * section_nm, shape[1] * pixel_nm, shape[2] * pixel_nm
    middle = np.array([shape[0] // 2 * section_nm, height / 2, width / 2])
    neurites = grow_neurites(rng, (depth, height, width), middle)
    ellipsoids = place_mitochondria(rng, neurites, depth, middle)
    fields = {
        name: make_field(rng, (depth, height, width), spacing)
        for name, spacing in _FILLINGS_NM.items()
    }
    drift = _draw_drift(rng, shape[0])
    tone = _draw_tones(rng, neurites)

    cells, organelles, fillings = [], [], []
    for index in range(shape[0]):
        z = index * section_nm
        y, x = _pixel_axes(shape, pixel_nm, drift[index])
        cells.append(cut_cells(neurites, z, y, x))
        organelles.append(cut_mitochondria(ellipsoids, neurites, cells[-1], z, pixel_nm))
        fillings.append({name: field.plane(z, y, x) for name, field in fields.items()})
    stack = neurites, cells, organelles
    synapses = find_synapses(rng, *stack, drift, pixel_nm, section_nm)
    spheres = place_vesicles(rng, *stack, synapses, drift, pixel_nm, section_nm)
    sections = []
    for index, parts in enumerate(zip(cells, organelles, strict=True)):
        here = [synapse for synapse in synapses if synapse.section == index]
        z = index * section_nm
        sections.append(Section(z, drift[index], *parts, here, fillings[index]))
    return Scene(sections, spheres, tone, drift, pixel_nm)


def _draw_drift(rng: np.random.Generator, sections: int) -> np.ndarray:
    """A random walk (n, 2) as y, x in nm, zero in the middle section."""
    drift = np.cumsum(rng.normal(0, _DRIFT_NM, (sections, 2)), axis=0)
    return np.asarray(drift - drift[sections // 2])


def _pixel_axes(
    shape: tuple[int, int, int], pixel_nm: float, drift_nm: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the pixel centres y and x of a displaced section, nm."""
    y, x = ((np.arange(n) + 0.5) * pixel_nm for n in shape[1:])
    return y - drift_nm[0], x - drift_nm[1]


def _draw_tones(rng: np.random.Generator, neurites: Neurites) -> np.ndarray:
    """Stain of every neurite's cytoplasm: terminals grey, a few glial profiles dark."""
    count = len(neurites.number)
    tone = rng.uniform(0.06, 0.22, count)
    tone[neurites.terminal] += 0.08
    glia = (rng.random(count) < 0.12) & (neurites.radius_nm < 160)
    tone[glia] += rng.uniform(0.15, 0.35, count)[glia]
    return np.asarray(tone[neurites.number], dtype=np.float32)
