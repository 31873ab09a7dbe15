"""Images as pieces that can be annotated, and what each looks like."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

# Up to so many times the edge of a piece, an image is one.
_WHOLE = 1.5
# Deviations of the filters in px, and percentiles of what they give.
_SCALES_PX = (1.0, 2.0, 4.0, 8.0)
_PERCENTILES = (5, 25, 50, 75, 95)
# An image of one grey value has no deviation.
_TINY = 1e-30


@dataclass(frozen=True)
class ImagePiece:
    """A piece of an image.

    Attributes:
        image: Name of the image.
        top: First row.
        left: First column.
        height: Rows.
        width: Columns.
        whole: Whether it is all of the image.
    """

    image: str
    top: int
    left: int
    height: int
    width: int
    whole: bool

    @property
    def view(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return (
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )

    @property
    def name(self) -> str:
        """A name for its file."""
        return self.image if self.whole else f"{self.image}_x{self.left:05d}_y{self.top:05d}"


def cut_pieces(image: str, shape: tuple[int, ...], piece_px: tuple[int, int]) -> list[ImagePiece]:
    """Cuts an image into pieces of one size, evenly spread; a small image is one.

    Args:
        image: Its name.
        shape: Its rows and columns.
        piece_px: Rows and columns of a piece.

    Examples:
        >>> [(p.top, p.left) for p in cut_pieces("m", (100, 250), (100, 100))]
        [(0, 0), (0, 75), (0, 150)]
    """
    edges = [
        side if side <= _WHOLE * edge else edge for side, edge in zip(shape, piece_px, strict=True)
    ]
    starts = [
        np.linspace(0, side - edge, math.ceil(side / edge)).round().astype(int).tolist()
        for side, edge in zip(shape, edges, strict=True)
    ]
    whole = tuple(edges) == tuple(shape)
    return [
        ImagePiece(image, top, left, edges[0], edges[1], whole)
        for top in starts[0]
        for left in starts[1]
    ]


def describe_look(raw: np.ndarray) -> np.ndarray:
    """What an image looks like, as numbers that are close for images that look alike.

    Grey values, edges and blobs at four scales, as percentiles over its pixels, after its grey
    values were brought to mean 0 and deviation 1: brightness and contrast count for nothing.

    Args:
        raw: The image (y, x) of any bit depth.

    Returns:
        float64, as many for every image.
    """
    image = raw.astype(np.float32)
    image -= image.mean()
    image /= max(float(image.std()), _TINY)
    maps = [image]
    for sigma in _SCALES_PX:
        smooth = ndimage.gaussian_filter(image, sigma)
        maps += [
            np.hypot(*np.gradient(smooth)) * sigma,
            ndimage.laplace(smooth) * sigma**2,
        ]
    return np.concatenate([np.percentile(each, _PERCENTILES) for each in maps]).astype(np.float64)


def measure_distances(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> np.ndarray:
    """Distances of looks, each number in deviations of all of them: (first, second).

    The mean of the squares of a number's differences is 2 where images are unlike.
    """
    both = np.stack([*first, *second])
    deviations = both.std(axis=0)
    scaled = (both / np.where(deviations > 0, deviations, np.inf)).astype(np.float64)
    a, b = scaled[: len(first)], scaled[len(first) :]
    return np.asarray(np.sqrt(((a[:, None] - b[None]) ** 2).mean(axis=2)))
