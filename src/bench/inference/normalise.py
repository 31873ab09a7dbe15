"""What a network is fed: sections of any bit depth on one scale."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bench.inference.feeding import Rows

# Pixels that are held in double precision at a time.
BAND_PX = 2**23


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of a whole section, by which any part of it is scaled."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, raw: Rows) -> "Moments":
        """Measures a section (y, x) in double precision, a band of rows at a time."""
        mean = sum(float(band.sum(dtype=np.float64)) for band in bands(raw)) / raw.size
        squares = (float(np.square(band - np.float64(mean)).sum()) for band in bands(raw))
        return cls(mean, float(np.sqrt(sum(squares) / raw.size)))

    def apply(self, raw: np.ndarray) -> np.ndarray:
        """Shifts and scales a part of the section, as float32."""
        centred = raw.astype(np.float32) - np.float32(self.mean)
        if self.deviation > 0:
            centred /= np.float32(self.deviation)
        return centred


def bands(raw: Rows) -> Iterator[np.ndarray]:
    """Cuts a section (y, x) into bands of rows."""
    height, width = raw.shape
    rows = max(1, BAND_PX // max(1, width))
    for start in range(0, height, rows):
        yield raw[start : start + rows].astype(np.float64)


def normalise_section(raw: np.ndarray) -> np.ndarray:
    """Shifts and scales a section (y, x) to mean 0 and standard deviation 1, as float32.

    Done per section, in training and in inference alike, so that 8-bit, 16-bit and float images
    and sections of different exposure look the same to the network. A constant section becomes 0.
    """
    return Moments.of(raw).apply(raw)
