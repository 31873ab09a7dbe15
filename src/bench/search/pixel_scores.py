"""Pixels at all thresholds of many blends, a section at a time.

Each blend takes one histogram of foreground and one of background. Means are not divided first:
the histogram is of the sums, and its bins are rounded to levels afterwards.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from bench.inference.blends import Blend
from bench.inference.ensembles import MEAN, RANKS, round_mean, sum_levels
from bench.metrics.curves import LEVELS, TOP_LEVEL, ScoreHistogram
from bench.search.evidence import Evidence


class SectionPixels:
    """The maps of a section as flat arrays, foreground of the truth first.

    Attributes:
        foreground_px: How many of the pixels are foreground.
    """

    def __init__(self, evidence: Evidence, section: str) -> None:
        """Reads the annotation; maps are read when they are asked for, and kept."""
        truth = evidence.read_truth(section).reshape(-1) > 0
        self._order = np.concatenate([np.flatnonzero(truth), np.flatnonzero(~truth)])
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
