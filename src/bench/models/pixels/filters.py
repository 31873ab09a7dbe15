"""What a pixel classifier sees of a pixel: filters of several scales, as maps of half the size.

The filters of ilastik, Labkit and Weka's trainable segmentation (Gaussian, gradient, Hessian,
structure tensor, deviation, lines in many directions), and what lies on circles around a pixel:
the brightest and the darkest of it tell a vesicle from a membrane. None has a direction of its own.
Filters of large scales are those of small ones on an image of half, a quarter, an eighth of the
size. Borders are mirrored.
"""

import functools
import math
from collections.abc import Iterable

import torch
from torch.nn import functional

# Of the grid of pixels that is classified.
STRIDE = 2
# Deviations (px) of the Gaussians on every level but the first, which has a smaller one, too.
_SIGMAS = (1.0, 1.6)
_FINEST = 0.7
# Halvings of the image whose filters are taken, and the last whose lines are.
_LEVELS, _LINE_LEVELS = 4, 3
# Gaussians end after so many deviations.
_TRUNCATE = 3.0
_DEVIATION_PX = 2.0
_LINE_ACROSS_PX, _LINE_ALONG_PX, _LINE_RADIUS_PX = 1.2, 4.0, 10
_DIRECTIONS = 8
_RADII_PX = (3, 5)
# The same of the probabilities of an earlier stage.
_CONTEXT_LEVELS, _CONTEXT_SIGMAS, _CONTEXT_RADII_PX = 3, (1.0, 2.0), (4, 7)
# How far from a pixel that lies which decides on it, in px of the image: the lines of the third
# level reach as far as the structure tensor of the fourth (12 of 8 px), and a pixel is interpolated
# between its neighbours there.
FILTER_REACH_PX, CONTEXT_REACH_PX = 112, 96
# Sides of an image are multiples of the coarsest pixel.
MULTIPLE = 16

Maps = dict[str, torch.Tensor]


