"""Vesicles that are unlike the others in radius, thickness and grey value of their membrane.

How unlike is Mahalanobis' distance D. Of three features that are normally distributed its square
has a chi-squared distribution of three degrees of freedom: p is the share of vesicles that are
farther off. The paper takes the distance itself for the square: its p of 0.3 is one of 0.0038.

Of n objects none can be farther than D^2 = (n - 1)^2 / n: fewer than 19 have none below p = 0.001.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincc

_FEATURES = 3
# With fewer there is no covariance of three features that says anything.
_LEAST_OBJECTS = 5
_MOST_PASSES = 10
# Of fewer none can be below p = 0.001.
_LEAST_TO_DOUBT = 19
# Of a normal distribution's median deviation; and deviations that are near.
_MEDIAN_TO_DEVIATION, _NEAR = 1.4826, 4.0


@dataclass(frozen=True, eq=False)
class _Judgement:
    """What came of comparing vesicles.

    Attributes:
        p: Probability of one as odd among the usual ones, float64 (n,); NaN where there are too
            few to compare.
        outlier: Those that stayed below the least p, bool (n,).
        chance: The second chance that each took, int64 (n,); -1 where it took none.
    """

    p: np.ndarray
    outlier: np.ndarray
    chance: np.ndarray


def judge_vesicles(
    features: np.ndarray,
    second_chances: Callable[[np.ndarray], list[np.ndarray]],
    *,
    least_p: float,
    floors: np.ndarray,
    as_published: bool,
) -> _Judgement:
    """Finds the outliers, which take the first of their second chances that is none.

    In each of up to ten passes all are compared with those that are usual: at first these are near
    the medians, so that no crowd of outliers hides itself, and then no outliers after the pass
    before. As published, they are compared with all.

    Args:
        features: Radius, thickness and density, float (n, 3).
        second_chances: Gives, of the places of outliers, the features of each one's chances,
            (chances, 3), NaN where a chance came to nothing.
        least_p: Who is below is an outlier.
        floors: Deviations that are added to those of the features, (3,): no vesicle is odd by less
            than what can be measured.
        as_published: Whether D is taken for its square, and outliers for usual.
    """
    now, chance = features.astype(np.float64), np.full(len(features), -1, np.int64)
    usual = np.ones(len(now), bool) if as_published else _find_usual(now, floors)
    p = measure_p(now, now[usual], floors, squared=not as_published)
    for _ in range(_MOST_PASSES):
        reference = now[usual]
        odd = np.flatnonzero(p < least_p)
        before = chance.copy()
        for place, others in zip(odd, second_chances(odd), strict=True):
            others_p = measure_p(others, reference, floors, squared=not as_published)
            passing = np.flatnonzero(others_p >= least_p)
            if passing.size:
                now[place], chance[place] = others[passing[0]], passing[0]
                p[place] = others_p[passing[0]]
        still = p >= least_p
        after = np.ones_like(usual) if as_published else still
        settled = np.array_equal(after, usual) and np.array_equal(chance, before)
        usual = after
        p = measure_p(now, now[usual], floors, squared=not as_published)
        if settled:
            break
    return _Judgement(p=p, outlier=p < least_p, chance=chance)


def _find_usual(features: np.ndarray, floors: np.ndarray) -> np.ndarray:
    """Who is near the median in every feature, by the median deviation from it; bool (n,).

    Few are all usual: what is said of them then is cautious.
    """
    if len(features) < _LEAST_TO_DOUBT:
        return np.ones(len(features), bool)
    apart = np.abs(features - np.median(features, axis=0))
    spread = _MEDIAN_TO_DEVIATION * np.median(apart, axis=0)
    near = apart <= _NEAR * np.sqrt(spread**2 + floors**2)
    return np.asarray(near.all(axis=1))


def measure_p(
    features: np.ndarray, reference: np.ndarray, floors: np.ndarray, *, squared: bool
) -> np.ndarray:
    """Probability of features as odd as these among the reference's; NaN where that has too few."""
    if len(reference) < _LEAST_OBJECTS:
        return np.full(len(features), np.nan)
    covariance = np.cov(reference, rowvar=False) + np.diag(floors**2)
    apart = features - reference.mean(axis=0)
    # Features that never vary say nothing, which an inverse could not.
    squares = np.einsum("ni,ij,nj->n", apart, np.linalg.pinv(covariance, hermitian=True), apart)
    squares = np.maximum(squares, 0)
    return np.asarray(gammaincc(_FEATURES / 2, (squares if squared else np.sqrt(squares)) / 2))
