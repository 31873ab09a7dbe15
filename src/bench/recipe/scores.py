"""From stored probabilities and annotations to the scores of a split."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.metrics.curves import ScoreHistogram
from bench.metrics.measures import (
    ClassMaps,
    Measure,
    PromptedIous,
    ScoredSection,
    leave_out_open,
    measure_classes,
    measure_histogram,
    measure_vesicles,
)
from bench.metrics.table import METRICS, finish_scores, measure_section, usual_metrics
from bench.postprocess.instances import Instances
from bench.recipe.volumes import VolumeInstances


@dataclass
class SplitResult:
    """Scores of a split, pooled: pixels and instances of all sections count alike.

    Only what is summed is kept of a section, so memory does not grow with their size.

    Attributes:
        metrics: Names of what is scored; by default all that need not be asked for.
        pixel_size_nm: Edge of a pixel of the sections; None where it is not known.
        sections: Scores of every section, by its name.
        empty: Names of sections where truth and prediction are both empty.
        totals: What was measured of all sections, by the function that measures it.
        before_px: Predicted foreground before post-processing.
        after_px: Predicted foreground after it.
        voxel_size_nm: Edges of a voxel (z, y, x) where volumes are scored; None for sections, and
            where they are not known.
    """

    metrics: Sequence[str] = field(default_factory=usual_metrics)
    pixel_size_nm: float | None = None
    sections: dict[str, dict[str, float]] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    totals: dict[Measure, Any] = field(default_factory=dict)
    before_px: int = 0
    after_px: int = 0
    voxel_size_nm: Sequence[float] | None = None

    def add(
        self,
        name: str,
        *,
        truth: np.ndarray,
        probability: np.ndarray,
        instances: Instances,
        classes: ClassMaps | None = None,
        prompted: PromptedIous | None = None,
        levels: np.ndarray | None = None,
    ) -> None:
        """Scores a section, or a volume, and adds it.

        Args:
            name: Its name.
            truth: Instance labels (y, x) or (z, y, x).
            probability: uint8 alike, round(255 p), before post-processing.
            instances: The prediction after post-processing, with its spheres where they were found.
            classes: All classes of a model that has several.
            prompted: IoU of the masks of a model that is prompted by the annotation.
            levels: What is not annotated, and counts for nothing, alike: see ``metrics.overlap``;
                None where all is annotated.
        """
        spheres = instances if isinstance(instances, VolumeInstances) else None
        section = ScoredSection(
            truth,
            instances.labels,
            probability,
            self.pixel_size_nm,
            self.voxel_size_nm,
            spheres.mask if spheres else None,
            spheres.balls if spheres else None,
            classes,
            prompted,
        )
        section = leave_out_open(section, levels)
        measured = measure_section(section, self.metrics)
        self.sections[name] = finish_scores(measured, self._of_segmentations())
        if not section.truth.any() and not section.prediction.any():
            self.empty.append(name)
        self.before_px += instances.foreground_before_px
        self.after_px += instances.foreground_after_px
        for measure, part in measured.items():
            known = measure in self.totals
            self.totals[measure] = self.totals[measure] + part if known else part

    def _of_segmentations(self) -> list[str]:
        """Names of the metrics that score instances or pixels, and not probabilities."""
        return [name for name in self.metrics if METRICS[name].basis != "probability"]

    @property
    def histogram(self) -> ScoreHistogram:
        """Probabilities of all sections."""
        found: ScoreHistogram = self.totals[measure_histogram]
        return found

    def scores(self) -> dict[str, float]:
        """Pooled scores of the segmentation, by name."""
        return finish_scores(self.totals, self._of_segmentations())

    def all_scores(self) -> dict[str, float]:
        """Pooled scores, those of the probabilities included."""
        return finish_scores(self.totals, self.metrics)

    def vesicles(self) -> dict[str, dict[str, float | int]]:
        """What is known of the vesicles of each volume, by its name; empty for sections."""
        matchings = self.totals.get(measure_vesicles, ())
        if len(matchings) != len(self.sections):
            return {}
        pairs = zip(self.sections, matchings, strict=True)
        return {name: matching.describe() for name, matching in pairs}

    def confusion(self) -> np.ndarray | None:
        """Pixels of every pair of true and predicted class; None without classes."""
        tables = self.totals.get(measure_classes, ())
        return np.sum(tables, axis=0) if tables else None

    def removed_fraction(self) -> float:
        """Share of predicted foreground that post-processing removed."""
        return 1 - self.after_px / self.before_px if self.before_px else 0.0


def threshold_level(threshold: float) -> int:
    """The stored level (0 to 255) from which a probability of at least ``threshold`` counts."""
    return int(np.ceil(threshold * 255))
