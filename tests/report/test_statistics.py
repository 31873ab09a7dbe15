import math
import time
from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats

from bench.errors import BenchError
from bench.report.intervals import bootstrap_interval
from bench.report.statistics import holm, mann_whitney_u, wilcoxon_signed_rank


def test_wilcoxon_by_hand():
    # Ranks 1 to 5, of which rank 2 is negative: W- = 2, W+ = 13. Of the 32 sign patterns three
    # have a rank sum of 2 or less ({}, {1}, {2}): p = 2 * 3 / 32. Effect (13 - 2) / 15.
    test = wilcoxon_signed_rank([0.01, -0.02, 0.03, 0.04, 0.05])
    assert (test.p, test.effect) == (pytest.approx(6 / 32), pytest.approx(11 / 15))
    assert (test.n, test.smallest_p) == (5, 2 / 32)


def test_wilcoxon_with_zeros_and_ties_by_hand():
    # The zero goes; ranks 1.5, 1.5, 3, 4, of which 3 is negative. Of 16 patterns {}, {1.5},
    # {1.5}, {1.5, 1.5} and {3} have a sum of 3 or less: p = 2 * 5 / 16. Effect (7 - 3) / 10.
    # 0.3 - 0.2 and 0.2 - 0.1 differ in the last bits of a float, and tie all the same.
    test = wilcoxon_signed_rank([0.0, 0.3 - 0.2, 0.2 - 0.1, -0.2, 0.3])
    assert (test.p, test.effect) == (pytest.approx(10 / 16), pytest.approx(0.4))
    assert (test.n, test.smallest_p) == (4, 2 / 16)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("decimals", [1, 15])
def test_wilcoxon_agrees_with_every_sign_pattern(seed, decimals):
    values = np.round(np.random.default_rng(seed).normal(0.2, 0.5, size=9), decimals)
    nonzero = values[values != 0]
    ranks = stats.rankdata(np.abs(nonzero))
    sums = [np.dot(ranks, signs) for signs in product((0, 1), repeat=len(ranks))]
    observed = ranks[nonzero > 0].sum()
    tails = np.mean(np.less_equal(sums, observed)), np.mean(np.greater_equal(sums, observed))
    assert wilcoxon_signed_rank(values).p == pytest.approx(min(1, 2 * min(tails)))


@pytest.mark.parametrize("size", [6, 40, 120])
def test_wilcoxon_agrees_with_scipy(size):
    first, second = np.random.default_rng(size).beta(8, 2, size=(2, size))
    ours = wilcoxon_signed_rank(first - second)
    assert ours.p == pytest.approx(stats.wilcoxon(first, second).pvalue)


def test_without_a_difference_nothing_can_be_told():
    for differences in ([], [0.0, 0.0]):
        test = wilcoxon_signed_rank(differences)
        assert (test.p, test.smallest_p, test.effect, test.n) == (1, 1, 0, 0)


@pytest.mark.parametrize(("sections", "smallest"), [(1, 1), (3, 0.25), (5, 0.0625), (6, 0.03125)])
def test_the_smallest_p_is_reached_when_all_sections_agree(sections, smallest):
    test = wilcoxon_signed_rank(np.arange(1, sections + 1) / 10)
    assert test.p == test.smallest_p == smallest
    assert test.effect == 1


def test_mann_whitney_by_hand():
    # 3 beats two of the second sample, 5 and 6 all three: U = 8 of 9, delta = (8 - 1) / 9.
    # Of the 20 ways to deal six ranks, one has U = 9 and one U = 8: p = 2 * 2 / 20.
    test = mann_whitney_u([0.3, 0.5, 0.6], [0.1, 0.2, 0.4])
    assert (test.p, test.effect) == (pytest.approx(0.2), pytest.approx(7 / 9))
    assert (test.n, test.smallest_p) == (3, pytest.approx(0.1))


def test_mann_whitney_with_ties_by_hand():
    # In 3 of the 6 ways to deal 1, 1, 1, 0 the first sample has no 0, as here (U = 3): p = 1.
    # Cliff's delta: of four pairs two are won and two tie.
    test = mann_whitney_u([0.1, 0.1], [0.1, 0.0])
    assert (test.p, test.effect) == (1, 0.5)
    assert test.smallest_p == pytest.approx(1 / 3)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("decimals", [1, 15])
