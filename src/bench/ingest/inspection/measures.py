"""What is measured of a section and its masks, and kept once the pixels are gone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.core.pixels import float_type
from bench.errors import BenchError
from bench.ingest.inspection.findings import Finding
from bench.ingest.inspection.likeness import Look
from bench.ingest.inspection.orientation import Fit
from bench.ingest.inspection.values import MaskValues
from bench.postprocess.label_runs import LabelRuns

# Means and percentiles from about a million pixels on a regular grid are good to a thousandth.
_SAMPLE_PX = 1_000_000
# A mean over fewer sampled pixels says nothing about how bright a structure is.
_FEWEST_CONTRAST_PX = 50
# EPFL6, VNC and ISBI 2012 have at most 0.2 % of their pixels at an end.
_MOST_SATURATED = 0.01
# EPFL6, VNC and ISBI 2012 use more than 140 levels.
_FEWEST_LEVELS = 32
# Squares of larger numbers leave the range of single precision, which networks compute in.
LARGEST_VALUE = 1e18
# The densest real annotation, vesicles of a whole montage, has some ten thousand.
MOST_INSTANCES = 1_000_000


@dataclass(frozen=True)
class _RawMeasures:
    """Grey values of a section."""

    shape: tuple[int, int]  # height and width in px
    dtype: str
    mean: float
    deviation: float
    lowest: float
    highest: float
    share_lowest: float  # share of pixels that have the smallest value
    share_highest: float
    levels: int  # different values between the 0.5 and 99.5 percentiles


def measure_raw(raw: np.ndarray) -> _RawMeasures | None:
    """Measures a raw section (y, x); None if no pixel of it is a number.

    Pixels that are not finite are left out, and numbers are cut at 1e18.
    """
    pixels = cut_numbers(raw[np.isfinite(raw)]) if raw.dtype.kind == "f" else raw
    if not pixels.size:
        return None
    lowest, highest = pixels.min(), pixels.max()
    sample = _sample_pixels(pixels).astype(np.float64)
    low, high = np.percentile(sample, (0.5, 99.5))
    return _RawMeasures(
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


def _sample_pixels(image: np.ndarray) -> np.ndarray:
    """Takes at most about _SAMPLE_PX pixels of an image (y, x) or of a list, on a regular grid."""
    step = max(1, math.ceil((image.size / _SAMPLE_PX) ** (1 / image.ndim)))
    return image[(slice(None, None, step),) * image.ndim]


def standardise_sample(raw: np.ndarray) -> np.ndarray | None:
    """Takes a sample of a raw section (y, x), of mean 0 and deviation 1; None without contrast."""
    pixels = _sample_pixels(raw)
    # Whole numbers of 8 bits are few: single precision is exact, and half the time.
    narrow = pixels.dtype.kind in "ui" and pixels.dtype.itemsize == 1
    centred: np.ndarray = pixels.astype(np.float32 if narrow else np.float64)
    centred = np.subtract(centred, float(pixels.mean(dtype=np.float64)), dtype=centred.dtype)
    deviation = math.sqrt(float(np.square(centred).mean(dtype=np.float64)))
    if not 0 < deviation < math.inf:
        return None
    return np.asarray(centred / deviation, np.float32)


def measure_contrast(grey: np.ndarray, labels: np.ndarray) -> float | None:
    """How much brighter foreground is than background, in deviations; None for too few pixels.

    None as well for a mask of another size, which others refuse.

    Args:
        grey: What `standardise_sample` took of the raw image.
        labels: The instances (y, x).
    """
    inside = _sample_pixels(labels) != 0
    count = int(np.count_nonzero(inside))
    if inside.shape != grey.shape or min(count, inside.size - count) < _FEWEST_CONTRAST_PX:
        return None
    # The mean of all is 0, so that the rest has what the foreground lacks.
    total = float(grey[inside].sum(dtype=np.float64))
    return float(total / count + total / (inside.size - count))


def judge_raw(measures: _RawMeasures) -> tuple[str, str, str] | None:
    """Judges the grey values of a section.

    Returns:
        Kind of a finding, fact and remedy: few levels, or values cut off at an end; or None.
    """
    if measures.levels < _FEWEST_LEVELS:
        fact = f"its pixels have {measures.levels} values from {measures.lowest:g} to "
        fact += f"{measures.highest:g}"
        remedy = "use the microscope's own file, not a mask, a look-up table or a screenshot"
        return "few-levels", fact, remedy
    ends = (
        (measures.share_lowest, "smallest", measures.lowest),
        (measures.share_highest, "largest", measures.highest),
    )
    facts = [
        f"{share:.1%} of its pixels have the {end} value {value:g}"
        for share, end, value in ends
        if share > _MOST_SATURATED
    ]
    remedy = "export it again without stretching its contrast; crop an empty border"
    return ("saturated", " and ".join(facts), remedy) if facts else None


@dataclass(frozen=True, eq=False)
class _Instances:
    """The instances of a mask, ordered by id; areas and centres (y, x) in px."""

    ids: np.ndarray
    areas: np.ndarray
    y: np.ndarray
    x: np.ndarray
    at_edge: np.ndarray  # whether they touch the edge of the image, which may cut them
    runs: np.ndarray  # runs of pixels along rows

    def marks(self, chosen: np.ndarray) -> tuple[tuple[float, float, float], ...]:
        """Centre y, x and radius in px of a circle with the area of each instance chosen."""
        radii = np.sqrt(self.areas[chosen] / np.pi)
        places = zip(self.y[chosen].tolist(), self.x[chosen].tolist(), radii.tolist(), strict=True)
        return tuple(places)


def inspect_instances(runs: LabelRuns, file: str) -> _Instances:
    """Measures the instances in an image of ids, whatever their size.

    Args:
        runs: Its runs.
        file: Its file, for messages.

    Raises:
        BenchError: If there are more than any annotation has: noise, or a raw image.
    """
    ids, places = runs.by_id
    if len(ids) > MOST_INSTANCES:
        raise BenchError(
            f"mask {file} must hold at most {MOST_INSTANCES} instances, received more: is it "
            "a raw image, or a threshold of noise?"
        )
    height, width = runs.shape
    rows, lengths = runs.rows, runs.lengths
    starts, stops = runs.spans.astype(np.int64).T
    at_edge = (rows == 0) | (rows == height - 1) | (starts == 0) | (stops == width)
    middles = (starts + stops - 1) / 2
    areas, y, x, edges, count = (
        np.bincount(places, each, minlength=len(ids))
        for each in (lengths, rows * lengths, middles * lengths, at_edge, None)
    )
    return _Instances(
        ids.astype(np.int64), areas.astype(np.int64), y / areas, x / areas, edges > 0, count
    )


@dataclass(frozen=True, eq=False)
class SmallSection:
    """A section small enough for a picture.

    Attributes:
        name: Its name.
        raw: Its raw image (y, x).
        labels: Its instances (y, x) by structure; those that cannot be used are missing.
        factor: Pixels of the section in one of these, along an edge.
        ignored: Where it is not annotated for one of them; None where all is annotated.
    """

    name: str
    raw: np.ndarray
    labels: Mapping[str, np.ndarray]
    factor: int
    ignored: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class MaskMeasures:
    """What is measured in one mask.

    Attributes:
        file: Its file.
        pixels: Those of its pixels that are annotated.
        kind: ``binary``, ``ids`` or ``empty``, as `read_instances` says.
        instances: Its instances.
        contrast: How much brighter the structure is than the rest, in deviations of the raw
            image; None where there is too little of either.
        values: Its values.
        drawn: Whether it was drawn from outlines, which have no values of their own.
        fit: How well it lies on the image as it is, mirrored and turned; None where there is too
            little of either.
        ignored: Those of its pixels that nobody annotated.
    """

    file: str
    pixels: int
    kind: str
    instances: _Instances
    contrast: float | None
    values: MaskValues
    drawn: bool = False
    fit: Fit | None = None
    ignored: int = 0

    @property
    def foreground(self) -> float:
        """Share of the annotated pixels that are foreground."""
        return float(self.instances.areas.sum()) / max(self.pixels, 1)

    @property
    def ignored_share(self) -> float:
        """Share of all pixels that nobody annotated."""
        return self.ignored / (self.ignored + self.pixels)


@dataclass(eq=False)
class SectionMeasures:
    """What is measured in a section.

    Attributes:
        name: Its name.
        split: Its split.
        file: The raw image's file.
        raw: Its grey values; None if it cannot be read.
        look: How it looks, to find copies; None if it cannot be used.
        masks: Its masks by structure; those that cannot be used are missing.
        findings: What is wrong with this section alone.
    """

    name: str
    split: str
    file: str
    raw: _RawMeasures | None = None
    look: Look | None = None
    masks: dict[str, MaskMeasures] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def finding(
        self,
        kind: str,
        fact: str,
        remedy: str = "",
        structure: str | None = None,
        *,
        file: str | None = None,
        count: int | None = None,
        marks: tuple[tuple[float, float, float], ...] = (),
    ) -> Finding:
        """A finding about this section; the file is that of its raw image if not given."""
        place = (self.split, self.name, structure, file or self.file)
        return Finding(kind, fact, remedy, *place, count, marks)


def list_fits(
    structures: Sequence[str], sections: Sequence[SectionMeasures]
) -> dict[str, dict[str, Fit]]:
    """The fits of the masks of some structures by section, where they could be measured."""
    return {
        structure: {
            section.name: mask.fit
            for section in sections
            if (mask := section.masks.get(structure)) is not None and mask.fit is not None
        }
        for structure in structures
    }
