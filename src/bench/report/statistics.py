"""Whether one method is better than another: tests, their correction, and effect sizes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

from bench.errors import BenchError

ALPHA = 0.05
# Differences closer than this are the same: floating point makes 0.3 - 0.1 and 0.4 - 0.2 differ.
_DECIMALS = 12
# As many arrangements are tried one by one; scipy does so where a sample has ties.
_ARRANGEMENTS = 9999
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
    values = np.round(_finite("differences", differences), _DECIMALS)
    nonzero = values[values != 0]
    n = len(nonzero)
    if n == 0:
        return Significance(1.0, 1.0, 0.0, 0)
    from scipy import stats

    ranks = stats.rankdata(np.abs(nonzero))
    effect = float(np.sum(np.sign(nonzero) * ranks) / np.sum(ranks))
    p = float(stats.wilcoxon(nonzero, method="auto").pvalue)
    return Significance(p, 2.0 ** (1 - n), effect, n)


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
    a, b = (np.round(_finite("samples", values), _DECIMALS) for values in (first, second))
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


def difference_interval(
    first: Sequence[float],
    second: Sequence[float],
    *,
    seed: int = 0,
    resamples: int = 2000,
    limits: tuple[float, float] = (-math.inf, math.inf),
) -> tuple[float, float] | None:
    """95 % bootstrap interval of the difference of the means of two independent samples.

    Each sample is resampled by itself. Resamples of n values vary too little, by sqrt((n - 1) / n),
    so the deviation of each mean is stretched by the inverse of that; the percentiles of the
    difference then by Student's t over the normal quantile, at the degrees of freedom of Welch and
    Satterthwaite, as unlike samples may vary unlike. In simulations of skewed scores it holds the
    truth in 93 to 97 % of cases from five values in each on, and in 89 to 95 % where one sample has
    three (a test proves it).

    Args:
        first: Values of the first sample, such as one score per section.
        second: Values of the second sample, which are of other sections.
        seed: Random seed.
        resamples: Number of resamples.
        limits: The smallest and the largest difference that can be.

    Returns:
        Lower and upper bound of the mean of the first less that of the second; None where a sample
        has fewer than two values, which cannot say how they vary.

    Raises:
        BenchError: If a value is not finite.

    References:
        Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 8.3. Welch,
        Biometrika 34 (1947) 28.
    """
    samples = [_finite("samples", values) for values in (first, second)]
    if min(map(len, samples)) < 2:
        return None
    random = np.random.default_rng(seed)
    means = [float(values.mean()) for values in samples]
    deviations = []
    for values, mean in zip(samples, means, strict=True):
        drawn = values[random.integers(len(values), size=(resamples, len(values)))]
        widened = math.sqrt(len(values) / (len(values) - 1))
        deviations.append((drawn.mean(axis=1) - mean) * widened)
    ends = np.percentile(deviations[0] - deviations[1], (2.5, 97.5))
    stretch = _welch_stretch(*samples)
    low, high = (
        min(max(means[0] - means[1] + stretch * float(end), limits[0]), limits[1]) for end in ends
    )
    return low, high


def _welch_stretch(first: np.ndarray, second: np.ndarray) -> float:
    """Student's t over the normal quantile, at the degrees of freedom that two samples have."""
    parts = [float(values.var(ddof=1)) / len(values) for values in (first, second)]
    if not any(parts):
        return 1.0
    shares = [part / sum(parts) for part in parts]
    inverse = sum(
        share**2 / (len(values) - 1) for share, values in zip(shares, (first, second), strict=True)
    )
    return float(stdtrit(1 / inverse, 0.975) / ndtri(0.975))


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


def _finite(name: str, values: Sequence[float]) -> np.ndarray:
    """The values as an array; raises BenchError if one is not finite."""
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise BenchError(
            f"{name} must be finite, received {array.tolist()}: leave out values not defined"
        )
    return array
