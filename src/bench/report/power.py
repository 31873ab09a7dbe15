"""How many more sections, or seeds, would tell two methods apart: the power of the paired test."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import nctdtr, ndtri, stdtrit

from bench.report.serial import Dependence
from bench.report.statistics import ALPHA

_POWER = 0.8
# What people ask for besides the difference that was seen, of scores from 0 to 1.
SMALL_DIFFERENCE = 0.02
# Beyond so many sections a number says no more than that it is out of reach.
_MOST = 10_000
# Differences that vary less are equal: floating point makes 0.3 - 0.1 and 0.4 - 0.2 differ.
_NO_VARIANCE = 1e-24
# Fewer have no variance.
_FEWEST = 2


@dataclass(frozen=True)
class Needed:
    """What it takes to tell a difference of two methods from none.

    Attributes:
        difference: The difference.
        sections: Independent sections, with the seeds there are; None beyond 10,000.
        seeds: Seeds of each method on the sections there are; None where no number is enough, and
            where that is not known.
        seeds_known: Whether both methods have the seeds to say so.
        far_apart: Whether the sections must be farther apart than those there are, or of other
            series, to be independent.
    """

    difference: float
    sections: int | None
    seeds: int | None
    seeds_known: bool
    far_apart: bool

    def describe(self, there: int, unit: str) -> str:
        """What it takes, in words.

        Args:
            there: Sections that there are.
            unit: What they are called.
        """
        if self.sections is not None and self.sections <= there and not self.far_apart:
            return f"{there} {unit}s would do for this pair alone"
        few = f"over {_MOST:,}" if self.sections is None else f"{self.sections:,}"
        text = f"needs {few} {unit}s{' far apart' * self.far_apart}"
        if not self.seeds_known:
            return text
        return f"{text}, or {self.seeds} seeds" if self.seeds else f"{text}, not by seeds alone"

    def write(self) -> str:
        """Sections and seeds, as a cell of a table."""
        few = f"> {_MOST}" if self.sections is None else str(self.sections)
        return few if not self.seeds_known else f"{few} / {self.seeds or '–'}"


@dataclass(frozen=True)
class Spread:
    """How the differences of two methods vary.

    Attributes:
        variance: Variance of the difference of a section, of all such sections; what the seeds
            bring is part of it.
        of_seeds: What a seed of each method brings to it where there is one of each; None where a
            method has one only, and it is not known.
        of_these_seeds: What the seeds bring that there are.
        seen: The smallest difference that the sections there are would tell from none with a power
            of 0.8, as they vary.
        alike: Whether neighbours have something in common.
    """

    variance: float
    of_seeds: float | None
    of_these_seeds: float
    seen: float
    alike: bool

    def needed(self, difference: float) -> Needed | None:
        """What it takes to tell a difference from none; None for no difference, or no spread."""
        size = abs(difference)
        if not size or self.variance <= _NO_VARIANCE:
            return None
        number = needed_number(size / math.sqrt(self.variance))
        # Below, no outcome of the test over sections tells anything.
        number = max(number, math.ceil(1 - math.log2(ALPHA)))
        sections = None if number > _MOST else number
        known = self.of_seeds is not None
        return Needed(difference, sections, self._needed_seeds(size), known, self.alike)

    def _needed_seeds(self, size: float) -> int | None:
        """Seeds of each method with which the sections there are tell a difference from none."""
        if self.of_seeds is None:
            return None
        allowed = self.variance * (size / self.seen) ** 2
        left = allowed - max(self.variance - self.of_these_seeds, 0.0)
        if left <= 0:
            return None
        seeds = max(2, math.ceil(self.of_seeds / left - 1e-9))
        return seeds if seeds <= _MOST else None


def measure_spread(
    differences: Mapping[str, float],
    seeds: Sequence[Sequence[Mapping[str, float]]],
    dependence: Dependence | None,
) -> Spread | None:
    """Measures how differences of two methods vary between sections and between seeds.

    A score is taken as that of its method and section, plus the luck of its training, which is the
    same on all sections, plus a rest of both. The rest falls with seeds. The luck that moves all
    sections alike is in the difference itself: the test over sections does not see it.

    Args:
        differences: Of each section that both were scored on, averaged over seeds.
        seeds: Of each method, the scores of each seed by section.
        dependence: What neighbours among the sections have in common.

    Returns:
        None below two sections.
    """
    n = len(differences)
    if n < 2:
        return None
    plain = float(np.var(list(differences.values()), ddof=1))
    inflation, seen = 1.0, needed_effect(n) * math.sqrt(plain)
    if dependence:
        # The variance of the mean as the interval takes it, for as many independent sections.
        widened = float(dependence.weights @ dependence.stretches**2)
        inflation = widened * dependence.effective / n
        error = math.sqrt(plain / n)
        half = float(stdtrit(n - 1, 1 - ALPHA / 2)) * dependence.stretch * error
        seen = half + float(ndtri(_POWER)) * math.sqrt(widened) * error
    rests = [_rest(each, list(differences)) for each in seeds]
    known = [rest for rest in rests if rest is not None]
    of_seeds, of_these = None, 0.0
    if len(known) == len(rests):
        of_seeds = inflation * sum(known)
        of_these = inflation * sum(r / len(e) for r, e in zip(known, seeds, strict=True))
    return Spread(inflation * plain, of_seeds, of_these, seen, dependence is not None)


def _rest(seeds: Sequence[Mapping[str, float]], sections: Sequence[str]) -> float | None:
    """Variance of what is neither of a section nor of a seed; None with one seed, or with gaps."""
    if len(seeds) < 2 or any(section not in seed for seed in seeds for section in sections):
        return None
    scores = np.array([[seed[section] for section in sections] for seed in seeds])
    rest = scores - scores.mean(0) - scores.mean(1, keepdims=True) + scores.mean()
    return float((rest**2).sum() / ((scores.shape[0] - 1) * (scores.shape[1] - 1)))


def power_of(effect: float, number: float) -> float:
    """Power of the two-sided paired t test at 0.05.

    Args:
        effect: The mean difference in standard deviations of one.
        number: Independent differences; need not be whole.

    References:
        Cohen, Statistical Power Analysis for the Behavioral Sciences (1988), chapter 2.
    """
    freedom, shift = number - 1, effect * math.sqrt(number)
    limit = float(stdtrit(freedom, 1 - ALPHA / 2))
    # The far tail is not a number where it is next to nothing.
    far = np.nan_to_num(nctdtr(freedom, abs(shift), -limit))
    return float(1 - nctdtr(freedom, abs(shift), limit) + far)


def needed_number(effect: float) -> int:
    """The fewest independent differences with which the test has a power of 0.8.

    Args:
        effect: The mean difference in standard deviations of one.
    """
    normal = (float(ndtri(1 - ALPHA / 2) + ndtri(_POWER)) / effect) ** 2
    # Student's t asks for more than one further difference, for two of very many.
    if normal > _MOST:
        return math.ceil(normal + 2)
    if effect >= needed_effect(_FEWEST):
        return _FEWEST
    number = max(_FEWEST, math.floor(normal) + 1)
    while power_of(effect, number) < _POWER:
        number += 1
    return number


@lru_cache(maxsize=256)
def needed_effect(number: float) -> float:
    """The mean difference, in standard deviations of one, that a number tells with power 0.8."""
    from scipy.optimize import brentq

    return float(brentq(lambda effect: power_of(effect, number) - _POWER, 1e-6, 40, xtol=1e-6))
