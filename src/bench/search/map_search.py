"""Which blends are tried, and their pixel scores at all thresholds."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby, product
from math import gcd

import numpy as np

from bench.inference.blends import MAXIMUM, MEAN, RANKS, VOTE, Blend, round_mean, sum_levels
from bench.inference.symmetries import IDENTITY
from bench.metrics.curves import LEVELS, TOP_LEVEL, ScoreHistogram
from bench.metrics.overlap import IS_OPEN
from bench.metrics.table import HEADLINE
from bench.search.candidates import Evidence, best_merit, is_of_pixels

Histograms = dict[Blend, ScoreHistogram]
ReportProgress = Callable[[int, int, str], None]
_WEIGHTED = "weighted"
# Weights of the models of a weighted mean.
_WEIGHTS = (1, 2, 3)
# What the setting ``ensembles`` may name.
ENSEMBLE_MODES = (MEAN, _WEIGHTED, MAXIMUM, VOTE)


class SectionPixels:
    """The maps of a section as flat arrays, foreground of the truth first.

    Attributes:
        foreground_px: How many of the pixels are foreground.
    """

    def __init__(self, evidence: Evidence, section: str) -> None:
        """Reads the annotation; maps are read when they are asked for, and kept."""
        truth = evidence.read_truth(section).reshape(-1) > 0
        nothing = ~truth
        levels = evidence.read_levels(section)
        if levels is not None:
            # What nobody annotated is on neither side.
            known = levels.reshape(-1) != IS_OPEN
            truth, nothing = truth & known, nothing & known
        self._order = np.concatenate([np.flatnonzero(truth), np.flatnonzero(nothing)])
        self._evidence, self._section = evidence, section
        self._maps: dict[tuple[str, str], np.ndarray] = {}
        self.foreground_px = int(np.count_nonzero(truth))

    def read(self, member: str, augmentation: str) -> np.ndarray:
        """A model's levels."""
        key = (member, augmentation)
        if key not in self._maps:
            found = self._evidence.read(member, self._section, augmentation)
            self._maps[key] = found.foreground.reshape(-1)[self._order]
        return self._maps[key]

    def histogram(self, sums: np.ndarray, count: int) -> ScoreHistogram:
        """The histogram of the mean level, from sums of ``count`` levels."""
        level_of = round_mean(np.arange(count * TOP_LEVEL + 1, dtype=np.uint32), count)
        parts = (sums[: self.foreground_px], sums[self.foreground_px :])
        binned = [np.bincount(part, minlength=level_of.size) for part in parts]
        foreground, background = (
            np.bincount(level_of, weights=part, minlength=LEVELS).astype(np.int64)
            for part in binned
        )
        return ScoreHistogram(foreground=foreground, background=background)


def score_subsets(
    section: SectionPixels, member: str, augmentations: Sequence[str]
) -> Iterator[tuple[Blend, ScoreHistogram]]:
    """Scores a model under every non-empty subset of augmentations.

    A subset's sum is that of another one and one map more.
    """
    maps = [section.read(member, name) for name in augmentations]

    def visit(
        chosen: tuple[str, ...], total: np.ndarray, start: int
    ) -> Iterator[tuple[Blend, ScoreHistogram]]:
        for place in range(start, len(maps)):
            names, sums = (*chosen, augmentations[place]), total + maps[place]
            yield Blend((member,), names), section.histogram(sums, len(names))
            yield from visit(names, sums, place + 1)

    yield from visit((), np.zeros(len(section.read(member, augmentations[0])), np.uint16), 0)


def score_blends(
    section: SectionPixels, blends: Iterable[Blend]
) -> Iterator[tuple[Blend, ScoreHistogram]]:
    """Scores blends; those of the same augmentations should follow each other.

    The sums of the models over augmentations are kept while the augmentations stay the same.
    """
    sums: dict[str, np.ndarray] = {}
    held: tuple[str, ...] = ()
    for blend in blends:
        if blend.augmentations != held:
            sums, held = {}, blend.augmentations
        for member in blend.members:
            if member not in sums:
                maps = [section.read(member, name) for name in held]
                sums[member] = sum_levels(maps, [1] * len(maps))
        parts = [sums[member] for member in blend.members]
        if blend.ensemble == MEAN:
            total = sum_levels(parts, blend.weights, each=len(held))
            yield blend, section.histogram(total, sum(blend.weights) * len(held))
        else:
            means = [round_mean(part, len(held)) for part in parts]
            yield blend, section.histogram(RANKS[blend.ensemble](means), 1)


@dataclass(frozen=True)
class MapSettings:
    """What is tried.

    Attributes:
        metric: The metric of the search.
        augmentations: ``subsets`` tries every subset of a model's, ``best_k`` the best one, the
            best two and so on, ``all`` none and all, ``none`` none.
        ensembles: Of ``mean``, ``weighted``, ``maximum`` and ``vote``.
        largest_ensemble: Models in an ensemble at most.
        pool: Models that ensembles are made of: the best ones alone.
        shortlist: Subsets of augmentations that ensembles are tried with: the best of the models
            alone, besides none and all.
        weighted: Means whose weights are tried: the best ones.
    """

    metric: str
    augmentations: str
    ensembles: tuple[str, ...]
    largest_ensemble: int
    pool: int
    shortlist: int
    weighted: int


def pixel_metric(metric: str) -> str:
    """The metric that ranks maps: where instances are wanted it is Dice, as instances cost more."""
    return metric if is_of_pixels(metric) else HEADLINE