def test_mann_whitney_agrees_with_every_way_to_deal(seed, decimals):
    values = np.round(np.random.default_rng(seed).random(8), decimals)
    ranks = stats.rankdata(values)
    sums = [ranks[list(chosen)].sum() for chosen in combinations(range(8), 3)]
    tails = np.mean(np.less_equal(sums, sums[0])), np.mean(np.greater_equal(sums, sums[0]))
    wins = [np.sign(a - b) for a, b in product(values[:3], values[3:])]
    test = mann_whitney_u(values[:3], values[3:])
    assert test.p == pytest.approx(min(1, 2 * min(tails)))
    assert test.effect == pytest.approx(np.mean(wins))


@pytest.mark.parametrize("decimals", [2, 15])
def test_mann_whitney_of_large_samples_agrees_with_scipy(decimals):
    first, second = np.round(np.random.default_rng(0).random((2, 30)), decimals)
    ours = mann_whitney_u(first, second)
    method = "asymptotic" if decimals == 2 else "exact"
    assert ours.p == pytest.approx(stats.mannwhitneyu(first, second, method=method).pvalue)


def test_holm_by_hand():
    # Ascending: 0.01 * 4 = 0.04; 0.02 * 3 = 0.06; 0.03 * 2 = 0.06; 0.9 * 1.
    assert holm([0.03, 0.9, 0.01, 0.02]) == pytest.approx([0.06, 0.9, 0.04, 0.06])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []


@pytest.mark.parametrize("seed", range(10))
def test_holm_rejects_what_the_step_down_procedure_rejects(seed):
    rng = np.random.default_rng(seed)
    p_values, alpha = rng.random(7) ** 4, 0.05 + 0.3 * rng.random()
    rejected = set()
    for step, index in enumerate(np.argsort(p_values)):
        if p_values[index] > alpha / (7 - step):
            break
        rejected.add(int(index))
    assert {i for i, p in enumerate(holm(p_values)) if p <= alpha} == rejected


def test_scores_must_be_there_and_finite():
    with pytest.raises(BenchError, match="differences must be finite, received"):
        wilcoxon_signed_rank([0.1, float("nan")])
    with pytest.raises(BenchError, match="both samples must have a value, received 0 and 1"):
        mann_whitney_u([], [0.5])


def coverage(sections: int, seed: int = 0) -> float:
    """Share of 1,000 simulated benchmarks whose interval holds the true mean difference.

    A section has a difficulty that both methods share, and each method an error of its own, as
    Dice has: skewed, between 0 and 1.
    """
    rng = np.random.default_rng(seed)
    difficulty = rng.beta(8, 2, size=(1000, sections))
    first = difficulty * rng.beta(12, 2, size=difficulty.shape)
    second = difficulty * rng.beta(9, 3, size=difficulty.shape)
    truth = 8 / 10 * (12 / 14 - 9 / 12)
    hits = [
        low <= truth <= high
        for low, high in (bootstrap_interval(pairs) for pairs in first - second)
    ]
    return float(np.mean(hits))


@pytest.mark.parametrize("sections", [3, 5, 10, 20, 60])
def test_the_interval_of_a_difference_holds_the_truth(sections):
    assert 0.93 <= coverage(sections) <= 0.97


def test_the_percentiles_alone_would_not(monkeypatch):
    monkeypatch.setattr("bench.report.intervals.few_values_stretch", lambda count: 1.0)
    assert 0.70 < coverage(3) < 0.80
    assert 0.88 < coverage(10) < 0.92


def test_large_samples_take_the_normal_approximation_in_no_time():
    first, second = range(0, 1000, 2), range(1, 1001, 2)
    started = time.process_time()
    result = mann_whitney_u(first, second)
    assert time.process_time() - started < 5
    # U = 124,750 of a mean of 125,000 and a deviation of sqrt(500 * 500 * 1001 / 12) = 4566.65.
    z = (250 - 0.5) / math.sqrt(500 * 500 * 1001 / 12)
    assert result.p == pytest.approx(math.erfc(z / math.sqrt(2)))
    assert result.effect == pytest.approx(-250 / 125_000)
