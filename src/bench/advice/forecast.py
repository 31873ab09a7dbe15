"""What more annotation would bring: a learning curve, continued."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# Exponents that are tried; learning curves of deep networks have 0.1 to 1 (Hestness et al. 2017).
_EXPONENTS = np.linspace(0.1, 1.5, 29)
FEWEST_COUNTS = 3
_RESAMPLES = 500
_INTERVAL = (2.5, 97.5)

# By number of annotated sections, of each seed the score of every section that judged it.
_LearningCurve = Mapping[int, Sequence[Mapping[str, float]]]


@dataclass(frozen=True)
class Forecast:
    """What a learning curve says of more sections.

    Attributes:
        now: Sections that are annotated.
        more: So many more.
        score: The curve at all that are annotated now.
        gain: What it forecasts for so many more: the difference.
        interval: 95 % interval of the gain; None where one section judged, or one seed learned.
        counts: Numbers of annotated sections that it was measured at.
        seeds: Trainings that it was measured by.
    """

    now: int
    more: int
    score: float
    gain: float
    interval: tuple[float, float] | None
    counts: tuple[int, ...]
    seeds: int

    def describe(self) -> str:
        """All of it in a sentence."""
        unsure = "no interval, as one section judged"
        if self.interval:
            low, high = self.interval
            chance = ", which may be nothing" if low <= 0 else ""
            unsure = f"95 % interval {low:+.3f} to {high:+.3f}{chance}"
        return (
            f"the learning curve ({self.seeds} trainings on "
            f"{', '.join(map(str, self.counts))} sections) is at Dice {self.score:.3f} with "
            f"{self.now} and forecasts {self.gain:+.3f} for {self.more} more like these ({unsure})"
        )


def forecast_gain(curve: _LearningCurve, now: int, more: int, seed: int = 0) -> Forecast:
    """Continues a learning curve, a - b n^-c, to more sections.

    The interval is of resamples of the sections that judged, and of the trainings at each number:
    all that the same study might have given. It takes the shape of the curve as given; one that was
    measured from 2 to 20 sections says little of 200.

    Args:
        curve: The scores, at three numbers of sections or more.
        now: Sections that are annotated.
        more: Sections that would be.
        seed: Draws the resamples.
    """
    counts = sorted(curve)
    judges = sorted(set.intersection(*(set(each) for one in curve.values() for each in one)))
    scores = [np.array([[each[j] for j in judges] for each in curve[n]]) for n in counts]
    means = np.array([each.mean() for each in scores])
    weights = np.array([len(each) for each in scores], dtype=float)
    at = (now, now + more)
    now_is, then_is = _continue(counts, means[None], weights, at)[0].tolist()
    interval = None
    if len(judges) > 1:
        drawn = _resample(scores, np.random.default_rng(seed))
        ends = _continue(counts, drawn, weights, at)
        low, high = np.percentile(ends[:, 1] - ends[:, 0], _INTERVAL)
        # As bootstraps of few values are too narrow: Efron and Tibshirani (1993), section 13.3.
        wider = math.sqrt(len(judges) / (len(judges) - 1))
        gain = then_is - now_is
        interval = (
            float(gain - (gain - min(low, gain)) * wider),
            float(gain + (max(high, gain) - gain) * wider),
        )
    seeds = sum(len(each) for each in scores)
    return Forecast(now, more, now_is, then_is - now_is, interval, tuple(counts), seeds)


def _resample(scores: Sequence[np.ndarray], random: np.random.Generator) -> np.ndarray:
    """Mean scores (resamples, numbers of sections) of judges and trainings drawn anew."""
    judges = scores[0].shape[1]
    drawn = random.integers(judges, size=(_RESAMPLES, 1, judges))
    return np.column_stack(
        [
            each[random.integers(len(each), size=(_RESAMPLES, len(each), 1)), drawn].mean((1, 2))
            for each in scores
        ]
    )


def _continue(
    counts: Sequence[int], means: np.ndarray, weights: np.ndarray, at: tuple[int, int]
) -> np.ndarray:
    """The least squares fits of a - b n^-c, with b from 0 on and a up to 1, at two numbers.

    Args:
        counts: Numbers of sections.
        means: Mean scores (curves, numbers).
        weights: Of each number.
        at: Where the curves are read.

    Returns:
        Scores (curves, 2).
    """
    x = np.array(counts, dtype=float) ** -_EXPONENTS[:, None]
    shares = weights / weights.sum()
    centres, levels = x @ shares, means @ shares
    away = (x - centres[:, None]) * shares
    spreads = (away * (x - centres[:, None])).sum(axis=1)
    # By curve and exponent; the weighted deviations from a mean sum to 0.
    slopes = np.minimum(0.0, means @ away.T / spreads)
    tops = levels[:, None] - slopes * centres
    # Through (0, 1): no score is better.
    capped = (means - 1) @ (x * shares).T / (x * x * shares).sum(axis=1)
    slopes, tops = np.where(tops > 1, capped, slopes), np.minimum(tops, 1.0)
    rest = means[:, None] - tops[..., None] - slopes[..., None] * x
    best = (rest**2 @ shares).argmin(axis=1)
    rows = np.arange(len(means))
    powers = np.array(at, dtype=float) ** -_EXPONENTS[best, None]
    return np.asarray(tops[rows, best, None] + slopes[rows, best, None] * powers)