def search_maps(evidence: Evidence, settings: MapSettings, report: ReportProgress) -> Histograms:
    """Scores the models alone, then ensembles of the best, then weights of the best means."""
    found = _score_singles(evidence, settings, report)
    if settings.ensembles and len(evidence.members) > 1:
        planned = _plan_ensembles(evidence, found, settings)
        found |= _score_all(evidence, planned, report, "ensembles")
        if _WEIGHTED in settings.ensembles:
            found |= _score_all(evidence, _plan_weights(found, settings), report, "weights")
    return found


def rank(found: Mapping[Blend, ScoreHistogram], metric: str) -> list[Blend]:
    """Blends by their best score over the thresholds, the best first; of equals the cheaper."""
    best = {blend: round(best_merit(each, metric), 10) for blend, each in found.items()}
    return sorted(best, key=lambda blend: (-best[blend], blend.passes, len(blend.members)))


def _score_singles(evidence: Evidence, settings: MapSettings, report: ReportProgress) -> Histograms:
    if settings.augmentations == "subsets":
        return _score_every_subset(evidence, report)
    plans: list[Blend] = []
    for member, stored in evidence.members.items():
        subsets: set[tuple[str, ...]] = {(IDENTITY,)}
        if settings.augmentations == "all":
            subsets.add(stored)
        if settings.augmentations == "best_k":
            alone = [Blend((member,), (name,)) for name in stored]
            scored = _score_all(evidence, alone, report, f"augmentations of {member}")
            ranked = rank(scored, pixel_metric(settings.metric))
            order = [blend.augmentations[0] for blend in ranked]
            prefixes = [order[: k + 1] for k in range(len(order))]
            # In the table's order, by which equal sets are equal.
            subsets |= {tuple(n for n in stored if n in chosen) for chosen in prefixes}
        plans += [Blend((member,), subset) for subset in sorted(subsets)]
    return _score_all(evidence, plans, report, "models alone")


def _score_every_subset(evidence: Evidence, report: ReportProgress) -> Histograms:
    found: Histograms = {}
    total = len(evidence.sections) * len(evidence.members)
    for number, section in enumerate(evidence.sections):
        for place, (member, stored) in enumerate(evidence.members.items()):
            # A model at a time: the maps of all would not fit where there are many.
            pixels = SectionPixels(evidence, section)
            _add_up(found, score_subsets(pixels, member, stored))
            report(number * len(evidence.members) + place + 1, total, f"{section}, {member}")
    return found


def _score_all(
    evidence: Evidence, blends: Iterable[Blend], report: ReportProgress, what: str
) -> Histograms:
    planned = sorted(dict.fromkeys(blends), key=lambda blend: blend.augmentations)
    found: Histograms = {}
    for number, section in enumerate(evidence.sections, start=1):
        for _, alike in groupby(planned, key=lambda blend: blend.augmentations):
            _add_up(found, score_blends(SectionPixels(evidence, section), alike))
        report(number, len(evidence.sections), f"{what}, {section}")
    return found


def _add_up(found: Histograms, more: Iterable[tuple[Blend, ScoreHistogram]]) -> None:
    for blend, histogram in more:
        found[blend] = found[blend] + histogram if blend in found else histogram


def _plan_ensembles(evidence: Evidence, found: Histograms, settings: MapSettings) -> list[Blend]:
    """Ensembles of the best models under the best augmentations.

    A vote of two is their minimum; it is tried like every other number.
    """
    ranked = rank(found, pixel_metric(settings.metric))
    members = list(dict.fromkeys(blend.members[0] for blend in ranked))[: settings.pool]
    modes = [mode for mode in settings.ensembles if mode != _WEIGHTED]
    if _WEIGHTED in settings.ensembles and MEAN not in modes:
        modes.append(MEAN)
    planned = []
    for size in range(2, min(settings.largest_ensemble, len(members)) + 1):
        for chosen in combinations(members, size):
            shared = evidence.shared_augmentations(chosen)
            for subset in _shortlist(ranked, chosen, shared, settings):
                planned += [Blend(chosen, subset, mode) for mode in modes]
    return planned


def _shortlist(
    ranked: Sequence[Blend], chosen: Sequence[str], shared: tuple[str, ...], settings: MapSettings
) -> list[tuple[str, ...]]:
    """Subsets of augmentations for an ensemble: the best of its models alone, none, and all."""
    subsets = [
        blend.augmentations
        for blend in ranked
        if blend.members[0] in chosen and set(blend.augmentations) <= set(shared)
    ]
    best = list(dict.fromkeys(subsets))[: settings.shortlist]
    if IDENTITY in shared:
        best.append((IDENTITY,))
    if settings.augmentations != "none":
        best.append(shared)
    return list(dict.fromkeys(best))


def _plan_weights(found: Histograms, settings: MapSettings) -> list[Blend]:
    """The best means with every choice of weights; multiples of the same weights once."""
    means = [
        blend
        for blend in rank(found, pixel_metric(settings.metric))
        if blend.ensemble == MEAN and len(blend.members) > 1
    ][: settings.weighted]
    return [
        Blend(blend.members, blend.augmentations, MEAN, weights)
        for blend in means
        for weights in product(_WEIGHTS, repeat=len(blend.members))
        if gcd(*weights) == 1 and len(set(weights)) > 1
    ]
