"""Grey values that a model was trained on, and how far others are from them."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.core.names import first_names

# Key of ModelInfo.training.
GREY = "grey_values"
# Pixels of a section that are looked at, on a regular grid.
_SAMPLE_PX = 500_000
_PERCENTILES = (1, 50, 99)
# Between sections of one recording the mean differs by at most 0.3 deviations, the deviation by a
# factor of 1.1, and the place of the median by 0.12; an inverted section of VNC differs by 0.2 in
# the latter, the phantom's two domains by a factor of 2.1 in deviation.
_FAR_MEAN = 1.0
_FAR_DEVIATION = 1.8
_FAR_MEDIAN = 0.15


@dataclass(frozen=True)
class GreyValues:
    """Grey values of sections: of each number, the median over the sections.

    Attributes:
        depth: Type of the pixels, such as ``uint8``.
        mean: Mean.
        deviation: Standard deviation.
        low: 1st percentile.
        median: 50th percentile.
        high: 99th percentile.
    """

    depth: str
    mean: float
    deviation: float
    low: float
    median: float
    high: float

    @classmethod
    def measure(cls, sections: Iterable[np.ndarray]) -> "GreyValues":
        """Measures sections (y, x), of which there must be one at least."""
        rows, depth = [], ""
        for raw in sections:
            step = max(1, int(np.ceil(np.sqrt(raw.size / _SAMPLE_PX))))
            sample, depth = raw[::step, ::step].astype(np.float64), depth or raw.dtype.name
            rows.append([sample.mean(), sample.std(), *np.percentile(sample, _PERCENTILES)])
        # Six digits say enough, and the same ones on every machine.
        return cls(depth, *(float(f"{value:.6g}") for value in np.median(rows, axis=0)))

    def to_json(self) -> dict[str, Any]:
        """The numbers as plain values."""
        return dataclasses.asdict(self)

    def describe_distance(self, seen: "GreyValues") -> str:
        """Says how these grey values are far from those seen in training; empty where they are not.

        Mean and deviation of another depth are in other units: there only the place of the median
        between the darkest and the brightest counts.
        """
        if self.depth == seen.depth:
            apart = abs(self.mean - seen.mean) / max(seen.deviation, 1e-30)
            ratio = max(self.deviation, 1e-30) / max(seen.deviation, 1e-30)
            if apart > _FAR_MEAN or not 1 / _FAR_DEVIATION <= ratio <= _FAR_DEVIATION:
                return (
                    f"mean {self.mean:.4g} and deviation {self.deviation:.3g}, in training "
                    f"{seen.mean:.4g} and {seen.deviation:.3g}"
                )
        if abs(self._place_of_median() - seen._place_of_median()) > _FAR_MEDIAN:
            brighter = self._place_of_median() > seen._place_of_median()
            return f"mostly {'bright' if brighter else 'dark'} where training was not: inverted?"
        return ""

    def _place_of_median(self) -> float:
        return (self.median - self.low) / max(self.high - self.low, 1e-30)


def find_contrast_warnings(
    seen: Sequence[GreyValues], sections: Iterable[tuple[str, np.ndarray]]
) -> list[str]:
    """What is suspicious about the contrast of images, in one line; none where nothing is.

    Args:
        seen: What each model was trained on, where that is known.
        sections: Name and pixels (y, x) of sections to look at.
    """
    looked, far = 0, {}
    for name, raw in sections if seen else ():
        looked += 1
        found = GreyValues.measure([raw])
        said = next(filter(None, map(found.describe_distance, seen)), "")
        if said:
            far[name] = said
    if not far:
        return []
    name, said = next(iter(far.items()))
    return [
        f"the contrast of {len(far)} of {looked} sections looked at ({first_names(list(far))}) is "
        f"far from what the model was trained on ({name}: {said}): look at the pictures before "
        "numbers are believed, and annotate and train on such sections if they are wrong"
    ]
