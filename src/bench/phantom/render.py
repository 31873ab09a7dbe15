"""Images of a section in the two domains: contrast, optics and noise."""

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import gaussian_filter


@dataclass(frozen=True)
class _Domain:
    """How a microscope shows density.

    Attributes:
        bright: Grey value of density 0.
        contrast: Grey values between density 0 and 1.
        grain: Standard deviation of the texture of clear cytoplasm, in density.
        grain_nm: Size of its grains.
        blur_nm: Standard deviation of the point spread.
        noise: Standard deviation of noise, grey values.
        noise_nm: Correlation length of noise.
        fringe_nm: Period of the fringes at edges, 0 without.
        shading: Standard deviation of the uneven illumination, grey values.
    """

    bright: float
    contrast: float
    grain: float
    grain_nm: float
    blur_nm: float
    noise: float
    noise_nm: float
    fringe_nm: float
    shading: float


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
