"""What a metric sees of a section or a volume, and what it measures of it, to be added up."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench.metrics.classes import count_confusion, mean_class_iou
from bench.metrics.consistency import ObjectConsistency, find_object_consistency
from bench.metrics.curves import ScoreHistogram, histogram_scores
from bench.metrics.distances import Distances, find_distances
from bench.metrics.instances import Matching, count_instances_only, match_instances
from bench.metrics.matched import MatchedOverlap, find_matched_overlap
from bench.metrics.overlap import PixelCounts, count_pixels, cut_open, dice_score, find_open
from bench.metrics.vesicles import (
    Balls,
    VesicleMatching,
    balls_of_labels,
    keep_annotated,
    match_balls,
)

# Of a section: from the kind of a prompt to the IoU of the mask of each object.
PromptedIous = Mapping[str, Sequence[float]]


@dataclass(frozen=True, eq=False)
class ClassMaps:
    """The class of every pixel, as it is annotated and predicted.

    Attributes:
        truth: Classes (y, x) or (z, y, x), 0 is background.
        prediction: The most probable ones.
        number: How many there are, background included.
        ignored: Where nobody annotated one of them, bool; None where all is annotated.
    """

    truth: np.ndarray
    prediction: np.ndarray
    number: int
    ignored: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class ScoredSection:
    """A section, or a volume, as a metric sees it.

    Attributes:
        truth: Instance ids (y, x) or (z, y, x), 0 is background.
        prediction: Instance ids after post-processing.
        probability: uint8 levels before it; level t stands for the probability t / 255.
        pixel_size_nm: Edge of a pixel; None where it is not known.
        voxel_size_nm: Edges of a voxel (z, y, x); None for sections, and where they are not known.
        mask: Boolean, what reached the threshold before spheres were found in it; None where no
            spheres were.
        balls: The spheres that were found; None where none were fitted.
        classes: All classes of a model that has several; None of others.
        prompted: IoU of the masks of objects that were prompted; None of a model that is not.
        levels: What is not annotated, of the truth's shape: see ``metrics.overlap``; None where
            all is. Truth, prediction and mask have nothing there.
        instances: Truth and prediction with those instances alone that count, where not all do.
    """

    truth: np.ndarray
    prediction: np.ndarray
    probability: np.ndarray
    pixel_size_nm: float | None = None
    voxel_size_nm: Sequence[float] | None = None
    mask: np.ndarray | None = None
    balls: Balls | None = None
    classes: ClassMaps | None = None
    prompted: PromptedIous | None = None
    levels: np.ndarray | None = None
    instances: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def counted(self) -> dict[str, np.ndarray]:
        """Truth and prediction, by these names, of the instances that count."""
        truth, prediction = self.instances or (self.truth, self.prediction)
        return {"truth": truth, "prediction": prediction}


def leave_out_open(section: ScoredSection, levels: np.ndarray | None) -> ScoredSection:
    """A section as metrics see it where nobody annotated a part of it.

    Args:
        section: The section, as it was annotated and predicted.
        levels: What is not annotated; None where all is, and the section is returned as it is.
    """
    if levels is None:
        return section
    balls = section.balls
    if balls is not None and section.voxel_size_nm is not None:
        balls = keep_annotated(balls, levels > 0, section.voxel_size_nm)
    return replace(
        section,
        truth=cut_open(section.truth, levels),
        prediction=cut_open(section.prediction, levels),
        mask=None if section.mask is None else cut_open(section.mask, levels),
        balls=balls,
        levels=levels,
        instances=count_instances_only(section.truth, section.prediction, levels),
    )


Measure = Callable[[ScoredSection], Any]


def measure_pixels(section: ScoredSection) -> PixelCounts:
    """Pixels by agreement of prediction and truth."""
    opened = find_open(section.levels)
    return count_pixels(truth=section.truth, prediction=section.prediction, ignored=opened)


def measure_matching(section: ScoredSection) -> Matching:
    """Matched instances of prediction and truth."""
    return match_instances(**section.counted)


def measure_histogram(section: ScoredSection) -> ScoreHistogram:
    """Pixels of foreground and background by probability."""
    opened = find_open(section.levels)
    return histogram_scores(truth=section.truth, probability=section.probability, ignored=opened)


def measure_mask_pixels(section: ScoredSection) -> tuple[PixelCounts, ...]:
    """Pixels by agreement of truth and mask, of each unit that has a mask."""
    if section.mask is None:
        return ()
    opened = find_open(section.levels)
    return (count_pixels(truth=section.truth, prediction=section.mask, ignored=opened),)


def measure_vesicles(section: ScoredSection) -> tuple[VesicleMatching, ...]:
    """Matched vesicles, of each unit that is a volume with a known size of its voxels."""
    size = section.voxel_size_nm
    if section.truth.ndim != 3 or size is None:
        return ()
    fitted = section.balls
    counted = section.counted
    found = balls_of_labels(counted["prediction"], size) if fitted is None else fitted
    return (match_balls(truth=balls_of_labels(counted["truth"], size), prediction=found),)


def measure_distances_px(section: ScoredSection) -> tuple[Distances, ...]:
    """Distances in pixels or voxels, of each unit that has both truth and prediction."""
    found = find_distances(truth=section.truth, prediction=section.prediction)
    return (found,) if found else ()


def measure_distances_nm(section: ScoredSection) -> tuple[Distances, ...]:
    """Distances in nm, of each unit that has both sides and pixels of known size."""
    edges: Sequence[float] | None = section.voxel_size_nm
    if section.truth.ndim == 2 and section.pixel_size_nm:
        edges = (section.pixel_size_nm, section.pixel_size_nm)
    if edges is None:
        return ()
    found = find_distances(truth=section.truth, prediction=section.prediction, sampling=edges)
    return (found,) if found else ()


def measure_matched_overlap(section: ScoredSection) -> tuple[MatchedOverlap, ...]:
    """Overlap of the truth with the predicted instances that touch it, of each unit."""
    return (find_matched_overlap(**section.counted),)


def measure_consistency(section: ScoredSection) -> ObjectConsistency:
    """Errors of the objects of truth and prediction, each against those of the other."""
    return find_object_consistency(**section.counted)


def measure_classes(section: ScoredSection) -> tuple[np.ndarray, ...]:
    """Pixels of every pair of true and predicted class, of each unit whose model has classes."""
    maps = section.classes
    if maps is None:
        return ()
    truth, prediction = maps.truth, maps.prediction
    if maps.ignored is not None:
        truth, prediction = truth[~maps.ignored], prediction[~maps.ignored]
    table = count_confusion(truth=truth, prediction=prediction, classes=maps.number)
    return (table,)


def measure_prompted(section: ScoredSection) -> tuple[PromptedIous, ...]:
    """IoU of prompted masks, of each unit whose objects were prompted."""
    return () if section.prompted is None else (section.prompted,)


def mean_iou(tables: Sequence[np.ndarray]) -> float:
    """Mean IoU of all classes but the background, of all units; NaN where none has classes."""
    if not tables:
        return math.nan
    total = np.sum(tables, axis=0)
    return mean_class_iou(total, ignored=None, averaged=range(1, len(total)))


def dice_of_masks(counts: Sequence[PixelCounts]) -> float:
    """Dice of the masks of all units together; NaN where none has one."""
    return dice_score(sum(counts, PixelCounts())) if counts else math.nan


def pool_vesicles(
    finish: Callable[[VesicleMatching], float],
) -> Callable[[Sequence[VesicleMatching]], float]:
    """The score of the vesicles of all volumes together; NaN where none is a volume."""

    def finish_pooled(matchings: Sequence[VesicleMatching]) -> float:
        return finish(sum(matchings, VesicleMatching())) if matchings else math.nan

    return finish_pooled
