"""What a network is fed: sections of any bit depth on one scale."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of a whole section, by which any part of it is scaled."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, raw: np.ndarray) -> "Moments":
        """Measures a section (y, x) in double precision."""
        return cls(float(raw.mean(dtype=np.float64)), float(raw.std(dtype=np.float64)))

    def apply(self, raw: np.ndarray) -> np.ndarray:
        """Shifts and scales a part of the section, as float32."""
        centred = raw.astype(np.float32) - np.float32(self.mean)
        if self.deviation > 0:
            centred /= np.float32(self.deviation)
        return centred


def normalise_section(raw: np.ndarray) -> np.ndarray:
    """Shifts and scales a section (y, x) to mean 0 and standard deviation 1, as float32.

    Done per section, in training and in inference alike, so that 8-bit, 16-bit and float images
    and sections of different exposure look the same to the network. A constant section becomes 0.
    """
    return Moments.of(raw).apply(raw)
