"""Scores of a candidate, computed as for any evaluated model."""

from dataclasses import replace

from bench.evaluation import SplitResult
from bench.postprocess.segmentation import segment_prediction
from bench.postprocess.settings import PostprocessSettings
from bench.postprocess.watershed import choose_watershed
from bench.search.candidates import SEARCHABLE, Candidate
from bench.search.evidence import Evidence


def score_candidate(evidence: Evidence, candidate: Candidate) -> SplitResult:
    """Segments every section as the candidate says, and scores it."""
    result = SplitResult()
    settings = PostprocessSettings(candidate.opening_radius_px, candidate.min_area_px, "")
    for section in evidence.sections:
        prediction = evidence.blend(candidate.blend, section)
        instances = segment_prediction(
            prediction, level=candidate.level, settings=settings, watershed=candidate.watershed
        )
        truth = evidence.read_truth(section)
        result.add(section, truth=truth, probability=prediction.foreground, instances=instances)
    return result


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
