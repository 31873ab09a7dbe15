"""What is measured in a raw image: grey values, their ends, and whether they carry an image."""

import math
from dataclasses import dataclass

import numpy as np

from bench.core.pixels import float_type

# Means and percentiles from about a million pixels on a regular grid are good to a thousandth.
SAMPLE_PX = 1_000_000
# EPFL6, VNC and ISBI 2012 have at most 0.2 % of their pixels at an end.
MOST_SATURATED = 0.01
# EPFL6, VNC and ISBI 2012 use more than 140 levels.
FEWEST_LEVELS = 32
# Squares of larger numbers leave the range of single precision, which networks compute in.
LARGEST_VALUE = 1e18


@dataclass(frozen=True)
class RawMeasures:
    """Grey values of a section.

    Attributes:
        shape: Height and width in px.
        dtype: Type of a pixel, such as uint8.
        mean: Mean grey value.
        deviation: Standard deviation.
        lowest: Smallest value.
        highest: Largest value.
        share_lowest: Share of pixels that have the smallest value.
        share_highest: Share of pixels that have the largest value.
        levels: Different values between the 0.5 and 99.5 percentiles.
    """

    shape: tuple[int, int]
    dtype: str
    mean: float
    deviation: float
    lowest: float
    highest: float
    share_lowest: float
    share_highest: float
    levels: int


def measure_raw(raw: np.ndarray) -> RawMeasures | None:
    """Measures a raw section (y, x); None if no pixel of it is a number.

    Pixels that are not finite are left out, and numbers are cut at 1e18.
    """
    pixels = raw
    if raw.dtype.kind == "f":
        pixels = cut_numbers(raw[np.isfinite(raw)])
    if not pixels.size:
        return None
    lowest, highest = pixels.min(), pixels.max()
    sample = sample_pixels(pixels).astype(np.float64)
    low, high = np.percentile(sample, (0.5, 99.5))
    return RawMeasures(
        shape=(raw.shape[0], raw.shape[1]),
        dtype=str(raw.dtype),
        mean=float(sample.mean()),
        deviation=float(sample.std()),
        lowest=float(lowest),
        highest=float(highest),
        share_lowest=np.count_nonzero(pixels == lowest) / pixels.size,
        share_highest=np.count_nonzero(pixels == highest) / pixels.size,
        levels=int(np.unique(sample[(sample >= low) & (sample <= high)]).size),
    )


def cut_numbers(pixels: np.ndarray) -> np.ndarray:
    """Makes real numbers fit for computing: NaN becomes 0, and beyond 1e18 they are cut."""
    wide = pixels.astype(float_type(pixels.dtype), copy=False)
    return np.asarray(np.nan_to_num(wide).clip(-LARGEST_VALUE, LARGEST_VALUE))


def sample_pixels(image: np.ndarray) -> np.ndarray:
    """Takes at most about SAMPLE_PX pixels of an image (y, x) or of a list, on a regular grid."""
    step = max(1, math.ceil((image.size / SAMPLE_PX) ** (1 / image.ndim)))
    return image[(slice(None, None, step),) * image.ndim]


def judge_raw(measures: RawMeasures) -> tuple[str, str, str] | None:
    """Judges the grey values of a section.

    Returns:
        Kind of a finding, fact and remedy: few levels, or values cut off at an end; or None.
    """
    if measures.levels < FEWEST_LEVELS:
        return (
            "few-levels",
            f"its pixels have {measures.levels} values from {measures.lowest:g} to "
            f"{measures.highest:g}",
            "use the microscope's own file, not a mask, a look-up table or a screenshot",
        )
    ends = (
        (measures.share_lowest, "smallest", measures.lowest),
        (measures.share_highest, "largest", measures.highest),
    )
    facts = [
        f"{share:.1%} of its pixels have the {end} value {value:g}"
        for share, end, value in ends
        if share > MOST_SATURATED
    ]
    remedy = "export it again without stretching its contrast; crop an empty border"
    return ("saturated", " and ".join(facts), remedy) if facts else None
