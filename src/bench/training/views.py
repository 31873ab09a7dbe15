"""Two views of the same place: the whole one is what a network reconstructs from the other.

The transformations are those of RETINA's pretraining, on a batch at once.
"""

import math

import numpy as np
import torch
from torch.nn import functional

from bench.words import CEM500K_MOMENTS

_WHITE = 255.0
# Each is done to a patch or not, independently.
_SHARE = 0.5
_LARGEST_TURN = math.pi / 2
# The crop: its share of the patch's area, its width by its height, and how often one is drawn
# before the whole patch is taken.
_AREAS, _RATIOS, _ATTEMPTS = (0.08, 1.0), (0.5, 1.5), 10
# Changes of brightness and of contrast, as shares of white and of the grey value.
_BRIGHTNESS = _CONTRAST = 0.3
# Variance of the noise, in squared grey levels.
_NOISE_VARIANCES = (400.0, 1200.0)
# Edges of the square that a pixel is averaged over.
_BLUR_EDGES_PX = (3, 5, 7)
# Holes: their edge, and how many there are at most in a patch of the edge that they are meant for.
_HOLE_PX, _HOLES, _HOLES_PATCH_PX = 16, 32, 224


def view_window_edge(patch_px: int) -> int:
    """Edge (px, even) of the window that holds a square patch turned by any angle."""
    return 2 * math.ceil(patch_px * math.sqrt(2) / 2 + 1)


def draw_placements(batch: int, patch_px: int, rng: np.random.Generator) -> np.ndarray:
    """Draws where patches show their window: flipped, turned, and a crop of that enlarged.

    Flips along x and along y and a turn by up to 90 degrees are each done in half of the cases,
    a crop always: 8 to 100 % of the area, its width 0.5 to 1.5 times its height.

    Args:
        batch: Number of patches.
        patch_px: Their edge.
        rng: The only source of randomness.

    Returns:
        Matrices (batch, 2, 3) float32: from a place (x, y, 1) in the patch to that in the window,
        both in px from the centre.
    """
    return np.stack([_draw_placement(patch_px, rng) for _ in range(batch)])


def _draw_placement(patch_px: int, rng: np.random.Generator) -> np.ndarray:
    flips = np.where(rng.random(2) < _SHARE, -1.0, 1.0)
    angle = rng.uniform(-_LARGEST_TURN, _LARGEST_TURN) if rng.random() < _SHARE else 0.0
    cosine, sine = math.cos(angle), math.sin(angle)
    turned = flips[:, None] * np.array([[cosine, -sine], [sine, cosine]])
    sides, corner = _draw_crop(patch_px, rng)
    centre = corner + (sides - patch_px) / 2
    columns = [turned * (sides / patch_px), (turned @ centre)[:, None]]
    return np.concatenate(columns, axis=1).astype(np.float32)


