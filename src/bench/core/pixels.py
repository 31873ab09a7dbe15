"""Pixels of sections: contrast, smaller copies, and the blocks of an image of ids that hold any."""

import math
from typing import Any

import numpy as np

_CONTRAST_PERCENTILES = (0.5, 99.5)
_CONTRAST_SAMPLE_PX = 1_000_000

# Small, so that few of them hold something: half the side halves the time that labels take.
BLOCK_PX = 128
# Rows and columns.
Block = tuple[slice, slice]


def stretch_contrast(raw: np.ndarray) -> np.ndarray:
    """Scales a section to 8 bits between its 0.5 and 99.5 percentiles.

    Percentiles keep a few hot pixels from darkening the rest; they are taken from at most about
    a million pixels on a regular grid. Where they coincide, the full range is used. A constant
    image becomes mid-grey, and a pixel that is not finite black.

    Args:
        raw: Section (y, x), integers, floats or booleans.

    Returns:
        Section (y, x), uint8.
    """
    step = max(1, math.ceil(math.sqrt(raw.size / _CONTRAST_SAMPLE_PX)))
    sample = raw[::step, ::step].astype(float_type(raw.dtype))
    sample = sample[np.isfinite(sample)]
    if sample.size == 0:
        return np.zeros(raw.shape, dtype=np.uint8)
    low, high = (float(value) for value in np.percentile(sample, _CONTRAST_PERCENTILES))
    if low == high:
        low, high = float(sample.min()), float(sample.max())
    scaled = raw.astype(float_type(raw.dtype))
    if low == high:
        return np.where(np.isfinite(scaled), 128, 0).astype(np.uint8)
    if raw.dtype.kind == "f":
        scaled[~np.isfinite(scaled)] = low
    scaled -= low
    scaled *= 255 / (high - low)
    np.clip(np.rint(scaled, out=scaled), 0, 255, out=scaled)
    return np.asarray(scaled, dtype=np.uint8)


def float_type(dtype: "np.dtype[Any]") -> "np.dtype[Any]":
    """Floats to calculate with: doubles for 32 bits and more of integer, and for doubles."""
    return np.result_type(dtype, np.float32)


def shrink_factor(shape: tuple[int, ...], max_side_px: int) -> int:
    """Edge in px of the blocks that bring the longer side of a section within a limit.

    At most the shorter side, so that a strip keeps a pixel.
    """
    return max(1, min(math.ceil(max(shape) / max_side_px), *shape))


def shrink_image(image: np.ndarray, factor: int) -> np.ndarray:
    """Averages blocks of factor x factor pixels; a remainder at the far edges is cut off.

    Args:
        image: Section (y, x).
        factor: Edge of a block in px; 1 returns the image itself.

    Returns:
        Floats, but uint8 where the image is.
    """
    if factor == 1:
        return image
    rows, columns = image.shape[0] // factor, image.shape[1] // factor
    image = image[: rows * factor, : columns * factor]
    # Rows first: that sum runs along memory and leaves a small array for the columns.
    blocks = image.reshape(rows, factor, columns * factor)
    sums = blocks.sum(axis=1, dtype=float_type(image.dtype))
    means = sums.reshape(rows, columns, factor).mean(axis=2) / factor
    return np.asarray(np.rint(means), dtype=np.uint8) if image.dtype == np.uint8 else means


def shrink_labels(labels: np.ndarray, factor: int) -> np.ndarray:
    """Takes the largest id of blocks of factor x factor pixels.

    A small instance grows to a block rather than vanish; a remainder at the far edges is cut off.
    """
    if factor == 1:
        return labels
    rows, columns = labels.shape[0] // factor, labels.shape[1] // factor
    labels = labels[: rows * factor, : columns * factor]
    tallest = labels.reshape(rows, factor, columns * factor).max(axis=1)
    return np.asarray(tallest.reshape(rows, columns, factor).max(axis=2))


def all_blocks(shape: tuple[int, ...], side: int) -> list[Block]:
    """Cuts an image (y, x) into squares; those at the ends of rows and columns are smaller."""
    height, width = shape
    return [
        (slice(top, min(top + side, height)), slice(left, min(left + side, width)))
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]


def occupied_blocks(labels: np.ndarray) -> list[Block]:
    """Finds the square blocks in which something is labelled.

    Args:
        labels: Ids (y, x), 0 background, none negative.

    Returns:
        Rows and columns of each, from top left to bottom right; those at the ends of rows and
        columns are smaller.
    """
    height, width = labels.shape
    lefts = np.arange(0, width, BLOCK_PX)
    blocks = []
    for top in range(0, height, BLOCK_PX):
        rows = slice(top, min(top + BLOCK_PX, height))
        # The largest of each column first: this runs along the memory.
        largest = np.maximum.reduceat(labels[rows].max(axis=0), lefts)
        for left in lefts[largest > 0]:
            blocks.append((rows, slice(int(left), min(int(left) + BLOCK_PX, width))))
    return blocks
