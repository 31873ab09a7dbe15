"""What a tilt series keeps of a density: phase contrast, a wedge of directions, and noise."""

import math

import numpy as np
from scipy.fft import irfftn, rfftn

# Of electrons of 300 kV.
_WAVELENGTH_NM = 0.00197
_DEFOCUS_NM = 6000.0
_AMPLITUDE_CONTRAST = 0.1
# Standard deviation of the point spread after denoising, in voxels.
_BLUR_PX = 0.7


def image_density(
    density: np.ndarray,
    rng: np.random.Generator,
    *,
    voxel_nm: float,
    tilt_deg: float,
    noise: float,
) -> np.ndarray:
    """Makes the tomogram of a density, as if it were repeated beyond its faces.

    Every projection has the same transfer function of spatial frequency, so that the volume that
    is made of them by weighted back-projection has it in every direction that was seen. Noise comes
    from the projections and has no other directions.

    Args:
        density: Density (z, y, x); z is the beam and y the tilt axis.
        rng: Source of noise.
        voxel_nm: Edge of a voxel in nm.
        tilt_deg: Largest tilt to both sides.
        noise: Standard deviation of noise over that of what is seen without it.

    Returns:
        float32 (z, y, x): bright where nothing is, mean 0, and without noise of deviation 1.
    """
    shape = density.shape
    seen = find_seen(shape, tilt_deg)
    square = _square_frequency(shape)
    blur = np.exp(np.float32(-2 * (math.pi * _BLUR_PX) ** 2) * square) * seen
    spectrum = rfftn(density, workers=-1)
    spectrum *= blur
    spectrum *= -transfer_of(np.sqrt(square) / np.float32(voxel_nm))
    spectrum[0, 0, 0] = 0
    image = irfftn(spectrum, s=shape, workers=-1)
    image /= image.std()
    if noise:
        spectrum = rfftn(rng.standard_normal(shape, dtype=np.float32), workers=-1)
        spectrum *= blur
        spectrum[0, 0, 0] = 0
        grain = irfftn(spectrum, s=shape, workers=-1)
        image += np.float32(noise / grain.std()) * grain
    return np.asarray(image, np.float32)


def find_seen(shape: tuple[int, ...], tilt_deg: float) -> np.ndarray:
    """Which frequencies (z, y, half of x), as `rfftn` orders them, a tilt series measures.

    A projection at tilt t about y measures the plane kz = kx tan(t), whatever ky is.

    Args:
        shape: Voxels (z, y, x), which are cubes.
        tilt_deg: Largest tilt to both sides; 90 misses nothing.
    """
    kz, _, kx = _frequencies(shape)
    if tilt_deg >= 90:
        return np.ones((shape[0], shape[1], len(kx)), bool)
    seen = np.abs(kz) <= math.tan(math.radians(tilt_deg)) * np.abs(kx)
    return np.broadcast_to(seen, (shape[0], shape[1], len(kx)))


def transfer_of(frequency: np.ndarray) -> np.ndarray:
    """The transfer of density at spatial frequencies in 1/nm, with its phase made positive.

    sin(pi lambda dz k**2 + asin(A)), where spherical aberration is left out, which at such defocus
    turns the phase by less than a thousandth below 0.3/nm. Long waves pass only as amplitude
    contrast A: around every membrane is a bright halo.

    Examples:
        >>> transfer_of(np.array([0.0, 0.2])).round(2).tolist()
        [0.1, 1.0]
    """
    phase = np.float32(math.pi * _WAVELENGTH_NM * _DEFOCUS_NM) * frequency**2
    return np.asarray(np.abs(np.sin(phase + np.float32(math.asin(_AMPLITUDE_CONTRAST)))))


def _frequencies(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frequencies along z, y and x in 1/voxel, which broadcast."""
    z, y = (np.fft.fftfreq(n).astype(np.float32) for n in shape[:2])
    return z[:, None, None], y[:, None], np.fft.rfftfreq(shape[2]).astype(np.float32)


def _square_frequency(shape: tuple[int, ...]) -> np.ndarray:
    kz, ky, kx = _frequencies(shape)
    return np.asarray(kz**2 + ky**2 + kx**2)
