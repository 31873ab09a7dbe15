"""What each ingredient of a combination is worth alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.metrics.curves import ThresholdCounts
from bench.metrics.table import HEADLINE, METRICS
from bench.postprocess.instances import LARGEST_FOOTPRINT_RADIUS_PX
from bench.search.candidates import (
    Candidate,
    Evidence,
    best_by_area,
    best_of,
    pixel_curve,
    separate,
    with_scores,
)
from bench.search.finalists import count_blend
from bench.search.map_search import Histograms


@dataclass(frozen=True)
class Ingredient:
    """The plain model with one thing changed.

    Attributes:
        name: What was changed.
        candidate: The result, with its scores on validation.
        gain: How much better the metric is than the plain model's.
    """

    name: str
    candidate: Candidate
    gain: float


def ablate(
    evidence: Evidence,
    plain: Candidate,
    winner: Candidate,
    histograms: Histograms,
    *,
    radii: Sequence[int],
    metric: str,
) -> list[Ingredient]:
    """Adds each ingredient alone to the plain model.

    Args:
        evidence: The validation sections.
        plain: The best model alone, as it is evaluated without any search.
        winner: The best combination.
        histograms: Pixel scores of all blends.
        radii: Openings tried.
        metric: The metric of the search.

    Returns:
        The plain model, each ingredient alone, and the winner.
    """
    wanted = {*radii, plain.opening_radius_px}
    opened = [radius for radius in sorted(wanted) if radius <= LARGEST_FOOTPRINT_RADIUS_PX]
    by_radius = count_blend(evidence, plain.blend, opened, (plain.min_area_px,))
    found: dict[str, Candidate | None] = {
        "plain model": plain,
        "threshold": _best_threshold(plain, by_radius, metric),
        "augmentation": _swap_blend(evidence, plain, histograms, alone=True),
        "ensemble": _swap_blend(evidence, plain, histograms, alone=False),
        "opening": best_of(
            [with_scores(evidence, replace(plain, opening_radius_px=r)) for r in by_radius], metric
        ),
        "minimum area": _best_area(evidence, plain, winner, metric),
        "separation": separate(evidence, plain),
        "spheres" if evidence.voxel_size_nm else "circles": _round(evidence, plain, metric),
        "all together": winner,
    }
    row, start = METRICS[metric], plain.scores[metric]
    return [
        Ingredient(name, candidate, row.merit(candidate.scores[metric] - start))
        for name, candidate in found.items()
        if candidate is not None
    ]


def _best_threshold(
    plain: Candidate, by_radius: Mapping[int, ThresholdCounts], metric: str
) -> Candidate | None:
    """The plain model with the best threshold.

    Instances that a model finds itself are not opened: their one count is for every radius.
    """
    counts = by_radius.get(plain.opening_radius_px, by_radius[0] if [*by_radius] == [0] else None)
    if counts is None:
        return None
    areas = (plain.min_area_px,)
    (best,) = best_by_area(plain.blend, counts, plain.opening_radius_px, areas, metric)
    return best


def _swap_blend(
    evidence: Evidence, plain: Candidate, histograms: Histograms, *, alone: bool
) -> Candidate | None:
    """The plain model with the best augmentations, or in the best ensemble without any.

    The best by Dice of the pixels at the plain threshold.
    """
    member, nothing = plain.blend.members[0], plain.blend.augmentations
    candidates = [
        blend
        for blend in histograms
        if blend != plain.blend
        and (
            blend.members == (member,)
            if alone
            else len(blend.members) > 1 and blend.augmentations == nothing
        )
    ]
    if not candidates:
        return None
    best = max(candidates, key=lambda blend: pixel_curve(histograms[blend], HEADLINE)[plain.level])
    return with_scores(evidence, replace(plain, blend=best))


def _best_area(evidence: Evidence, plain: Candidate, winner: Candidate, metric: str) -> Candidate:
    """The plain model with its own minimum area, none, or the winner's."""
    areas = dict.fromkeys((plain.min_area_px, 0, winner.min_area_px))
    tried = [with_scores(evidence, replace(plain, min_area_px=area)) for area in areas]
    return best_of(tried, metric)


def _round(evidence: Evidence, plain: Candidate, metric: str) -> Candidate | None:
    """The plain model with its vesicles as spheres, or circles; None where it has them so."""
    if plain.spheres or not evidence.spheres:
        return None
    rounded = (replace(plain, watershed=None, spheres=spheres) for spheres in evidence.spheres)
    return best_of([with_scores(evidence, each) for each in rounded], metric)


def best_plain(
    evidence: Evidence, defaults: Mapping[str, Candidate], metric: str
) -> tuple[Candidate, dict[str, Candidate]]:
    """Scores every model as it is evaluated without a search; the best, and all."""
    scored = {name: with_scores(evidence, plain) for name, plain in defaults.items()}
    return best_of(scored.values(), metric), scored
