"""From stored probabilities and annotations to the scores of a split."""

from dataclasses import dataclass, field

import numpy as np

from bench.metrics.curves import ScoreHistogram, histogram_scores
from bench.metrics.instances import Matching, instance_scores, match_instances
from bench.metrics.overlap import PixelCounts, count_pixels, overlap_scores
from bench.postprocess.instances import Instances


@dataclass
class SplitResult:
    """Scores of a split, pooled: pixels and instances of all sections count alike.

    Only what is summed is kept of a section, so memory does not grow with their size.

    Attributes:
        sections: Scores of every section, by its name.
        empty: Names of sections where truth and prediction are both empty: their scores are 1.
        counts: Pixels of all sections.
        matching: Instances of all sections.
        histogram: Probabilities of all sections.
        before_px: Predicted foreground before post-processing.
        after_px: Predicted foreground after it.
    """

    sections: dict[str, dict[str, float]] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    counts: PixelCounts | None = None
    matching: Matching | None = None
    histogram: ScoreHistogram | None = None
    before_px: int = 0
    after_px: int = 0

    def add(
        self, name: str, *, truth: np.ndarray, probability: np.ndarray, instances: Instances
    ) -> None:
        """Scores a section and adds it.

        Args:
            name: The section's name.
            truth: Instance labels (y, x).
            probability: (y, x) uint8, round(255 p), before post-processing.
            instances: The prediction after post-processing.
        """
        counts = count_pixels(truth=truth, prediction=instances.labels)
        matching = match_instances(truth=truth, prediction=instances.labels)
        histogram = histogram_scores(truth=truth, probability=probability)
        self.sections[name] = overlap_scores(counts) | instance_scores(matching)
        if counts.both_empty:
            self.empty.append(name)
        self.before_px += instances.foreground_before_px
        self.after_px += instances.foreground_after_px
        self.counts = self.counts + counts if self.counts else counts
        self.matching = self.matching + matching if self.matching else matching
        self.histogram = self.histogram + histogram if self.histogram else histogram

    def scores(self) -> dict[str, float]:
        """Pooled scores, by name."""
        assert self.counts is not None
        assert self.matching is not None
        return overlap_scores(self.counts) | instance_scores(self.matching)

    def removed_fraction(self) -> float:
        """Share of predicted foreground that post-processing removed."""
        return 1 - self.after_px / self.before_px if self.before_px else 0.0


def threshold_level(threshold: float) -> int:
    """The stored level (0 to 255) from which a probability of at least ``threshold`` counts."""
    return int(np.ceil(threshold * 255))
