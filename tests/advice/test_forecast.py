"""A learning curve, continued: what a known curve forecasts, and how sure that is."""

import numpy as np
import pytest

from bench.advice.forecast import forecast_gain


def curve_of(law, counts=(1, 2, 4, 8), seeds=3, judges=6, noise=0.0, random=None):
    random = random or np.random.default_rng(0)
    offsets = random.normal(0, noise, judges)
    return {
        n: [
            {f"v{j}": law(n) + offsets[j] + random.normal(0, noise) for j in range(judges)}
            for _ in range(seeds)
        ]
        for n in counts
    }


def test_a_curve_without_noise_is_continued_as_it_is():
    def law(n):
        return 0.9 - 0.4 * n**-0.5

    found = forecast_gain(curve_of(law), now=8, more=4)
    assert found.score == pytest.approx(law(8), abs=1e-3)
    assert found.gain == pytest.approx(law(12) - law(8), abs=1e-3)
    assert found.interval == pytest.approx((found.gain, found.gain), abs=1e-6)
    assert (found.counts, found.seeds) == ((1, 2, 4, 8), 12)
    assert "forecasts" in found.describe()


def test_a_flat_or_falling_curve_forecasts_nothing():
    for law in (lambda n: 0.7, lambda n: 0.8 - 0.01 * n):
        assert forecast_gain(curve_of(law), now=8, more=8).gain == pytest.approx(0, abs=1e-9)


def test_no_score_is_above_one():
    found = forecast_gain(curve_of(lambda n: min(1.0, 0.8 + 0.02 * n)), now=10, more=10**6)
    assert found.score + found.gain <= 1 + 1e-9


def test_one_section_that_judged_has_no_interval():
    found = forecast_gain(curve_of(lambda n: 0.5 + 0.1 * np.log2(n), judges=1), now=8, more=2)
    assert found.interval is None
    assert "no interval" in found.describe()


def test_the_interval_holds_what_came_to_be():
    """Of simulated studies it holds the true gain about as often as it says."""

    def law(n):
        return 0.85 - 0.3 * n**-0.7

    held = 0
    for study in range(40):
        curve = curve_of(law, noise=0.02, random=np.random.default_rng(study))
        low, high = forecast_gain(curve, now=8, more=4).interval
        held += low <= law(12) - law(8) <= high
    assert held >= 34
