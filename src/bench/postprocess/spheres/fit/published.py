"""Centre and radius of a vesicle as published: on whole voxels, with the radius a third too large.

The cube around a vesicle is correlated with its own rotational average, without a norm, and its
centre moves by the peak's whole voxels; the radius is a place of the profile's second difference.
"""

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import correlate

_MOST_CYCLES = 10
# Shares of the profile between which the membrane and its halo lie.
_INNER, _MEMBRANE, _HALO = 0.1, 0.75, 0.7


def fit_as_published(
    raw: np.ndarray, start: np.ndarray, radius: float, margin: float, mean: float
) -> np.ndarray:
    """Refines a sphere as published.

    Args:
        raw: The whole image (z, y, x); of one plane the sphere is a circle.
        start: Where its centre may be (z, y, x).
        radius: How large it may be, in voxels.
        margin: Voxels around it that are looked at.
        mean: Grey value that is taken for 0.

    Returns:
        A row as FIT_FIELDS names it, float64 (10,), with what is not known as 0.
    """
    centre, size, still = np.rint(start).astype(int), int(radius), 0
    found = np.zeros(10)
    for _ in range(_MOST_CYCLES):
        cube, middle = _cut(raw, centre, size + int(margin), mean)
        if cube.size == 0:
            return np.zeros(10)
        distances = _distances(cube.shape, middle)
        average = _profile(cube, distances)[distances]
        likeness = correlate(cube, average, mode="full", method="fft")
        peak = np.array(np.unravel_index(np.argmax(likeness), likeness.shape))
        shift = peak - (np.array(cube.shape) - 1)
        centre = centre + shift
        cube, middle = _cut(raw, centre, size + int(margin), mean)
        if cube.size == 0:
            return np.zeros(10)
        profile = _profile(cube, _distances(cube.shape, middle))
        places = _find_places(profile)
        if places is None:
            return np.zeros(10)
        membrane, size = places
        thickness, density = 2 * (size - membrane), profile[membrane] + mean
        found[:] = (*centre, 0, size, thickness, density, 0, 0, 1)
        still = still + 1 if not shift.any() else 0
        if still == 2:
            break
    return found


def _cut(
    raw: np.ndarray, centre: np.ndarray, reach: int, mean: float
) -> tuple[np.ndarray, np.ndarray]:
    """The cube around a centre, as far as there is an image, and the centre's place in it."""
    low = np.maximum(centre - reach, 0)
    high = np.minimum(centre + reach + 1, raw.shape)
    if (low >= high).any() or (centre < 0).any() or (centre >= raw.shape).any():
        return np.zeros((0, 0, 0)), centre
    z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return raw[z, y, x].astype(np.float64) - mean, centre - low


def _distances(shape: tuple[int, ...], middle: np.ndarray) -> np.ndarray:
    """Whole distances from a voxel, rounded down, int64."""
    z, y, x = (np.arange(size) - place for size, place in zip(shape, middle, strict=True))
    squares = (z * z)[:, None, None] + (y * y)[None, :, None] + (x * x)[None, None, :]
    return np.asarray(np.sqrt(squares), dtype=np.int64)


def _profile(cube: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Mean grey value at each whole distance."""
    numbers = np.bincount(distances.reshape(-1))
    return np.asarray(np.bincount(distances.reshape(-1), cube.reshape(-1)) / np.maximum(numbers, 1))


def _find_places(profile: np.ndarray) -> tuple[int, int] | None:
    """Places of the membrane and of the radius; None where a range is empty."""
    length = profile.size
    inner, outer = int(_INNER * length), int(_MEMBRANE * length)
    if outer <= inner:
        return None
    membrane = inner + int(np.argmin(profile[inner:outer]))
    beyond = profile[membrane : int(_HALO * length)]
    if beyond.size == 0:
        return None
    halo = membrane + int(np.argmax(beyond))
    # One below the radius, as the first place of a second difference belongs to the second.
    bends = gaussian_filter1d(np.diff(profile, 2), 1.0)[membrane:halo]
    return (membrane, membrane + int(np.argmin(bends))) if bends.size else None
