"""What a network is fed: sections of any bit depth on one scale, at its pixel size.

Resampled a window or a band of rows at a time: bilinear between pixel centres, mirrored at the
border, and smoothed first where it shrinks, which is what scikit-image's ``resize`` does with
``order=1``. Every pixel is computed the same way whichever part of the section is asked for, so
that a part of the result is that of the whole, bit for bit.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

# Pixels of the section that are held in floating point at a time, and some copies of them.
FEED_BAND_PX = 2**23
# Gaussians are cut off at so many deviations.
_TRUNCATE = 4.0


class Rows(Protocol):
    """A section (y, x) that gives its rows when it is sliced: an array, here or on disk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (y, x)."""

    @property
    def size(self) -> int:
        """Number of pixels."""

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        """Some of the rows."""


@dataclass(frozen=True, eq=False)
class Places:
    """The old pixels before and after each of a resized side, and the weight of the latter."""

    lower: np.ndarray
    upper: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, old: int, new: int) -> "Places":
        """Lays out a side of ``old`` px as one of ``new`` px."""
        centres = np.abs((np.arange(new) + 0.5) * old / new - 0.5)
        centres = np.minimum(centres, np.maximum(2 * (old - 1) - centres, 0))
        lower = np.minimum(centres.astype(np.intp), max(old - 2, 0))
        upper = np.minimum(lower + 1, old - 1)
        return cls(lower, upper, (centres - lower).astype(np.float32))

    def take(self, chosen: np.ndarray | slice) -> "Places":
        """The places of some of the pixels."""
        return Places(self.lower[chosen], self.upper[chosen], self.weight[chosen])

    def shift(self, first: int) -> "Places":
        """The same places in a part of the side that begins at ``first``."""
        return Places(self.lower - first, self.upper - first, self.weight)


@dataclass(frozen=True, eq=False)
class EnlargedSection:
    """A section at a larger shape, of which only what is read is computed.

    Attributes:
        raw: The section (y, x).
        rows: Places of the rows.
        columns: Places of the columns.
    """

    raw: np.ndarray
    rows: Places
    columns: Places

    @classmethod
    def of(cls, raw: np.ndarray, shape: tuple[int, ...]) -> "EnlargedSection":
        """Lays out a section at a shape no smaller than its own."""
        rows, columns = (Places.of(*sides) for sides in zip(raw.shape, shape, strict=True))
        return cls(raw, rows, columns)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (y, x)."""
        return len(self.rows.weight), len(self.columns.weight)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return math.prod(self.shape)

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Rows of it, float32."""
        return interpolate(self.raw, self.rows.take(rows), self.columns)

    def window(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The pixels at rows and columns, float32."""
        return interpolate(self.raw, self.rows.take(rows), self.columns.take(columns))


def interpolate(section: np.ndarray, rows: Places, columns: Places) -> np.ndarray:
    """Bilinear interpolation at all crossings of rows and columns, float32."""
    first, end = int(rows.lower.min()), int(rows.upper.max()) + 1
    band = section[first:end]
    left = band[:, columns.lower].astype(np.float32)
    left += (band[:, columns.upper].astype(np.float32) - left) * columns.weight
    near = rows.shift(first)
    above = left[near.lower]
    above += (left[near.upper] - above) * near.weight[:, None]
    return np.asarray(above)


def enlarges(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Whether no side of a shape becomes smaller."""
    return all(after >= before for before, after in zip(old, new, strict=True))


def resize_section(section: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Resizes a section (y, x) to a shape (px); float32, smoothed first when it shrinks."""
    return np.concatenate(list(resize_bands(section, shape)))


def resize_bands(section: Rows, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Yields a resized section a band of rows at a time, float32.

    Args:
        section: Section (y, x).
        shape: Shape (px) of the result.
    """
    from scipy.ndimage import gaussian_filter

    (old_height, old_width), (height, width) = section.shape, shape
    sides = zip(section.shape, shape, strict=True)
    deviations = [max(0.0, (old / new - 1) / 2) for old, new in sides]
    margin = int(_TRUNCATE * deviations[0] + 0.5) if any(deviations) else 0
    rows, columns = Places.of(old_height, height), Places.of(old_width, width)
    step = max(1, FEED_BAND_PX * height // (old_height * max(old_width, width)))
    for start in range(0, height, step):
        places = rows.take(slice(start, start + step))
        first = max(0, int(places.lower.min()) - margin)
        end = min(old_height, int(places.upper.max()) + 1 + margin)
        band = np.asarray(section[first:end])
        if any(deviations):
            band = gaussian_filter(
                band.astype(np.float32), deviations, mode="mirror", truncate=_TRUNCATE
            )
        yield interpolate(band, places.shift(first), columns)


def resize_labels(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Resizes instance labels (y, x) to a shape (px): every pixel takes the nearest one's id."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp)
        for new, old in zip(shape, labels.shape, strict=True)
    )
    return np.asarray(labels[rows[:, None], columns])


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of a whole section, by which any part of it is scaled."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, raw: Rows) -> "Moments":
        """Measures a section (y, x) in double precision, a band of rows at a time."""
        mean = sum(float(band.sum(dtype=np.float64)) for band in _bands(raw)) / raw.size
        squares = (float(np.square(band - np.float64(mean)).sum()) for band in _bands(raw))
        return cls(mean, float(np.sqrt(sum(squares) / raw.size)))

    def apply(self, raw: np.ndarray) -> np.ndarray:
        """Shifts and scales a part of the section, as float32."""
        centred = raw.astype(np.float32) - np.float32(self.mean)
        if self.deviation > 0:
            centred /= np.float32(self.deviation)
        return centred


def _bands(raw: Rows) -> Iterator[np.ndarray]:
    height, width = raw.shape
    rows = max(1, FEED_BAND_PX // max(1, width))
    for start in range(0, height, rows):
        yield raw[start : start + rows].astype(np.float64)


def normalise_section(raw: np.ndarray) -> np.ndarray:
    """Shifts and scales a section (y, x) to mean 0 and standard deviation 1, as float32.

    Done per section, in training and in inference alike, so that 8-bit, 16-bit and float images
    and sections of different exposure look the same to the network. A constant section becomes 0.
    """
    return Moments.of(raw).apply(raw)