def _draw_crop(patch_px: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws the sides (x, y) and the first corner of a crop, whole px."""
    for _ in range(_ATTEMPTS):
        area = rng.uniform(*_AREAS) * patch_px**2
        ratio = math.exp(rng.uniform(*np.log(_RATIOS)))
        sides = np.rint([math.sqrt(area * ratio), math.sqrt(area / ratio)])
        if (sides >= 1).all() and (sides <= patch_px).all():
            return sides, rng.integers(0, patch_px - sides.astype(int) + 1)
    return np.full(2, float(patch_px)), np.zeros(2)


def place_views(windows: torch.Tensor, matrices: np.ndarray, patch_px: int) -> torch.Tensor:
    """Samples patches from windows, bilinear, in one resampling.

    Args:
        windows: Windows (batch, 1, edge, edge), edge as of ``view_window_edge``.
        matrices: As of ``draw_placements``.
        patch_px: Edge of the patches.

    Returns:
        Patches (batch, 1, patch_px, patch_px). A place outside of its window is mirrored.
    """
    edge = windows.shape[-1]
    # affine_grid counts from -1 to 1 between the outermost centres, of patch and window.
    scale = torch.from_numpy(matrices).to(windows)
    theta = scale * (2 / (edge - 1))
    theta[:, :, :2] *= (patch_px - 1) / 2
    size = [len(windows), 1, patch_px, patch_px]
    grid = functional.affine_grid(theta, size, align_corners=True)
    return functional.grid_sample(
        windows, grid, mode="bilinear", padding_mode="reflection", align_corners=True
    )


def spoil_views(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Makes the views that are hard to see of patches: greys, noise, blur and holes.

    Brightness and contrast change by up to 0.3, noise has a variance of 400 to 1200 squared grey
    levels, blur averages 3, 5 or 7 px, and 1 to 32 squares of 16 px are black (in a patch of
    224 px; in proportion to the area of others). Each is done in half of the cases. Grey levels
    are the 0 to 255 that a patch would have if its mean and deviation were those of CEM500K: what
    is little noise there would hide an image of low contrast.

    Args:
        image: Normalised patches (batch, 1, y, x); they stay as they are.
        rng: The only source of randomness.

    Returns:
        The views, normalised alike.
    """
    batch = len(image)
    mean, deviation = CEM500K_MOMENTS
    done = rng.random((4, batch)) < _SHARE
    contrast = 1 + np.where(done[0], rng.uniform(-_CONTRAST, _CONTRAST, batch), 0)
    brightness = np.where(done[0], rng.uniform(-_BRIGHTNESS, _BRIGHTNESS, batch), 0)
    noise = np.where(done[1], np.sqrt(rng.uniform(*_NOISE_VARIANCES, batch)), 0)
    edges = np.where(done[2], rng.choice(_BLUR_EDGES_PX, batch), 1)
    holes = draw_holes(image.shape[-1], done[3], rng)
    generator = torch.Generator(image.device).manual_seed(int(rng.integers(2**62)))

    def of_each(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to(image)[:, None, None, None]

    grey = (mean + deviation * image) * _WHITE
    grey = (grey * of_each(contrast) + of_each(brightness) * _WHITE).clamp(0, _WHITE)
    drawn = torch.randn(image.shape, generator=generator, device=image.device, dtype=image.dtype)
    grey = (grey + of_each(noise) * drawn).clamp(0, _WHITE)
    grey = average_squares(grey, edges)
    grey = grey.masked_fill(torch.from_numpy(holes).to(image.device)[:, None], 0)
    return (grey / _WHITE - mean) / deviation


def draw_holes(patch_px: int, done: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws the holes of patches, boolean (batch, patch_px, patch_px).

    Args:
        patch_px: Edge of a patch.
        done: Which of the patches have any.
        rng: The only source of randomness.
    """
    most = max(1, round(_HOLES * (patch_px / _HOLES_PATCH_PX) ** 2))
    edge = min(_HOLE_PX, patch_px // 2)
    holes = np.zeros((len(done), patch_px, patch_px), dtype=bool)
    for number in np.flatnonzero(done):
        for y, x in rng.integers(0, patch_px - edge + 1, (rng.integers(1, most + 1), 2)):
            holes[number, y : y + edge, x : x + edge] = True
    return holes


def average_squares(image: torch.Tensor, edges_px: np.ndarray) -> torch.Tensor:
    """Averages patches (batch, 1, y, x) over squares of their own edge, mirrored outside."""
    radius = max(_BLUR_EDGES_PX) // 2
    places = np.abs(np.arange(-radius, radius + 1))
    weights = (places <= edges_px[:, None] // 2) / edges_px[:, None]
    kernels = torch.from_numpy(weights).to(image)[:, None, None]
    stacked = functional.pad(image.transpose(0, 1), (radius,) * 4, mode="reflect")
    stacked = functional.conv2d(stacked, kernels, groups=len(image))
    stacked = functional.conv2d(stacked, kernels.transpose(2, 3), groups=len(image))
    return stacked.transpose(0, 1)
