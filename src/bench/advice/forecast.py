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
LearningCurve = Mapping[int, Sequence[Mapping[str, float]]]


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


def forecast_gain(curve: LearningCurve, now: int, more: int, seed: int = 0) -> Forecast:
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
    now_is, then_is = _continue(counts, means, weights, (now, now + more))
    interval = None
    if len(judges) > 1:
        gains = _resample(counts, scores, weights, (now, now + more), np.random.default_rng(seed))
        low, high = np.percentile(gains, _INTERVAL)
        # As bootstraps of few values are too narrow: Efron and Tibshirani (1993), section 13.3.
        wider = math.sqrt(len(judges) / (len(judges) - 1))
        gain = then_is - now_is
        interval = (
            float(gain - (gain - min(low, gain)) * wider),
            float(gain + (max(high, gain) - gain) * wider),
        )
    seeds = sum(len(each) for each in scores)
    return Forecast(now, more, now_is, then_is - now_is, interval, tuple(counts), seeds)


def _resample(
    counts: Sequence[int],
    scores: Sequence[np.ndarray],
    weights: np.ndarray,
    at: tuple[int, int],
    random: np.random.Generator,
) -> np.ndarray:
    """Gains of curves of sections and trainings drawn anew."""
    judges = scores[0].shape[1]
    gains = []
    for _ in range(_RESAMPLES):
        drawn = random.integers(judges, size=judges)
        means = np.array(
            [each[random.integers(len(each), size=len(each))][:, drawn].mean() for each in scores]
        )
        now_is, then_is = _continue(counts, means, weights, at)
        gains.append(then_is - now_is)
    return np.array(gains)


def _continue(
    counts: Sequence[int], means: np.ndarray, weights: np.ndarray, at: tuple[int, int]
) -> tuple[float, float]:
    """The least squares fit of a - b n^-c, with b from 0 on and a up to 1, at two numbers."""
    n = np.array(counts, dtype=float)
    best, values = math.inf, (0.0, 0.0)
    for exponent in _EXPONENTS:
        x = n**-exponent
        centre = np.average(x, weights=weights)
        level = np.average(means, weights=weights)
        spread = np.average((x - centre) ** 2, weights=weights)
        slope = min(0.0, np.average((x - centre) * (means - level), weights=weights) / spread)
        top = level - slope * centre
        if top > 1:
            # Through (0, 1): no score is better.
            top, slope = 1.0, float(((means - 1) * x * weights).sum() / (x * x * weights).sum())
        error = float((weights * (means - top - slope * x) ** 2).sum())
        if error < best:
            best = error
            values = (
                float(top + slope * at[0] ** -exponent),
                float(top + slope * at[1] ** -exponent),
            )
    return values
