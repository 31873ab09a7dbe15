"""The student's view of a batch: other grey values, sharpness and noise, the same places."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from bench.training.augment import add_noise


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
