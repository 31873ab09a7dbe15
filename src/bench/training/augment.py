"""Augmentation of a whole batch at once: places in training, grey values in the student's view."""

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
    matrices = draw_matrices(batch, augmentation, rng)
    points = draw_control_points(batch, patch_px, augmentation, rng)
    # From px to what grid_sample counts in: -1 and 1 are the centres of the outermost pixels.
    grid = place_samples(matrices, points, patch_px, image.device, scale=2 / (edge - 1))
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


def draw_control_points(
    batch: int, patch_px: int, augmentation: Augmentation, rng: np.random.Generator
) -> np.ndarray:
    """Draws the displacement (x, y) in px of control points, (batch, 2, points, points) float32.

    Without elastic deformation there are no points.
    """
    if augmentation.elastic_px <= 0:
        return np.zeros((batch, 2, 0, 0), dtype=np.float32)
    points = patch_px // ELASTIC_SPACING_PX + 1
    strength = augmentation.elastic_px * rng.random(batch) * (rng.random(batch) < 0.5)
    coarse = rng.standard_normal((batch, 2, points, points)).clip(-2, 2)
    return (coarse * strength[:, None, None, None]).astype(np.float32)


def place_samples(
    matrices: np.ndarray,
    points: np.ndarray,
    patch_px: int,
    device: torch.device,
    *,
    scale: float = 1.0,
) -> torch.Tensor:
    """Computes where a patch's pixels come from: rotated, mirrored, displaced.

    Rotation and bicubic interpolation are both sums of products of a function of y and one of x,
    so all pixels are one product of matrices, ten times as fast as computing each on its own.

    Args:
        matrices: Rotation and flip (batch, 2, 2).
        points: Displacement of control points, px, (batch, 2, points, points).
        patch_px: Edge of the patches.
        device: Where to compute.
        scale: Unit of the places per px.

    Returns:
        Places (x, y) from the centre of the window, (batch, patch_px, patch_px, 2) float32.
    """
    turn, coarse = torch.from_numpy(matrices).to(device), torch.from_numpy(points).to(device)
    axis = torch.arange(patch_px, device=device, dtype=torch.float32) - (patch_px - 1) / 2
    spread = _interpolation_weights(patch_px, coarse.shape[-1], device)
    across = turn[:, :, :1, None].expand(-1, -1, patch_px, 1)
    of_y = torch.cat([spread @ coarse, across, turn[:, :, 1:, None] * axis[:, None]], dim=-1)
    of_x = torch.cat([spread.T, axis[None], torch.ones_like(axis)[None]])
    return (scale * of_y @ of_x).permute(0, 2, 3, 1)


def _interpolation_weights(patch_px: int, points: int, device: torch.device) -> torch.Tensor:
    """The share of each control point in each pixel along an axis, bicubic, (patch_px, points)."""
    if not points:
        return torch.zeros(patch_px, 0, device=device)
    unit = torch.eye(points, device=device)[None, None]
    size = (patch_px, points)
    return functional.interpolate(unit, size=size, mode="bicubic", align_corners=True)[0, 0]


def add_noise(image: torch.Tensor, largest: float, rng: np.random.Generator) -> torch.Tensor:
    """Adds Gaussian noise to patches (batch, channels, ...), to each of a deviation of its own.

    Args:
        image: The patches.
        largest: The deviations are drawn from 0 to this.
        rng: The only source of randomness.
    """
    generator = torch.Generator(image.device).manual_seed(int(rng.integers(2**62)))
    deviation = torch.from_numpy(largest * rng.random(image.shape[0])).to(image)
    noise = torch.randn(image.shape, generator=generator, device=image.device, dtype=image.dtype)
    return image + deviation.reshape(-1, *[1] * (image.ndim - 1)) * noise


@dataclass(frozen=True)
class StrongView:
    """The largest change of a view; every patch draws its own strength up to it.

    There is no change of brightness and contrast alone: the networks begin with an InstanceNorm,
    which undoes it.

    Attributes:
        noise: Standard deviation of Gaussian noise, in deviations of the image.
        blur_px: Standard deviation of a Gaussian blur.
        gamma: Logarithm of the exponent that bends the grey values of a patch between its
            darkest and brightest, either way.
    """

    noise: float
    blur_px: float
    gamma: float


def make_strong_view(
    weak: torch.Tensor, strong: StrongView, rng: np.random.Generator
) -> torch.Tensor:
    """Changes grey values, sharpness and noise of normalised patches (batch, 1, y, x).

    Args:
        weak: The patches; they stay as they are.
        strong: What to do.
        rng: The only source of randomness.
    """
    batch = weak.shape[0]
    view = bend_greys(weak, np.exp(strong.gamma * (2 * rng.random(batch) - 1)))
    view = blur(view, strong.blur_px * rng.random(batch), strong.blur_px)
    return add_noise(view, strong.noise, rng)


def bend_greys(image: torch.Tensor, exponents: np.ndarray) -> torch.Tensor:
    """Raises the greys of each patch, from 0 (darkest) to 1 (brightest), to its exponent."""
    low, high = image.amin((2, 3), keepdim=True), image.amax((2, 3), keepdim=True)
    span = (high - low).clamp(min=1e-6)
    exponent = torch.from_numpy(exponents).to(image)[:, None, None, None]
    return low + span * ((image - low) / span) ** exponent


def blur(image: torch.Tensor, deviations_px: np.ndarray, largest_px: float) -> torch.Tensor:
    """Blurs each patch (batch, 1, y, x) by a Gaussian of its own deviation, mirrored outside."""
    radius = math.ceil(3 * largest_px)
    if radius == 0:
        return image
    places = torch.arange(-radius, radius + 1).to(image)
    deviation = torch.from_numpy(deviations_px).to(image)[:, None].clamp(min=1e-3)
    kernels = torch.exp(-0.5 * (places / deviation) ** 2)
    kernels = (kernels / kernels.sum(1, keepdim=True))[:, None, None]
    batch = image.shape[0]
    stacked = functional.pad(image.transpose(0, 1), (radius,) * 4, mode="reflect")
    stacked = functional.conv2d(stacked, kernels, groups=batch)
    stacked = functional.conv2d(stacked, kernels.transpose(2, 3), groups=batch)
    return stacked.transpose(0, 1)
