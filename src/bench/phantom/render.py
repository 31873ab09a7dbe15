"""What a section looks like: how dense its pixels are, then contrast, optics and noise."""

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import gaussian_filter

from bench.phantom.scene import Scene, Section
from bench.phantom.synapses import RIBBON_HALF_NM, Synapse, cut_box
from bench.phantom.vesicles import list_disk_pixels

_CLEFT_HALF_NM = 3.0
_CLEFT_VARIATION_NM = 1.5
_LEAFLET_NM = 9.0
_CRISTA_PERIOD_NM = 42.0
_CRISTA_HALF_NM = 5.5
_RIM_NM = 7.0
_DENSITY_NM = 26.0
_TETHER_HALF_NM = 2.5


@dataclass(frozen=True)
class _Domain:
    """How a microscope shows density."""

    bright: float  # grey value of density 0
    contrast: float  # grey values between density 0 and 1
    grain: float  # standard deviation of the texture of clear cytoplasm, in density
    grain_nm: float  # size of its grains
    blur_nm: float  # standard deviation of the point spread
    noise: float  # standard deviation of noise, grey values
    noise_nm: float  # correlation length of noise
    fringe_nm: float  # period of the fringes at edges, 0 without
    shading: float  # standard deviation of the uneven illumination, grey values


DOMAINS: dict[str, _Domain] = {
    "resin": _Domain(205.0, 168.0, 0.115, 7.0, 3.0, 10.0, 2.0, 0.0, 4.0),
    "cryo": _Domain(152.0, 66.0, 0.06, 9.0, 3.5, 12.5, 5.5, 38.0, 6.0),
}


def render_section(
    density: np.ndarray, domain: _Domain, pixel_nm: float, rng: np.random.Generator
) -> np.ndarray:
    """Makes an image of a density (y, x); uint8."""
    grain = _colour_noise(rng, density.shape, domain.grain_nm / pixel_nm)
    specks = grain + 0.5 * np.maximum(grain, 0) ** 2 - 0.25
    stained = density + domain.grain * specks * np.clip(1.15 - density, 0, 1)
    stained = gaussian_filter(stained, domain.blur_nm / pixel_nm)
    if domain.fringe_nm:
        stained = _apply_transfer(stained, domain.fringe_nm / pixel_nm)
    gain, offset = rng.normal(1, 0.05), rng.normal(0, 4)
    image = domain.bright + offset - gain * domain.contrast * stained
    image += domain.noise * _colour_noise(rng, density.shape, domain.noise_nm / pixel_nm)
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in density.shape)
    slopes = rng.normal(0, domain.shading, 3).astype(np.float32)
    image += slopes[0] * y[:, None] + slopes[1] * x + slopes[2] * (y[:, None] ** 2 + x**2 - 0.67)
    return np.asarray(np.clip(np.rint(image), 0, 255).astype(np.uint8))


def _colour_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma_px: float) -> np.ndarray:
    """Gaussian noise of unit variance, correlated over a length; float32."""
    white = rng.standard_normal(shape, dtype=np.float32)
    if sigma_px < 0.3:
        return white
    smooth = gaussian_filter(white, sigma_px, mode="wrap", truncate=3)
    return np.asarray(smooth / max(float(smooth.std()), 1e-6))


def _apply_transfer(stained: np.ndarray, period_px: float) -> np.ndarray:
    """Filters like a defocused phase-contrast transfer function: fringes along every edge.

    The first zero lies at half the period; amplitude contrast keeps some of the mean, and an
    envelope ends the oscillation.
    """
    margin = int(2 * period_px) + 1
    shape = [next_fast_len(n + 2 * margin, real=True) for n in stained.shape]
    ends = [(margin, m - n - margin) for m, n in zip(shape, stained.shape, strict=True)]
    padded = np.pad(stained, ends, mode="reflect")
    ky = np.fft.fftfreq(shape[0]).astype(np.float32)[:, None]
    kx = np.fft.rfftfreq(shape[1]).astype(np.float32)
    square = (ky**2 + kx**2) * np.float32((period_px / 2) ** 2)
    transfer = np.sin(np.pi * square + 0.45) * np.exp(-square / 3) / np.sin(0.45)
    filtered = irfft2(rfft2(padded) * transfer.astype(np.float32), s=shape)
    inner = tuple(slice(margin, margin + n) for n in stained.shape)
    return np.asarray(filtered[inner], dtype=np.float32)


