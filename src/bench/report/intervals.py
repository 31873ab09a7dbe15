"""95 % intervals of means over sections, which may be few, and alike where they are neighbours."""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np
from scipy.special import ndtri, stdtrit

from bench.errors import BenchError
from bench.report.serial import Dependence, measure_dependence
from bench.report.statistics import finite_values
from bench.words import SECTION_UNIT


def section_interval(
    scores: Mapping[str, float],
    *,
    limits: tuple[float, float],
    unit: str = SECTION_UNIT,
) -> tuple[tuple[float, float] | None, Dependence | None]:
    """95 % interval of the mean score of a section, and what neighbours have in common.

    Args:
        scores: Of each section, or the difference of two, by the section's name.
        limits: The smallest and the largest mean that can be.
        unit: What the scores are of; volumes are independent.

    Returns:
        As ``bootstrap_interval`` and ``measure_dependence`` say.
    """
    dependence = measure_dependence(scores, unit)
    return bootstrap_interval(scores.values(), limits=limits, dependence=dependence), dependence


def bootstrap_interval(
    values: Iterable[float],
    *,
    seed: int = 0,
    resamples: int = 2000,
    limits: tuple[float, float] = (-math.inf, math.inf),
    dependence: Dependence | None = None,
) -> tuple[float, float] | None:
    """95 % bootstrap interval of the mean, widened where values are few.

    Percentiles of resampled means say how far the mean may lie on either side, but resamples of n
    values vary too little, by sqrt((n - 1) / n), and take their own deviation for the true one.
    Both sides are therefore stretched by sqrt(n / (n - 1)) and Student's t over the normal
    quantile, as in the interval of a mean of normal values; from 100 values on that is 2 %. In
    simulated benchmarks it holds the truth in 93 to 97 % of cases at 3, 5, 10, 20 and 60 sections,
    where the percentiles alone did in 73, 82, 89, 92 and 95 % (a test proves it).

    Resampling treats the values as independent. Neighbouring sections are not: for them both sides
    are stretched by what ``dependence`` says besides.

    Args:
        values: One value per section (or instance).
        seed: Random seed.
        resamples: Number of resamples.
        limits: The smallest and the largest mean that can be.
        dependence: What neighbours among the values have in common; None for independent ones.

    Returns:
        Lower and upper bound; None for fewer than two values, which cannot say how they vary.

    Raises:
        BenchError: If a value is not finite.

    References:
        Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3; Hesterberg,
        What teachers should know about the bootstrap, The American Statistician 69 (2015) 371.
    """
    sample = np.asarray(list(values), dtype=np.float64)
    if not np.isfinite(sample).all():
        raise BenchError(
            f"bootstrap values must be finite, received {sample.tolist()}: "
            "leave out values that are not defined"
        )
    if sample.size < 2:
        return None
    drawn = _draw(seed, resamples, sample.size)
    low, high = np.percentile(sample[drawn].mean(axis=1), (2.5, 97.5))
    mean, stretch = float(sample.mean()), few_values_stretch(sample.size)
    stretch *= dependence.stretch if dependence else 1.0
    ends = (mean + (end - mean) * stretch for end in (float(low), float(high)))
    lowest, highest = (min(max(end, limits[0]), limits[1]) for end in ends)
    return lowest, highest


# A table has thousands of intervals, nearly all of as many sections.
@lru_cache(maxsize=2)
def _draw(seed: int, resamples: int, count: int) -> np.ndarray:
    """Which values are drawn (resamples, count)."""
    drawn = np.random.default_rng(seed).integers(count, size=(resamples, count))
    drawn.flags.writeable = False
    return drawn


def few_values_stretch(count: int) -> float:
    """How much wider than its percentiles a 95 % interval of ``count`` values is; 1 for many."""
    student, normal = stdtrit(count - 1, 0.975), ndtri(0.975)
    return float(math.sqrt(count / (count - 1)) * student / normal)


def difference_interval(
    first: Sequence[float],
    second: Sequence[float],
    *,
    seed: int = 0,
    resamples: int = 2000,
    limits: tuple[float, float] = (-math.inf, math.inf),
    dependences: tuple[Dependence | None, Dependence | None] = (None, None),
) -> tuple[float, float] | None:
    """95 % bootstrap interval of the difference of the means of two independent samples.

    Each sample is resampled by itself. Resamples of n values vary too little, by sqrt((n - 1) / n),
    so the deviation of each mean is stretched by the inverse of that; the percentiles of the
    difference then by Student's t over the normal quantile, at the degrees of freedom of Welch and
    Satterthwaite, as unlike samples may vary unlike. In simulations of skewed scores it holds the
    truth in 93 to 97 % of cases from five values in each on, and in 89 to 95 % where one sample has
    three (a test proves it). Where neighbours are alike in a sample, its deviations are stretched
    by what ``dependences`` says besides.

    Args:
        first: Values of the first sample, such as one score per section.
        second: Values of the second sample, which are of other sections.
        seed: Random seed.
        resamples: Number of resamples.
        limits: The smallest and the largest difference that can be.
        dependences: Of each sample, what neighbours have in common; None for independent values.

    Returns:
        Lower and upper bound of the mean of the first less that of the second; None where a sample
        has fewer than two values, which cannot say how they vary.

    Raises:
        BenchError: If a value is not finite.

    References:
        Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 8.3. Welch,
        Biometrika 34 (1947) 28.
    """
    samples = [finite_values("samples", values) for values in (first, second)]
    if min(map(len, samples)) < 2:
        return None
    random = np.random.default_rng(seed)
    means = [float(values.mean()) for values in samples]
    alike = [dependence.stretch if dependence else 1.0 for dependence in dependences]
    deviations = []
    for values, mean, stretch in zip(samples, means, alike, strict=True):
        drawn = values[random.integers(len(values), size=(resamples, len(values)))]
        widened = stretch * math.sqrt(len(values) / (len(values) - 1))
        deviations.append((drawn.mean(axis=1) - mean) * widened)
    ends = np.percentile(deviations[0] - deviations[1], (2.5, 97.5))
    stretch = _welch_stretch(samples, alike)
    low, high = (
        min(max(means[0] - means[1] + stretch * float(end), limits[0]), limits[1]) for end in ends
    )
    return low, high


def _welch_stretch(samples: Sequence[np.ndarray], alike: Sequence[float]) -> float:
    """Student's t over the normal quantile, at the degrees of freedom that two samples have."""
    parts = [
        float(values.var(ddof=1)) / len(values) * stretch**2
        for values, stretch in zip(samples, alike, strict=True)
    ]
    if not any(parts):
        return 1.0
    shares = [part / sum(parts) for part in parts]
    inverse = sum(
        share**2 / (len(values) - 1) for share, values in zip(shares, samples, strict=True)
    )
    return float(stdtrit(1 / inverse, 0.975) / ndtri(0.975))
