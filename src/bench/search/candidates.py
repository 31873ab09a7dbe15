"""Candidates of the search: what they are scored on, how, and which one of equals is taken."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bench.errors import BenchError
from bench.inference.blends import Blend, describe_blend
from bench.inference.prediction import SectionPrediction
from bench.metrics.curves import TOP_LEVEL, ScoreHistogram, ThresholdCounts
from bench.metrics.table import HEADLINE, METRICS, searchable_metrics
from bench.postprocess.instances import Instances
from bench.postprocess.segmentation import PostprocessSettings, segment_prediction
from bench.postprocess.spheres.settings import SphereSettings
from bench.postprocess.watershed import WatershedSettings, choose_watershed
from bench.recipe.scores import SplitResult
from bench.recipe.volumes import make_spheres

# Where the metric says nothing of instances, they decide between equals, and the other way round.
_SECOND = {True: "instance_f1", False: HEADLINE}


@dataclass(frozen=True)
class Candidate:
    """A combination: a blend, its threshold and its post-processing.

    Attributes:
        blend: The maps made one.
        level: A pixel is foreground from this level on, 0 to 255.
        opening_radius_px: Radius of the opening.
        min_area_px: Smallest instance kept.
        scores: Metrics on validation.
        watershed: How touching instances are separated; None leaves them together.
        spheres: How vesicles become spheres, in sections circles; None leaves what was found.
    """

    blend: Blend
    level: int
    opening_radius_px: int
    min_area_px: int
    scores: Mapping[str, float] = field(compare=False)
    watershed: WatershedSettings | None = None
    spheres: SphereSettings | None = None

    @property
    def threshold(self) -> float:
        """The threshold as a probability, exactly that of the level."""
        return self.level / TOP_LEVEL

    def describe(self) -> dict[str, Any]:
        """A row of the search table."""
        return {
            **describe_blend(self.blend),
            "threshold": round(self.threshold, 4),
            "level": self.level,
            "opening_radius_px": self.opening_radius_px,
            "min_area_px": self.min_area_px,
            "watershed": self.watershed is not None,
            **({"spheres": self.spheres.summary} if self.spheres else {}),
            **self.scores,
        }


def check_metric(metric: str) -> None:
    """Raises BenchError for a metric that no threshold can be chosen by."""
    if metric not in searchable_metrics():
        raise BenchError(
            "the search needs a metric of a segmentation that is counted at every threshold, "
            f"received {metric!r}: choose one of {', '.join(searchable_metrics())}"
        )


def is_of_pixels(metric: str) -> bool:
    """Whether a metric can be had from the pixels of a map, before there are instances."""
    return METRICS[metric].basis == "pixels"


def _pixel_counts(histogram: ScoreHistogram) -> ThresholdCounts:
    """The counts of a histogram: of pixels only, for one minimum area of nothing."""
    found, wrong = (part[None] for part in histogram.from_threshold())
    nothing = np.zeros_like(found)
    return ThresholdCounts(
        truth_px=int(histogram.foreground.sum()),
        truth_instances=0,
        instances=nothing,
        predicted_px=found + wrong,
        true_px=found,
        matched=nothing[None],
        matched_iou=nothing,
    )


def pixel_curve(histogram: ScoreHistogram, metric: str) -> np.ndarray:
    """A pixel metric at every threshold, (256,)."""
    return np.asarray(METRICS[metric].at_thresholds(_pixel_counts(histogram))[0])


def middle_of_best(scores: np.ndarray, metric: str) -> int:
    """The place of the best score; of several, the middle one: far from where it gets worse."""
    merits = METRICS[metric].merit(scores)
    best = np.flatnonzero(merits == merits.max())
    return int(best[(best.size - 1) // 2])


def best_merit(histogram: ScoreHistogram, metric: str) -> float:
    """What a pixel metric reaches at its best threshold, the higher the better."""
    return float(METRICS[metric].merit(pixel_curve(histogram, metric)).max())


def best_by_area(
    blend: Blend, counts: ThresholdCounts, radius: int, min_areas: Iterable[int], metric: str
) -> list[Candidate]:
    """The best threshold for each minimum area."""
    curves = {name: METRICS[name].at_thresholds(counts) for name in searchable_metrics()}
    found = []
    for place, area in enumerate(min_areas):
        level = middle_of_best(curves[metric][place], metric)
        scores = {name: float(curve[place, level]) for name, curve in curves.items()}
        found.append(Candidate(blend, level, radius, area, scores))
    return found


def preference(candidate: Candidate, metric: str) -> tuple[float, ...]:
    """By what candidates are ordered, the best highest: score, then what is simpler.

    Differences in the tenth digit are of rounding, not of segmentation.
    """
    second = _SECOND[is_of_pixels(metric)]
    return (
        *(round(METRICS[name].merit(candidate.scores[name]), 10) for name in (metric, second)),
        -candidate.blend.passes,
        -len(candidate.blend.members),
        -candidate.opening_radius_px,
        -candidate.min_area_px,
    )


def best_of(candidates: Iterable[Candidate], metric: str) -> Candidate:
    """The best candidate; the first of those that nothing tells apart."""
    return max(candidates, key=lambda candidate: preference(candidate, metric))


def _nothing_open(section: str) -> None:
    """What of a section is not annotated, of those that are annotated whole."""


@dataclass(frozen=True)
class Evidence:
    """Predictions of several models of the same sections, or of the same volumes.

    What is said of sections here holds of volumes: their maps and ids are (z, y, x).

    Attributes:
        sections: Names of the sections, or of the volumes.
        members: Augmentations stored of each model, by the model's name.
        read: From a model, a section and an augmentation to the maps.
        read_truth: From a section to its instance ids (y, x).
        pixel_size_nm: Edge of a pixel of the sections; None where it is not known.
        voxel_size_nm: Edges of a voxel of the volumes (z, y, x); None for sections, and where they
            are not known.
        read_raw: From a section or volume to its image.
        spheres: How its vesicles may become spheres or circles; empty where that is not tried.
        read_levels: From a section to what of it is not annotated; None where all is.
    """

    sections: Sequence[str]
    members: Mapping[str, tuple[str, ...]]
    read: Callable[[str, str, str], SectionPrediction]
    read_truth: Callable[[str], np.ndarray]
    pixel_size_nm: float | None = None
    voxel_size_nm: Sequence[float] | None = None
    read_raw: Callable[[str], np.ndarray] | None = None
    spheres: tuple[SphereSettings, ...] = ()
    read_levels: Callable[[str], np.ndarray | None] = _nothing_open

    def blend(self, blend: Blend, section: str) -> SectionPrediction:
        """The one prediction that a blend makes of a section."""
        return blend.apply(
            [self.read(member, section, name) for name in blend.augmentations]
            for member in blend.members
        )

    def shared_augmentations(self, members: Sequence[str]) -> tuple[str, ...]:
        """The augmentations that all of these models have."""
        first, *others = (self.members[name] for name in members)
        return tuple(name for name in first if all(name in stored for stored in others))


def score_candidate(
    evidence: Evidence, candidate: Candidate, metrics: Sequence[str]
) -> SplitResult:
    """Segments every section as the candidate says, and scores it by some metrics."""
    result = SplitResult(metrics, evidence.pixel_size_nm, voxel_size_nm=evidence.voxel_size_nm)
    for section in evidence.sections:
        prediction = evidence.blend(candidate.blend, section)
        result.add(
            section,
            truth=evidence.read_truth(section),
            probability=prediction.foreground,
            instances=_segment_as(evidence, candidate, section, prediction),
            levels=evidence.read_levels(section),
        )
    return result


def segment_candidate(evidence: Evidence, candidate: Candidate, section: str) -> Instances:
    """Segments a section as the candidate says."""
    return _segment_as(evidence, candidate, section, evidence.blend(candidate.blend, section))


def _segment_as(
    evidence: Evidence, candidate: Candidate, section: str, prediction: SectionPrediction
) -> Instances:
    if candidate.spheres:
        assert evidence.read_raw is not None
        size_nm = evidence.voxel_size_nm or evidence.pixel_size_nm
        assert size_nm is not None
        raw = evidence.read_raw(section)
        return make_spheres(prediction, size_nm, raw, candidate.spheres, candidate.level)
    return segment_prediction(
        prediction,
        level=candidate.level,
        settings=PostprocessSettings(candidate.opening_radius_px, candidate.min_area_px, ""),
        watershed=candidate.watershed,
    )


def with_scores(evidence: Evidence, candidate: Candidate) -> Candidate:
    """The candidate with its scores."""
    scored = score_candidate(evidence, candidate, searchable_metrics())
    return replace(candidate, scores=scored.scores())


def separate(evidence: Evidence, candidate: Candidate) -> Candidate | None:
    """The candidate with the watershed that separates the sections' instances best.

    Returns:
        None where the models of its blend have no boundary, or find instances themselves.
    """
    first = evidence.blend(candidate.blend, evidence.sections[0])
    if first.boundary is None or first.instances is not None:
        return None
    predicted = (
        (evidence.read_truth(section), prediction.foreground, prediction.boundary)
        for section in evidence.sections
        if (prediction := evidence.blend(candidate.blend, section)).boundary is not None
    )
    chosen, tried = choose_watershed(
        predicted,
        threshold_level=candidate.level,
        opening_radius_px=candidate.opening_radius_px,
        min_area_px=candidate.min_area_px,
        levels=map(evidence.read_levels, evidence.sections),
    )
    if not tried:
        return None
    return with_scores(evidence, replace(candidate, watershed=chosen))