def _cleft_half_nm(section: Section) -> np.ndarray:
    """Half width of the space between neurites (y, x), nm."""
    variation = np.clip(section.fillings["coarse"], -1.5, 1.5)
    return np.asarray(_CLEFT_HALF_NM + _CLEFT_VARIATION_NM * variation)


def membrane_half_nm(section: Section, pixel_nm: float) -> np.ndarray:
    """Half width of a boundary with both membranes (y, x), at least 0.8 px so that it closes."""
    return np.maximum(_cleft_half_nm(section) + _LEAFLET_NM, 0.8 * pixel_nm)


def _cover(depth_nm: np.ndarray, pixel_nm: float) -> np.ndarray:
    """Share of a pixel (0 to 1) inside a surface at the given distance, positive inside."""
    share = depth_nm / np.float32(max(pixel_nm, 2.5)) + np.float32(0.5)
    return np.asarray(np.clip(share, 0, 1))


def stain_section(scene: Scene, section: Section) -> np.ndarray:
    """Density of a section; float32 (y, x)."""
    pixel = scene.pixel_nm
    cells = section.cells
    density = np.asarray(scene.tone[cells.owner])
    density += 0.025 * section.fillings["medium"] + 0.03 * section.fillings["fine"]
    _add_reticulum(density, section, pixel)
    _add_membranes(density, section, pixel)
    for synapse in section.synapses:
        _add_densities(density, section, synapse, pixel)
    _add_mitochondria(density, section, pixel)
    for synapse in section.synapses:
        _add_ribbon(density, synapse, pixel)
    _add_vesicles(density, scene, section)
    return density


def _lay(density: np.ndarray, share: np.ndarray, level: float | np.ndarray) -> None:
    """Replaces a share of every pixel by a level, in place."""
    density += share * (np.asarray(level, dtype=np.float32) - density)


def _add_reticulum(density: np.ndarray, section: Section, pixel_nm: float) -> None:
    """Endoplasmic reticulum: thin cisterns, cut out of smooth functions."""
    sheet = section.fillings["medium"]
    slope = np.hypot(*np.gradient(sheet, pixel_nm)) + np.float32(1e-3)
    depth = 13 - np.abs(sheet) / slope
    room = np.minimum(section.cells.boundary_nm - 45, -section.mitochondria.depth_nm - 25)
    depth = np.minimum(depth, np.minimum(room, (section.fillings["coarse"] - 0.75) * 120))
    _lay(density, _cover(depth, pixel_nm) * 0.8, 0.75)
    _lay(density, _cover(depth - 8, pixel_nm), 0.06)


def _add_membranes(density: np.ndarray, section: Section, pixel_nm: float) -> None:
    """The two membranes along every boundary, and the space between them."""
    cleft = _cleft_half_nm(section)
    boundary = section.cells.boundary_nm
    oblique = 6 + 26 * np.maximum(section.fillings["coarse"] - 0.6, 0)
    outside = boundary - membrane_half_nm(section, pixel_nm)
    _lay(density, np.exp(-np.maximum(outside, 0) / oblique) * 0.45, 0.8)
    _lay(density, _cover(-outside, pixel_nm), 0.95)
    _lay(density, _cover(cleft - boundary, pixel_nm), 0.6)


def _add_densities(
    density: np.ndarray, section: Section, synapse: Synapse, pixel_nm: float
) -> None:
    """The dark material on both sides of an active zone, thicker on the postsynaptic side."""
    reach = (synapse.zone_nm + 60) / pixel_nm
    box, _ = cut_box(density.shape, synapse.anchor_px, reach)
    cells = section.cells
    y, x = np.ogrid[box]
    distance = pixel_nm * np.hypot(y - synapse.anchor_px[0], x - synapse.anchor_px[1])
    within = _cover((synapse.zone_nm - distance) / 4, pixel_nm)
    boundary = cells.boundary_nm[box]
    pair = (synapse.terminal, synapse.partner)
    for own, other, thick in ((*pair, 0.45), (*pair[::-1], 1.0)):
        side = (cells.owner[box] == own) & (cells.partner[box] == other)
        fall = np.exp(-np.maximum(boundary - 12, 0) / (_DENSITY_NM * thick))
        _lay(density[box], side * within * fall * 0.85, 0.95)


