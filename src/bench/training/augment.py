"""Augmentation of a whole batch at once: rotation, flip, elastic deformation, noise."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

# Distance of the control points of the elastic deformation, px.
ELASTIC_SPACING_PX = 32
# Largest displacement in deviations: two, at which they are clipped, times the overshoot of
# bicubic interpolation, which is at most 1.375 along each axis.
ELASTIC_REACH = 4


@dataclass(frozen=True)
class Augmentation:
    """What is done to a patch.

    Attributes:
        rotate: Half of the patches by any angle, the others by a multiple of 90 degrees.
        flip: Half of the patches are mirrored.
        elastic_px: Standard deviation (px) of the displacement of control points 32 px apart, at
            its strongest; each patch draws its own strength, and half of them have none.
        noise: Largest standard deviation of Gaussian noise; each patch draws its own up to it.
    """

    rotate: bool
    flip: bool
    elastic_px: float
    noise: float


def augment_windows(
    image: torch.Tensor,
    mask: torch.Tensor,
    *,
    patch_px: int,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cuts a transformed patch out of the middle of each window, in one resampling.

    Args:
        image: Windows (batch, 1, edge, edge), with ``edge`` even.
        mask: Windows of the target (batch, channels, edge, edge).
        patch_px: Edge of the patches, even.
        augmentation: What to do.
        rng: The only source of randomness.

    Returns:
        Patches (batch, 1, patch_px, patch_px) and targets (batch, channels, patch_px, patch_px).
        The target is sampled at the nearest pixel, all channels alike; multiples of 90 degrees
        without deformation only move pixels, to within the rounding of float32 coordinates.
    """
    batch, edge = image.shape[0], image.shape[-1]
    matrices = torch.from_numpy(draw_matrices(batch, augmentation, rng)).to(image)
    axis = torch.arange(patch_px, device=image.device, dtype=image.dtype) - (patch_px - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    offsets = torch.stack([x, y], dim=-1).reshape(1, -1, 2) @ matrices.transpose(1, 2)
    grid = offsets.reshape(batch, patch_px, patch_px, 2)
    if augmentation.elastic_px > 0:
        grid = grid + draw_displacement(batch, patch_px, augmentation, rng).to(image)
    grid = grid * (2 / (edge - 1))
    image = functional.grid_sample(image, grid, mode="bilinear", align_corners=True)
    mask = functional.grid_sample(mask, grid, mode="nearest", align_corners=True)
    if augmentation.noise > 0:
        image = add_noise(image, augmentation.noise, rng)
    return image, mask


def draw_matrices(batch: int, augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Draws a rotation and flip for each patch, (batch, 2, 2) float32."""
    right = rng.integers(4, size=batch) * (math.pi / 2)
    free = rng.random(batch) * (2 * math.pi)
    angle = np.where(rng.random(batch) < 0.5, right, free) if augmentation.rotate else 0 * free
    mirrored = np.where(rng.random(batch) < 0.5, -1.0, 1.0) if augmentation.flip else 1 + 0 * free
    cosine, sine = np.cos(angle), np.sin(angle)
    matrices = np.array([[cosine * mirrored, -sine], [sine * mirrored, cosine]])
    # Exact zeros and ones for right angles, so that their resampling is a pure permutation.
    near = np.round(matrices)
    matrices = np.where(np.abs(matrices - near) < 1e-9, near, matrices)
    return matrices.transpose(2, 0, 1).astype(np.float32)


def draw_displacement(
    batch: int, patch_px: int, augmentation: Augmentation, rng: np.random.Generator
) -> torch.Tensor:
    """Draws smooth displacements (x, y) in px, (batch, patch_px, patch_px, 2)."""
    points = patch_px // ELASTIC_SPACING_PX + 1
    strength = augmentation.elastic_px * rng.random(batch) * (rng.random(batch) < 0.5)
    coarse = rng.standard_normal((batch, 2, points, points)).clip(-2, 2)
    coarse *= strength[:, None, None, None]
    fine = functional.interpolate(
        torch.from_numpy(coarse.astype(np.float32)),
        size=(patch_px, patch_px),
        mode="bicubic",
        align_corners=True,
    )
    return fine.permute(0, 2, 3, 1)


def add_noise(image: torch.Tensor, largest: float, rng: np.random.Generator) -> torch.Tensor:
    """Adds Gaussian noise whose deviation is drawn for each patch from 0 to ``largest``."""
    generator = torch.Generator(image.device).manual_seed(int(rng.integers(2**62)))
    deviation = torch.from_numpy(largest * rng.random(image.shape[0])).to(image)
    noise = torch.randn(image.shape, generator=generator, device=image.device, dtype=image.dtype)
    return image + deviation[:, None, None, None] * noise
