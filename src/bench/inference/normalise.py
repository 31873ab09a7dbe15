"""What a network is fed: sections of any bit depth on one scale."""

import numpy as np


def normalise_section(raw: np.ndarray) -> np.ndarray:
    """Shifts and scales a section (y, x) to mean 0 and standard deviation 1, as float32.

    Done per section, in training and in inference alike, so that 8-bit, 16-bit and float images
    and sections of different exposure look the same to the network. A constant section becomes 0.
    """
    mean = raw.mean(dtype=np.float64)
    deviation = raw.std(dtype=np.float64)
    centred = raw.astype(np.float32) - np.float32(mean)
    if deviation > 0:
        centred /= np.float32(deviation)
    return centred