def _add_mitochondria(density: np.ndarray, section: Section, pixel_nm: float) -> None:
    """Outer and inner membrane, a grey matrix and lamellar cristae."""
    depth = section.mitochondria.depth_nm
    _lay(density, _cover(depth, pixel_nm), 0.88)
    _lay(density, _cover(depth - 7, pixel_nm), 0.45)
    _lay(density, _cover(depth - 11, pixel_nm), 0.8)
    matrix = 0.5 + 0.05 * section.fillings["medium"]
    _lay(density, _cover(depth - 17, pixel_nm), matrix)
    rows, columns = np.nonzero(depth > 10)
    inner = depth[rows, columns]
    phase = section.mitochondria.along[rows, columns] / np.float32(_CRISTA_PERIOD_NM)
    phase += np.float32(0.55) * section.fillings["fine"][rows, columns]
    line = np.abs(phase - np.rint(phase)) * np.float32(_CRISTA_PERIOD_NM)
    broken = (section.fillings["medium"][rows, columns] + np.float32(0.9)) * 25
    crista = np.minimum(np.minimum(_CRISTA_HALF_NM - line, inner - 12), broken)
    values = density[rows, columns]
    _lay(values, _cover(crista, pixel_nm), 0.82)
    density[rows, columns] = values


def _add_ribbon(density: np.ndarray, synapse: Synapse, pixel_nm: float) -> None:
    """The ribbon: a rounded bar that stands on the active zone."""
    if not synapse.ribbon_nm:
        return
    foot, top = synapse.ribbon_ends_nm
    _lay_bar(density, synapse.anchor_px, (foot, top), RIBBON_HALF_NM, 0.98, pixel_nm)
    _lay_bar(density, synapse.anchor_px, (foot * 0.3, foot), RIBBON_HALF_NM * 0.6, 0.8, pixel_nm)


def _lay_bar(
    density: np.ndarray,
    origin_px: np.ndarray,
    ends_nm: tuple[np.ndarray, np.ndarray],
    half_nm: float,
    level: float,
    pixel_nm: float,
) -> None:
    """Draws a straight bar with round ends, given relative to a pixel."""
    start, end = (origin_px + end / pixel_nm for end in ends_nm)
    reach = np.hypot(*(end - start)) / 2 + half_nm / pixel_nm + 2
    box, _ = cut_box(density.shape, (start + end) / 2, reach)
    y, x = np.ogrid[box]
    span = end - start
    length = max(float(span @ span), 1e-6)
    position = np.clip(((y - start[0]) * span[0] + (x - start[1]) * span[1]) / length, 0, 1)
    distance = np.hypot(y - start[0] - position * span[0], x - start[1] - position * span[1])
    _lay(density[box], _cover(half_nm - pixel_nm * distance, pixel_nm), level)


def _add_vesicles(density: np.ndarray, scene: Scene, section: Section) -> None:
    """Tethers, then vesicles with a dark rim and a clear lumen."""
    pixel = scene.pixel_nm
    profiles = scene.spheres.cut(section.z_nm, section.drift_nm)
    seen = profiles.radius_nm > 0
    for row in np.flatnonzero(seen & np.isfinite(profiles.tether_nm[:, 0])):
        ends = profiles.tether_nm[row], profiles.centre_nm[row]
        _lay_bar(density, np.zeros(2), ends, _TETHER_HALF_NM, 0.55, pixel)
    inner = np.maximum(scene.spheres.radius_nm - _RIM_NM, 0)
    lumen = np.sqrt(np.maximum(inner**2 - profiles.off_nm**2, 0))
    outer_depth, lumen_depth = (
        _measure_disks(density.shape, profiles.centre_nm[seen], radius[seen], pixel)
        for radius in (profiles.radius_nm, lumen)
    )
    _lay(density, _cover(outer_depth, pixel), 0.95)
    _lay(density, _cover(lumen_depth, pixel) * (lumen_depth > -10), 0.1)


def _measure_disks(
    shape: tuple[int, ...], centre_nm: np.ndarray, radius_nm: np.ndarray, pixel_nm: float
) -> np.ndarray:
    """Distance into the deepest of some disks (y, x), nm; far outside all of them -1e4."""
    depth = np.full(shape, -1e4, dtype=np.float32)
    pixels, _, depths = list_disk_pixels(shape, centre_nm, radius_nm, pixel_nm)
    np.maximum.at(depth.ravel(), pixels, depths)
    return depth
