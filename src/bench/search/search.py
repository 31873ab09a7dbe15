"""The search for the best combination of a structure, on validation sections only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from bench.errors import BenchError
from bench.inference.blends import Blend
from bench.metrics.curves import LEVELS
from bench.postprocess.watershed import list_settings
from bench.search.ablation import Ingredient, ablate, best_plain
from bench.search.candidates import (
    Candidate,
    Evidence,
    best_by_area,
    best_of,
    check_metric,
    is_of_pixels,
    preference,
    separate,
    with_scores,
)
from bench.search.finalists import choose_finalists, count_all
from bench.search.map_search import Histograms, MapSettings, ReportProgress, search_maps
from bench.words import SECTION_UNIT, VOLUME_UNIT

# Blends whose touching instances are separated, where the metric is of instances.
_SEPARATED = 3
# Blends whose vesicles become spheres.
_ROUNDED = 3


@dataclass(frozen=True)
class SearchSettings:
    """What is searched.

    Attributes:
        maps: Which blends.
        finalists: How many of them get post-processed.
        radii: Openings, px.
        min_areas: Smallest areas, px, ascending.
    """

    maps: MapSettings
    finalists: int
    radii: Sequence[int]
    min_areas: Sequence[int]

    @property
    def metric(self) -> str:
        """The metric that chooses."""
        return self.maps.metric


@dataclass(frozen=True)
class SearchResult:
    """What the search found.

    Attributes:
        winner: The best combination.
        single: The best model alone as it is evaluated without a search.
        plain: Every model so.
        candidates: The best threshold of every post-processed combination, the best first.
        histograms: Pixel scores of every blend at every threshold, not post-processed.
        ablation: What each ingredient is worth alone.
        combinations: How many combinations were scored.
    """

    winner: Candidate
    single: Candidate
    plain: Mapping[str, Candidate]
    candidates: Sequence[Candidate]
    histograms: Histograms
    ablation: Sequence[Ingredient]
    combinations: int


def search_combinations(
    evidence: Evidence,
    defaults: Mapping[str, Candidate],
    settings: SearchSettings,
    report: ReportProgress,
) -> SearchResult:
    """Searches the best combination.

    Pixel scores of every blend at every threshold come first. The best blends by them are
    post-processed in every way at every threshold, and the best of these separated. Which blends
    are tried and post-processed is a selection; every number that is compared is exact.

    Args:
        evidence: Predictions and annotations of the validation sections.
        defaults: Every model as it is evaluated without a search; scores may be missing.
        settings: What is searched.
        report: Called with what is done, of how much, and a remark.

    Raises:
        BenchError: If nothing can be chosen: a metric without a threshold, or no foreground.
    """
    check_metric(settings.metric)
    _check_foreground(evidence)
    histograms = search_maps(evidence, settings.maps, report)
    finalists = choose_finalists(histograms, settings.finalists, settings.metric)
    counted = count_all(evidence, finalists, settings.radii, settings.min_areas, report)
    candidates = [
        candidate
        for blend, by_radius in counted.items()
        for radius, counts in by_radius.items()
        for candidate in best_by_area(blend, counts, radius, settings.min_areas, settings.metric)
    ]
    candidates += _separate_best(evidence, candidates, settings.metric)
    spheres = _round_best(evidence, candidates, settings.metric)
    candidates += spheres
    single, plain = best_plain(evidence, defaults, settings.metric)
    candidates.sort(key=lambda each: preference(each, settings.metric), reverse=True)
    # Nothing that was searched may be worse than what needs no search.
    winner = best_of([*candidates, *plain.values()], settings.metric)
    processed = sum(len(by_radius) for by_radius in counted.values()) * len(settings.min_areas)
    return SearchResult(
        winner=winner,
        single=single,
        plain=plain,
        candidates=candidates,
        histograms=histograms,
        ablation=ablate(
            evidence, single, winner, histograms, radii=settings.radii, metric=settings.metric
        ),
        combinations=(len(histograms) + processed) * LEVELS
        + sum(
            len(list_settings(candidate.min_area_px))
            for candidate in candidates
            if candidate.watershed is not None
        )
        + len(spheres),
    )


def _separate_best(
    evidence: Evidence, candidates: Sequence[Candidate], metric: str
) -> list[Candidate]:
    """The best candidates again, with touching instances separated.

    A separation changes no pixel, so only the best is separated where the metric is of pixels;
    else the best of each of the first _SEPARATED blends whose models predict a boundary.
    """
    ordered = sorted(candidates, key=lambda each: preference(each, metric), reverse=True)
    best: dict[Blend, Candidate] = {}
    for candidate in ordered[:1] if is_of_pixels(metric) else ordered:
        best.setdefault(candidate.blend, candidate)
    separated = (separate(evidence, candidate) for candidate in best.values())
    return list(islice((each for each in separated if each is not None), _SEPARATED))


def _round_best(
    evidence: Evidence, candidates: Sequence[Candidate], metric: str
) -> list[Candidate]:
    """The best candidate of each of the first blends again, its vesicles made spheres."""
    ordered = sorted(candidates, key=lambda each: preference(each, metric), reverse=True)
    best = {each.blend: each for each in reversed(ordered)}
    return [
        with_scores(evidence, replace(best[blend], watershed=None, spheres=spheres))
        for blend in list(dict.fromkeys(each.blend for each in ordered))[:_ROUNDED]
        for spheres in evidence.spheres
    ]


def _check_foreground(evidence: Evidence) -> None:
    if not any(evidence.read_truth(section).any() for section in evidence.sections):
        unit = VOLUME_UNIT if evidence.voxel_size_nm else SECTION_UNIT
        raise BenchError(
            f"the search needs annotated foreground, received {len(evidence.sections)} validation "
            f"{unit}s without any: prepare the dataset with other splits"
        )
