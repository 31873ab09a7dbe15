"""One tomogram and the truth about it."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.fft import next_fast_len

from bench.core.memory import check_memory
from bench.phantom.tomogram.density import render_density
from bench.phantom.tomogram.microscope import image_density
from bench.phantom.tomogram.scene import MEMBRANE_NM, TomogramScene, TomogramSettings, draw_scene

# Rendered around a tomogram on each side: the reach of a halo, which then does not wrap around.
_MARGIN_NM = 50.0
# Taken while a tomogram is made, a voxel, its margin included.
_BYTES = 60


@dataclass(frozen=True, eq=False)
class Tomogram:
    """A synthetic tomogram.

    Attributes:
        raw: Grey values (z, y, x), float32: deviation 1 without noise, membranes dark.
        labels: Ids (z, y, x) of vesicles, mitochondria and active_zone, uint16; 0 is background. A
            vesicle's id is its row in the scene, from 1; its voxels are those whose centre is in
            its ball.
        scene: What it shows, in nm.
    """

    raw: np.ndarray
    labels: dict[str, np.ndarray]
    scene: TomogramScene

    @property
    def centres(self) -> np.ndarray:
        """Centres of the vesicles (n, 3) as z, y, x in voxels; that of the first voxel is 0."""
        return np.asarray(self.scene.balls.centres_nm / self.scene.settings.voxel_nm)

    @property
    def radii(self) -> np.ndarray:
        """Outer radii of the vesicles (n,) in voxels."""
        return np.asarray(self.scene.balls.radii_nm / self.scene.settings.voxel_nm)

    @cached_property
    def cut(self) -> np.ndarray:
        """Whether each vesicle (n,) reaches beyond the outermost voxels."""
        low = self.centres - self.radii[:, None]
        high = self.centres + self.radii[:, None]
        beyond = (low < -0.5) | (high > np.array(self.raw.shape) - 0.5)
        return np.asarray(beyond.any(axis=1))


def make_tomogram(settings: TomogramSettings, seed: int) -> Tomogram:
    """Makes a tomogram of a presynapse.

    Args:
        settings: What it is like.
        seed: Random seed; the scene and its grain do not depend on tilt and noise.

    Raises:
        BenchError: If the vesicles that were asked for do not fit, or memory is short.
    """
    margin = int(np.ceil(_MARGIN_NM / settings.voxel_nm))
    shape = tuple(next_fast_len(n + 2 * margin, real=True) for n in settings.shape)
    size = " x ".join(map(str, settings.shape))
    check_memory(_BYTES * math.prod(shape), f"a tomogram of {size}", "lower size_px or planes")
    rngs = [np.random.default_rng([seed, part]) for part in range(3)]
    scene = draw_scene(settings, rngs[0])
    image = image_density(
        render_density(scene, rngs[1], shape=shape, corner=margin),
        rngs[2],
        voxel_nm=settings.voxel_nm,
        tilt_deg=settings.tilt_deg,
        noise=settings.noise,
    )
    z, y, x = (slice(margin, margin + n) for n in settings.shape)
    return Tomogram(np.ascontiguousarray(image[z, y, x]), _paint_labels(scene), scene)


def _paint_labels(scene: TomogramScene) -> dict[str, np.ndarray]:
    settings = scene.settings
    voxel = settings.voxel_nm
    steps = [np.arange(n, dtype=np.float32) * np.float32(voxel) for n in settings.shape]
    axes = steps[0][:, None, None], steps[1][:, None], steps[2]
    # At least three voxels thick, so that it is one piece.
    half_nm = max(MEMBRANE_NM / 2, 1.5 * voxel)
    near = np.abs(scene.zone.height(*axes)) <= half_nm
    zone = near & (scene.zone.distance(*axes) <= scene.zone.radius_nm)
    return {
        "vesicles": _paint_balls(settings.shape, scene.balls.centres_nm / voxel,
                                 scene.balls.radii_nm / voxel),
        "mitochondria": (scene.mitochondrion.depth(*axes) >= 0).astype(np.uint16),
        "active_zone": zone.astype(np.uint16),
    }  # fmt: skip


def _paint_balls(shape: tuple[int, int, int], centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Paints balls (n,) in voxels by their row from 1, where the centre of a voxel is inside."""
    ids = np.zeros(shape, np.uint16)
    for number, (centre, radius) in enumerate(zip(centres, radii, strict=True), start=1):
        low = np.maximum(np.ceil(centre - radius), 0).astype(int)
        high = np.minimum(np.floor(centre + radius), np.array(shape) - 1).astype(int) + 1
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        offsets = (np.arange(a, b) - c for a, b, c in zip(low, high, centre, strict=True))
        z, y, x = np.ix_(*offsets)
        ids[box][z**2 + y**2 + x**2 <= radius**2] = number
    return ids