def filter_maps(image: torch.Tensor) -> Maps:
    """Filters an image.

    Args:
        image: Normalised (1, 1, y, x), whose sides are multiples of MULTIPLE.

    Returns:
        Maps (y / STRIDE, x / STRIDE) by what they are, with the scale in px of the image.
    """
    maps: Maps = {}
    grid = [side // STRIDE for side in image.shape[-2:]]
    for level in range(_LEVELS):
        scale = 2**level
        sigmas = (_FINEST, *_SIGMAS) if level == 0 else _SIGMAS
        found = _filter_level(image, sigmas, scale)
        if level == 0:
            found["grey value"] = image[0, 0]
        if level < _LINE_LEVELS:
            found |= _filter_lines(image, scale)
        maps |= _on_grid(found, grid)
        image = functional.avg_pool2d(image, 2)
    return maps


def context_maps(probability: torch.Tensor) -> Maps:
    """Filters what an earlier stage found.

    Args:
        probability: (1, 1, y, x) on the grid, whose sides are multiples of MULTIPLE / STRIDE.

    Returns:
        Maps (y, x) by what they are, with the scale in px of the image.
    """
    maps: Maps = {"probability": probability[0, 0]}
    grid = list(probability.shape[-2:])
    for level in range(_CONTEXT_LEVELS):
        scale = STRIDE * 2**level
        smooth = [_smooth(probability, sigma) for sigma in _CONTEXT_SIGMAS]
        found = {
            f"probability, Gaussian {sigma * scale:g} px": each[0, 0]
            for sigma, each in zip(_CONTEXT_SIGMAS, smooth, strict=True)
        }
        for radius in _CONTEXT_RADII_PX:
            around = _circle_maps(smooth[0], radius, scale)
            found |= {f"probability, {name}": each for name, each in around.items()}
        maps |= _on_grid(found, grid)
        probability = functional.avg_pool2d(probability, 2)
    return maps


def stack_maps(maps: Iterable[torch.Tensor], margin: int) -> torch.Tensor:
    """Maps as one row of features of each pixel (pixels, features), without a margin around.

    Args:
        maps: Maps (y, x).
        margin: Its width in px of the grid.
    """
    inner = [
        each[margin : each.shape[0] - margin, margin : each.shape[1] - margin] for each in maps
    ]
    return torch.stack([each.flatten() for each in inner], dim=1)


def _on_grid(maps: Maps, grid: list[int]) -> Maps:
    """Maps at the size of the grid: means of blocks where they are larger, else interpolated."""
    side = next(iter(maps.values())).shape[-1]
    if side > grid[1]:
        # One by one: joined at full size they would be copied.
        return {n: functional.avg_pool2d(e[None], side // grid[1])[0] for n, e in maps.items()}
    stacked = torch.stack(list(maps.values()))[None]
    if side < grid[1]:
        stacked = functional.interpolate(stacked, size=grid, mode="bilinear", align_corners=False)
    return dict(zip(maps, stacked[0], strict=True))


def _filter_level(image: torch.Tensor, sigmas: Iterable[float], scale: int) -> Maps:
    maps: Maps = {}
    for sigma in sigmas:
        size = f"{sigma * scale:g} px"
        smooth, x, y, xx, xy, yy = _derivatives(image, sigma).unbind(1)
        maps[f"Gaussian {size}"] = smooth
        maps[f"gradient {size}"] = torch.sqrt(x * x + y * y)
        maps[f"Hessian, largest {size}"], maps[f"Hessian, smallest {size}"] = _eigenvalues(
            xx, xy, yy
        )
        products = _smooth(torch.stack([x * x, x * y, y * y], dim=1), sigma)
        largest, smallest = _eigenvalues(*products.unbind(1))
        maps[f"structure tensor, largest {size}"] = largest
        maps[f"structure tensor, smallest {size}"] = smallest
    mean, square = _smooth(torch.cat([image, image * image], dim=1), _DEVIATION_PX).unbind(1)
    maps[f"deviation {_DEVIATION_PX * scale:g} px"] = (square - mean * mean).clamp(min=0).sqrt()
    maps = {name: each[0] for name, each in maps.items()}
    smooth = _smooth(image, _SIGMAS[0])
    for radius in _RADII_PX:
        maps |= _circle_maps(smooth, radius, scale)
    return maps


def _circle_maps(smooth: torch.Tensor, radius: int, scale: int) -> Maps:
    """What lies on a circle, and of its pairs of opposite places the worse and the better one."""
    places = _shift_around(smooth, radius)[0]
    half = len(places) // 2
    darker = torch.minimum(places[:half], places[half:])
    brighter = torch.maximum(places[:half], places[half:])
    mean = places.mean(0)
    apart = places - mean
    size = f"circle {radius * scale:g} px"
    return {
        f"{size}, largest": places.amax(0),
        f"{size}, smallest": places.amin(0),
        f"{size}, mean": mean,
        # As std(0), which takes ten times as long on a CPU.
        f"{size}, deviation": (apart.square_().sum(0) / (len(places) - 1)).sqrt_(),
        f"{size}, best pair": darker.amax(0),
        f"{size}, worst pair": brighter.amin(0),
    }


def _shift_around(image: torch.Tensor, radius: int) -> torch.Tensor:
    """An image (1, 1, y, x) as seen from places on a circle: (1, directions, y, x)."""
    padded = functional.pad(image, (radius,) * 4, mode="reflect")
    height, width = image.shape[-2:]
    shifted = []
    for number in range(_DIRECTIONS):
        angle = 2 * math.pi * number / _DIRECTIONS
        y, x = radius + round(radius * math.sin(angle)), radius + round(radius * math.cos(angle))
        shifted.append(padded[:, :, y : y + height, x : x + width])
    return torch.cat(shifted, dim=1)


def _filter_lines(image: torch.Tensor, scale: int) -> Maps:
    """The strongest and the weakest answer to a dark line, of all directions."""
    kernels = _line_kernels().to(image)
    padded = functional.pad(image, (_LINE_RADIUS_PX,) * 4, mode="reflect")
    found = functional.conv2d(padded, kernels)[0]
    size = f"{_LINE_ALONG_PX * scale:g} px"
    return {f"line, strongest {size}": found.amax(0), f"line, weakest {size}": found.amin(0)}


@functools.cache
def _line_kernels() -> torch.Tensor:
    """Second derivatives of long Gaussians across their length, (directions, 1, y, x)."""
    side = torch.arange(-_LINE_RADIUS_PX, _LINE_RADIUS_PX + 1, dtype=torch.float64)
    y, x = torch.meshgrid(side, side, indexing="ij")
    kernels = []
    for number in range(_DIRECTIONS):
        angle = math.pi * number / _DIRECTIONS
        across = (x * math.cos(angle) + y * math.sin(angle)) / _LINE_ACROSS_PX
        along = (y * math.cos(angle) - x * math.sin(angle)) / _LINE_ALONG_PX
        kernel = (across**2 - 1) * torch.exp(-(across**2 + along**2) / 2)
        kernel -= kernel.mean()
        kernels.append(kernel / kernel.abs().sum())
    return torch.stack(kernels)[:, None].float()


@functools.cache
def _gaussian_kernels(sigma: float) -> torch.Tensor:
    """A Gaussian and its first and second derivative, as scipy's: (3, taps)."""
    radius = int(_TRUNCATE * sigma + 0.5)
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-(x**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    # Turned round, as conv2d correlates.
    return torch.stack([kernel, x / sigma**2 * kernel, (x**2 / sigma**4 - 1 / sigma**2) * kernel])


def _derivatives(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Smoothed, and its derivatives x, y, xx, xy, yy: (1, 6, y, x) of (1, 1, y, x)."""
    kernels = _gaussian_kernels(sigma).to(image)
    padded = functional.pad(image, (kernels.shape[1] // 2,) * 4, mode="reflect")
    along_x = functional.conv2d(padded, kernels[:, None, None, :])
    # Of each result: which derivative along x, and which along y.
    of_x, of_y = [0, 1, 0, 2, 1, 0], [0, 0, 1, 0, 1, 2]
    return functional.conv2d(along_x[:, of_x], kernels[of_y][:, None, :, None], groups=len(of_x))


def _smooth(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Smooths every channel of (1, channels, y, x)."""
    kernel = _gaussian_kernels(sigma)[0].to(image)
    channels = image.shape[1]
    padded = functional.pad(image, (len(kernel) // 2,) * 4, mode="reflect")
    along_x = functional.conv2d(
        padded, kernel[None, None, None, :].expand(channels, 1, 1, -1), groups=channels
    )
    return functional.conv2d(
        along_x, kernel[None, None, :, None].expand(channels, 1, -1, 1), groups=channels
    )


def _eigenvalues(
    a: torch.Tensor, b: torch.Tensor, c: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The larger and the smaller eigenvalue of the matrices (a, b; b, c)."""
    middle, half = (a + c) / 2, torch.sqrt(((a - c) / 2) ** 2 + b * b)
    return middle + half, middle - half
