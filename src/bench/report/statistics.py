"""Whether one method is better than another: tests, their correction, and effect sizes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bench.errors import BenchError

ALPHA = 0.05
# Differences closer than this are the same: floating point makes 0.3 - 0.1 and 0.4 - 0.2 differ.
_DECIMALS = 12
# As many arrangements are tried one by one; scipy does so where a sample has ties.
_ARRANGEMENTS = 9999
# Up to so many differences without ties the exact distribution of the rank sum is made.
_EXACT_DIFFERENCES = 50
# Up to so many pairs of values the exact distribution of U is made; its cost grows faster still.
_EXACT_PAIRS = 2500


@dataclass(frozen=True)
class Significance:
    """The outcome of a two-sided test.

    Attributes:
        p: Probability of a difference at least as large where there is none.
        smallest_p: The p that this many values give when all point the same way: no outcome is
            more significant.
        effect: Size of the effect, -1 to 1, positive where the first is higher: the matched-pairs
            rank-biserial correlation, or Cliff's delta.
        n: Values that the test used: pairs that differ, or the smaller of two samples.
    """

    p: float
    smallest_p: float
    effect: float
    n: int


def wilcoxon_signed_rank(differences: Sequence[float]) -> Significance:
    """Two-sided Wilcoxon signed-rank test of paired differences, with its effect size.

    Differences of zero are left out, as Wilcoxon did. The rest are ranked by size, ties by their
    mean rank. p is exact up to 50 differences, up to 13 where some tie, else the normal
    approximation with continuity and tie correction. The effect is the matched-pairs
    rank-biserial correlation, the share of the rank sum that is positive less the share that is
    negative.

    Args:
        differences: One per pair (first less second).

    Returns:
        The outcome; p 1 and effect 0 where all differences are zero, or there are none.

    Raises:
        BenchError: If a difference is not finite.

    References:
        Wilcoxon, Biometrics Bulletin 1 (1945) 80. Kerby, Comprehensive
        Psychology 3 (2014) 1.
    """
    values = np.round(finite_values("differences", differences), _DECIMALS)
    nonzero = values[values != 0]
    n = len(nonzero)
    if n == 0:
        return Significance(1.0, 1.0, 0.0, 0)
    sizes = np.abs(nonzero)
    if n <= _EXACT_DIFFERENCES and len(np.unique(sizes)) == n:
        ranks = np.argsort(np.argsort(sizes)) + 1.0
        # scipy does the same in a hundred times the time, which a table of many methods feels.
        positive = round(float(ranks[nonzero > 0].sum()))
        p = float(min(1.0, 2 * _rank_sum_tails(n)[min(positive, n * (n + 1) // 2 - positive)]))
    else:
        from scipy import stats

        ranks = stats.rankdata(sizes)
        p = float(stats.wilcoxon(nonzero, method="auto").pvalue)
    effect = float(np.sum(np.sign(nonzero) * ranks) / np.sum(ranks))
    return Significance(p, 2.0 ** (1 - n), effect, n)


@lru_cache(maxsize=_EXACT_DIFFERENCES)
def _rank_sum_tails(n: int) -> np.ndarray:
    """Probability that the ranks of the positive ones of n differences sum to at most 0, 1, .."""
    ways = np.zeros(n * (n + 1) // 2 + 1)
    ways[0] = 1.0
    for rank in range(1, n + 1):
        ways[rank:] += ways[:-rank].copy()
    # Up to 2^50 ways are counted exactly.
    return np.cumsum(ways) / 2.0**n


def mann_whitney_u(first: Sequence[float], second: Sequence[float]) -> Significance:
    """Two-sided Mann-Whitney U test of two independent samples, with Cliff's delta.

    p is exact up to samples of 50 values; with ties only where there are at most 9999 ways to deal
    the values out. Beyond that it is the normal approximation with continuity and tie correction.
    Cliff's delta is the probability that a value of the first sample is higher less that it is
    lower.

    Args:
        first: Values of the first sample, such as one score per seed.
        second: Values of the second sample.

    Raises:
        BenchError: If a sample is empty, or a value is not finite.

    References:
        Mann and Whitney, Annals of Mathematical Statistics 18 (1947) 50. Cliff, Psychological
        Bulletin 114 (1993) 494.
    """
    a, b = (np.round(finite_values("samples", values), _DECIMALS) for values in (first, second))
    if not len(a) or not len(b):
        raise BenchError(
            f"both samples must have a value, received {len(a)} and {len(b)}: score more seeds"
        )
    from scipy import stats

    tied = len(np.unique(np.concatenate([a, b]))) < len(a) + len(b)
    ways = math.comb(len(a) + len(b), len(a))
    method = "exact"
    if tied and ways <= _ARRANGEMENTS:
        method = stats.PermutationMethod(n_resamples=_ARRANGEMENTS)
    elif tied or len(a) * len(b) > _EXACT_PAIRS:
        method = "asymptotic"
    result = stats.mannwhitneyu(a, b, method=method)
    delta = 2 * float(result.statistic) / (len(a) * len(b)) - 1
    return Significance(float(result.pvalue), min(1.0, 2 / ways), delta, min(len(a), len(b)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects p values of several tests by Holm's step-down method.

    The smallest of m values is multiplied by m, the next by m - 1, and so on; none falls below
    one that came before it, and none exceeds 1. To reject where the result is at most alpha
    keeps the probability of any false rejection at alpha, whatever the tests' dependence.

    Args:
        p_values: The p of each test.

    Returns:
        The corrected values, in the order given.

    Examples:
        >>> [round(p, 2) for p in holm([0.04, 0.01, 0.03])]
        [0.06, 0.03, 0.06]

    References:
        Holm, Scandinavian Journal of Statistics 6 (1979) 65.
    """
    corrected = [0.0] * len(p_values)
    floor = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        floor = max(floor, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = floor
    return corrected


def finite_values(name: str, values: Sequence[float]) -> np.ndarray:
    """Returns values as an array.

    Args:
        name: What a message calls them.
        values: The values.

    Raises:
        BenchError: If one is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise BenchError(
            f"{name} must be finite, received {array.tolist()}: leave out values not defined"
        )
    return array
