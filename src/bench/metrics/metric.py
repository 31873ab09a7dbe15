"""What the suite knows of a metric: one row of METRICS."""

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import numpy as np

from bench.errors import BenchError
from bench.metrics.curves import ThresholdCounts
from bench.metrics.measures import Measure


@dataclass(frozen=True)
class Metric:
    """All about a metric.

    Attributes:
        label: The name in tables and charts.
        meaning: One sentence for the report.
        finish: From what was measured, of one section or added up over several, to the score; NaN
            where it is not defined, which a metric that a search may choose by always is.
        search: From counts, what is divided by what at each threshold and minimum area; the
            same numbers as ``finish``. Nothing divided by nothing is the best score, anything
            else by nothing the worst. None where no search may choose by the metric.
        measure: From a section to what is added up with ``+``, such as PixelCounts; metrics that
            share the function share what it returns.
        basis: What it scores: pixels or instances of a segmentation, or the probabilities before
            there is one, which have one score over all sections and none for each.
        direction: Whether the better method has the higher or the lower value.
        low: The lowest value that can be; -inf without one.
        high: The highest; inf without one.
        unit: What its values are in, such as nm; empty for a share.
        decimals: Digits shown after the point; values that look alike with them are equal.
        column: Whether the table has a column of it; CSV and JSON files have every metric.
        volumes: Whether it scores volumes only. Such a metric is no column of a table where no
            method has it, and is not asked of sections.
        about: What the name of a structure must contain for the metric to be asked; empty for all.
        requested: Whether it is scored only where a user asks for it by name: what costs more
            than the others, or is the custom of one field. Such a metric is no column of a table
            where no method has it.
        short: The label over a column of a terminal, with line breaks; by default the label, a
            word a line.
        classes: Whether it is asked of models of classes only, of all their structures together.
        prompted: Whether it is asked only where prompts are made from the annotation.

    Raises:
        BenchError: If the range is empty, or a search may choose by a metric without bounds.
    """

    label: str
    meaning: str
    finish: Callable[[Any], float]
    search: Callable[[ThresholdCounts], tuple[Any, Any]] | None = None
    _: KW_ONLY
    measure: Measure
    basis: Literal["pixels", "instances", "probability"]
    direction: Literal["higher", "lower"] = "higher"
    low: float = 0.0
    high: float = 1.0
    unit: str = ""
    decimals: int = 3
    column: bool = True
    short: str = ""
    volumes: bool = False
    about: str = ""
    requested: bool = False
    classes: bool = False
    prompted: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.search and not math.isfinite(self.span)):
            raise BenchError(
                f"metric {self.label!r} must have a range, with two ends where a search may choose "
                f"by it, received {self.low:g} to {self.high:g}: state low and high"
            )

    @property
    def rare(self) -> bool:
        """Whether a table has a column of it only where a row has it."""
        return self.volumes or self.requested or self.classes or self.prompted

    @property
    def heading(self) -> str:
        """The label with the unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def narrow_heading(self) -> str:
        """The heading over a column of a terminal."""
        label = self.short or self.label.replace(" ", "\n")
        return f"{label}\n({self.unit})" if self.unit else label

    @property
    def span(self) -> float:
        """From the lowest to the highest value, which is the largest difference of two."""
        return self.high - self.low

    @property
    def ends(self) -> tuple[float, float]:
        """The worst and the best value that can be."""
        return (self.low, self.high) if self.direction == "higher" else (self.high, self.low)

    def merit(self, value: Any) -> Any:
        """A value or a difference, or an array, turned so that the highest is the best."""
        return value if self.direction == "higher" else -value

    def write(self, value: float) -> str:
        """A value as a text."""
        return f"{value:.{self.decimals}f}"

    def write_change(self, difference: float) -> str:
        """A difference of two values as a text, with its sign."""
        return f"{difference:+.{self.decimals}f}"

    def at_thresholds(self, counts: ThresholdCounts) -> np.ndarray:
        """The score at each minimum area and threshold, (areas, 256).

        Raises:
            TypeError: If no search may choose by the metric.
        """
        if self.search is None:
            raise TypeError(f"{self.label} is not counted at thresholds")
        part, whole = self.search(counts)
        if self.basis == "instances":
            present = counts.instances + counts.truth_instances
        else:
            present = counts.predicted_px + counts.truth_px
        worst, best = self.ends
        nothing = np.where(present == 0, float(best), float(worst))
        return np.asarray(np.divide(part, whole, out=nothing, where=np.asarray(whole) > 0))
