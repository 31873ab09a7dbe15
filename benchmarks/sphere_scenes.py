"""Vesicles of known places and sizes in synthetic images, to measure and test spheres with."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter


@dataclass(frozen=True, eq=False)
class SphereScene:
    """An image of vesicles and the truth about it.

    Attributes:
        raw: Image, float32, mean 0 and deviation 1.
        labels: Ids 1 .. n of the vesicles, int32.
        centres: Float64 (n, axes), voxels.
        radii: To the outer edge of the membrane, float64 (n,), voxels.
    """

    raw: np.ndarray
    labels: np.ndarray
    centres: np.ndarray
    radii: np.ndarray


def draw_scene(
    shape: tuple[int, ...],
    number: int,
    *,
    seed: int,
    radii: tuple[float, float] = (8.0, 11.0),
    membrane: float = 2.0,
    halo: float = 0.3,
    noise: float = 0.3,
    blur: float = 1.0,
    tilt_deg: float | None = None,
) -> SphereScene:
    """Draws vesicles that do not overlap: lumen 0, membrane -1, outside 0.2 and a halo around them.

    Args:
        shape: Voxels of the image, (z, y, x) or (y, x).
        number: Vesicles; fewer where no room is found.
        seed: Of all that is random.
        radii: The smallest and the largest.
        membrane: Its thickness.
        halo: How much brighter the two voxels around a vesicle are.
        noise: Deviation of the noise, before the blur.
        blur: Deviation of the blur.
        tilt_deg: Largest tilt; directions beyond are missing. None is all directions.
    """
    rng = np.random.default_rng(seed)
    centres, sizes = _place(rng, shape, number, radii)
    raw, labels = np.full(shape, 0.2, np.float32), np.zeros(shape, np.int32)
    for width, value in ((2.0, 0.2 + halo), (0.0, -1.0), (-membrane, 0.0)):
        for place, (centre, radius) in enumerate(zip(centres, sizes, strict=True), start=1):
            box, squares = _ball(shape, centre, radius + width)
            raw[box][squares <= (radius + width) ** 2] = value
            if width == 0:
                labels[box][squares <= radius**2] = place
    raw += noise * rng.standard_normal(shape, dtype=np.float32)
    if tilt_deg is not None:
        raw = remove_wedge(raw, tilt_deg)
    raw = gaussian_filter(raw, blur)
    raw = (raw - raw.mean()) / raw.std()
    return SphereScene(raw.astype(np.float32), labels, centres, sizes)


def _place(
    rng: np.random.Generator, shape: tuple[int, ...], number: int, radii: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Centres and radii of balls one after the other, wherever there is room."""
    centres, sizes = np.zeros((0, len(shape))), np.zeros(0)
    for _ in range(1000 * number):
        radius = rng.uniform(*radii)
        centre = rng.uniform(radius + 1, np.array(shape) - radius - 1)
        if (np.linalg.norm(centres - centre, axis=1) > sizes + radius).all():
            centres, sizes = np.vstack([centres, centre]), np.append(sizes, radius)
        if len(sizes) == number:
            break
    return centres, sizes


def _ball(
    shape: tuple[int, ...], centre: np.ndarray, radius: float
) -> tuple[tuple[slice, ...], np.ndarray]:
    """The box around a ball, and the squared distances to its centre there."""
    low = np.maximum(np.ceil(centre - radius), 0).astype(int)
    high = np.minimum(np.floor(centre + radius) + 1, shape).astype(int)
    box = tuple(slice(a, max(a, b)) for a, b in zip(low, high, strict=True))
    axes = np.ix_(*(np.arange(s.start, s.stop) - c for s, c in zip(box, centre, strict=True)))
    return box, sum(axis**2 for axis in axes)


def remove_wedge(volume: np.ndarray, tilt_deg: float) -> np.ndarray:
    """Removes the directions that a tilt series around y does not see; z is the beam."""
    spectrum = np.fft.rfftn(volume)
    z = np.abs(np.fft.fftfreq(volume.shape[0]))[:, None, None]
    x = np.fft.rfftfreq(volume.shape[2])[None, None, :]
    spectrum *= z <= x * np.tan(np.radians(tilt_deg)) + 1e-9
    return np.fft.irfftn(spectrum, s=volume.shape, axes=(0, 1, 2)).astype(np.float32)


def blur_probability(labels: np.ndarray, blur: float) -> np.ndarray:
    """What a network may say of vesicles: their mask, blurred, as uint8 levels."""
    return np.rint(255 * gaussian_filter((labels > 0).astype(np.float32), blur)).astype(np.uint8)


def move_starts(
    scene: SphereScene, *, shift: float, resize: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Centres moved by a distance in any direction, and radii wrong by so much, up or down."""
    rng = np.random.default_rng(seed)
    ways = rng.standard_normal(scene.centres.shape)
    ways *= shift / np.linalg.norm(ways, axis=1, keepdims=True)
    return scene.centres + ways, scene.radii + resize * rng.choice([-1.0, 1.0], scene.radii.size)
