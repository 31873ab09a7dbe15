"""What sections that follow one another are worth: neighbours of a series are alike."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import count, pairwise

import numpy as np
from scipy.special import stdtr, stdtrit

from bench.core.names import place_in_series
from bench.errors import BenchError
from bench.words import SECTION_UNIT

_Places = tuple[tuple[str, int], ...]
# What the correlation of neighbours may be; beyond, no number of sections here tells it from 1.
_CORRELATIONS = np.linspace(0, 0.95, 20)
# What is believed of independence before the scores are seen. In simulations less of it widens
# the intervals of independent sections, more of it leaves those of alike ones too narrow.
_BELIEF_IN_INDEPENDENCE = 0.4
_CONFIDENCE = 0.95
# Scores closer than this do not vary: floating point makes 0.3 - 0.1 and 0.4 - 0.2 differ.
_EQUAL = 1e-12


@dataclass(frozen=True, eq=False)
class Dependence:
    """How much sections of a series tell, given what neighbours have in common.

    Attributes:
        sections: Number of sections.
        effective: As many independent sections would tell as much of the mean.
        weights: How probable each correlation of neighbours is.
        stretches: How much wider the interval of the mean is than that of independent sections,
            were that the correlation; at least 1.
    """

    sections: int
    effective: float
    weights: np.ndarray
    stretches: np.ndarray

    @cached_property
    def stretch(self) -> float:
        """How much wider the 95 % interval of the mean is than that of independent sections."""
        from scipy.optimize import brentq

        freedom, least = self.sections - 1, float(self.stretches.min())
        most = float(self.stretches.max())
        if most - least < _EQUAL:
            return most
        student = float(stdtrit(freedom, (1 + _CONFIDENCE) / 2))
        wanted = 1 - _CONFIDENCE
        return float(brentq(lambda w: self._beyond(student * w) - wanted, least, most, xtol=1e-6))

    def correct_p(self, p: float) -> float:
        """A two-sided p of a test that takes the sections as independent, corrected.

        The p is read as that of a Student's t, which falls by as much as the interval widens.
        """
        return min(1.0, self._beyond(float(-stdtrit(self.sections - 1, p / 2)))) if p < 1 else 1.0

    def _beyond(self, t: float) -> float:
        """Probability of a mean farther off than ``t`` errors of independent sections."""
        tails = 2 * stdtr(self.sections - 1, -t / self.stretches)
        return float(self.weights @ tails)


def measure_dependence(scores: Mapping[str, float], unit: str = SECTION_UNIT) -> Dependence | None:
    """Measures how alike neighbouring sections score, and so how much all of them tell.

    Scores are taken as a mean with an autoregressive error: two sections that are d apart in a
    series correlate by rho^d, sections of two series do not. How probable each rho is follows from
    the scores, mean and variance integrated out (restricted likelihood); before them independence
    has two fifths, and the rest Jeffreys' prior 1 / sqrt(1 - rho^2). Intervals and tests are means
    over these: few sections cannot say what rho is, and the most probable one alone would hold the
    truth too seldom.

    Args:
        scores: The score of each section, or the difference of two, by the section's name.
        unit: What the scores are of; volumes are independent.

    Returns:
        None where the sections count as independent: their names have no numbers, no two are of
        one series, or they are volumes; and where their scores do not vary.

    Raises:
        BenchError: If a score is not finite.

    References:
        Harville, Biometrika 61 (1974) 383 (restricted likelihood). Jeffreys, Theory of Probability
        (1961), section 3.10. Zieba and Ramza, Metrology and Measurement Systems 18 (2011) 529
        (effective number of autocorrelated observations).
    """
    order = _order_series(scores) if unit == SECTION_UNIT else None
    if order is None:
        return None
    names, places = order
    values = np.array([scores[name] for name in names], dtype=np.float64)
    if not np.isfinite(values).all():
        raise BenchError(
            f"scores must be finite, received {values.tolist()}: leave out values not defined"
        )
    if np.ptp(values) <= _EQUAL:
        return None
    return _weigh(places, values)


def smallest_corrected_p(scores: Mapping[str, float], p: float) -> float:
    """The smallest that ``correct_p`` can make of a p: where neighbours are as unlike as can be.

    Args:
        scores: By the sections' names, of which two are of one series.
        p: The smallest p that so many independent sections can give.
    """
    order = _order_series(scores)
    return p if order is None else _most_telling(order[1]).correct_p(p)


@lru_cache(maxsize=256)
def fewest_neighbours(alpha: float) -> int:
    """As many sections of one series can tell two methods apart at a level, and no fewer."""
    return next(
        n
        for n in count(2)
        if _most_telling(tuple(("", place) for place in range(n))).correct_p(2.0 ** (1 - n))
        <= alpha
    )


@lru_cache(maxsize=256)
def _most_telling(places: _Places) -> Dependence:
    return _weigh(places, np.arange(len(places)) % 2.0)


def _weigh(places: _Places, values: np.ndarray) -> Dependence:
    """Weighs the correlations by values that vary, in the order of the places."""
    series = _describe_series(places)
    values = (values - values.mean()) / values.std()
    errors = series.whiten(values)
    # Sum of squares about the mean that is best for each correlation.
    squares = (errors**2).sum(1) - (errors * series.ones).sum(1) ** 2 / series.information
    n = len(values)
    likely = series.prior - (n - 1) / 2 * np.log(squares)
    weights = np.exp(likely - likely.max())
    weights /= weights.sum()
    inflation = n * series.variances
    stretches = np.sqrt(squares / n * inflation)
    return Dependence(n, n / float(weights @ inflation), weights, np.maximum(stretches, 1.0))


def describe_worth(independent: float | None) -> str:
    """What follows a number of sections in a sentence; empty where they count as independent."""
    return "" if independent is None else f", worth {independent:.1f}"


def write_count(sections: int, independent: float | None) -> str:
    """A number of sections in a table, and in brackets how many independent ones it is worth."""
    return str(sections) if independent is None else f"{sections} ({independent:.1f})"


def effective_number(places: Sequence[tuple[str, int]], correlation: float) -> float:
    """How many independent sections tell as much of the mean, where the correlation is known.

    Args:
        places: Series and number of each section.
        correlation: Of two neighbours, 0 to below 1.

    Returns:
        n^2 over the sum of the correlations of all pairs, each with itself included.

    Examples:
        >>> round(effective_number([("a", 1), ("a", 2)], 0.5), 2)
        1.33
    """
    ordered = tuple(sorted(places))
    total = float(_sum_correlations(ordered, np.array([correlation]))[0])
    return len(ordered) ** 2 / total


def _order_series(names: Mapping[str, float]) -> tuple[list[str], _Places] | None:
    """Sections by series and number, with these; None where no two are known to be of one.

    A section whose name has no number at its end is a series of its own.
    """
    found = {name: place_in_series(name) or (name, 0) for name in names}
    if len({series for series, _ in found.values()}) == len(found):
        return None
    ordered = sorted(found, key=found.__getitem__)
    places = tuple(found[name] for name in ordered)
    # Two of one place are no series, as of a name that ends in something else.
    return (ordered, places) if len(set(places)) == len(places) else None


@dataclass(frozen=True, eq=False)
class _Series:
    """What places alone decide, for every correlation (the first axis).

    Attributes:
        decays: Correlation of each section with the one before it; 0 for the first of a series.
        scales: Standard deviation of what the one before leaves open.
        ones: A constant of 1, whitened.
        information: Sum of the squares of these.
        prior: Logarithm of the prior, and of what of the likelihood the scores do not decide.
        variances: Variance of the mean for scores of variance 1.
    """

    decays: np.ndarray
    scales: np.ndarray
    ones: np.ndarray
    information: np.ndarray
    prior: np.ndarray
    variances: np.ndarray

    def whiten(self, values: np.ndarray) -> np.ndarray:
        """Makes values independent, of variance 1, for every correlation."""
        return _whiten(values, self.decays, self.scales)


def _whiten(values: np.ndarray, decays: np.ndarray, scales: np.ndarray) -> np.ndarray:
    before = np.concatenate([[0.0], values[:-1]])
    whitened: np.ndarray = (values - decays * before) / scales
    return whitened


def _decays(places: _Places, correlations: np.ndarray) -> np.ndarray:
    """Correlation of each section with the one before it (correlations, sections)."""
    apart = np.array([b[1] - a[1] if a[0] == b[0] else math.inf for a, b in pairwise(places)])
    decays = np.zeros((len(correlations), len(places)))
    decays[:, 1:] = correlations[:, None] ** apart
    return decays


def _sum_correlations(places: _Places, correlations: np.ndarray) -> np.ndarray:
    """Sum over all pairs of sections, each with itself, for every correlation."""
    decays = _decays(places, correlations)
    total, with_earlier = np.full(len(correlations), float(len(places))), np.zeros(len(decays))
    for decay in decays.T[1:]:
        with_earlier = decay * (1 + with_earlier)
        total += 2 * with_earlier
    return total


@lru_cache(maxsize=256)
def _describe_series(places: _Places) -> _Series:
    decays = _decays(places, _CORRELATIONS)
    scales = np.sqrt(1 - decays**2)
    ones = _whiten(np.ones(len(places)), decays, scales)
    information = (ones**2).sum(1)
    belief = (1 - _CORRELATIONS**2) ** -0.5
    belief[0] = 0.0
    belief *= (1 - _BELIEF_IN_INDEPENDENCE) / belief.sum()
    belief[0] = _BELIEF_IN_INDEPENDENCE
    decided = -np.log(scales).sum(1) - np.log(information) / 2
    variances = _sum_correlations(places, _CORRELATIONS) / len(places) ** 2
    return _Series(decays, scales, ones, information, np.log(belief) + decided, variances)
