"""Scores of a candidate, computed as for any evaluated model."""

from dataclasses import replace

from bench.inference.prediction import SectionPrediction
from bench.postprocess.instances import Instances
from bench.postprocess.segmentation import PostprocessSettings
from bench.postprocess.segmentation_ import segment_prediction
from bench.postprocess.watershed import choose_watershed
from bench.recipe.scores import SplitResult
from bench.search.candidates import SEARCHABLE, Candidate
from bench.search.evidence import Evidence


def score_candidate(evidence: Evidence, candidate: Candidate) -> SplitResult:
    """Segments every section as the candidate says, and scores it."""
    result = SplitResult()
    for section in evidence.sections:
        prediction = evidence.blend(candidate.blend, section)
        result.add(
            section,
            truth=evidence.read_truth(section),
            probability=prediction.foreground,
            instances=segment_as(candidate, prediction),
        )
    return result


def segment_section(evidence: Evidence, candidate: Candidate, section: str) -> Instances:
    """Segments a section as the candidate says."""
    return segment_as(candidate, evidence.blend(candidate.blend, section))


def segment_as(candidate: Candidate, prediction: SectionPrediction) -> Instances:
    """Makes instances of a section's maps as the candidate says."""
    return segment_prediction(
        prediction,
        level=candidate.level,
        settings=PostprocessSettings(candidate.opening_radius_px, candidate.min_area_px, ""),
        watershed=candidate.watershed,
    )


def with_scores(evidence: Evidence, candidate: Candidate) -> Candidate:
    """The candidate with its scores."""
    scores = score_candidate(evidence, candidate).scores()
    return replace(candidate, scores={name: scores[name] for name in SEARCHABLE})


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
    )
    if not tried:
        return None
    return with_scores(evidence, replace(candidate, watershed=chosen))
