"""What neighbouring sections are worth, against matrices, by hand, and in simulations."""

import numpy as np
import pytest
from scipy import stats

from bench.errors import BenchError
from bench.report.comparisons import compare_pairs
from bench.report.intervals import bootstrap_interval, difference_interval
from bench.report.serial import effective_number, measure_dependence, smallest_corrected_p
from bench.report.statistics import wilcoxon_signed_rank
from bench.report.table_formats import captions, print_table, to_csv, to_markdown
from bench.report.tables import ScoreRecord, benchmark_table
from bench.report.verdicts import find_verdicts

PLACES = [("a", 1), ("a", 2), ("a", 5), ("b", 1), ("b", 2), ("c", 9)]


def named(scores, places):
    return {f"{series}{n}": float(s) for (series, n), s in zip(places, scores, strict=True)}


def correlate(places, rho):
    """The correlation of all pairs, as it is defined."""
    matrix = np.eye(len(places))
    for i, (series, n) in enumerate(places):
        for j, (other, m) in enumerate(places):
            if i != j:
                matrix[i, j] = rho ** abs(n - m) if series == other else 0.0
    return matrix


def test_the_effective_number_by_hand():
    # 4 / (1 + 1 + 2 * 0.5); 9 / (3 + 2 * (0.5 + 0.5^2 + 0.5^3)) of sections 1, 2 and 4.
    assert effective_number([("a", 1), ("a", 2)], 0.5) == pytest.approx(4 / 3)
    assert effective_number([("a", 4), ("a", 1), ("a", 2)], 0.5) == pytest.approx(9 / 4.75)
    # Two series tell twice as much as one; without correlation every section counts.
    assert effective_number([(s, n) for s in "ab" for n in (1, 2)], 0.5) == pytest.approx(8 / 3)
    assert effective_number(PLACES, 0.0) == 6
    # Of a long series (1 - rho) / (1 + rho) is left.
    assert effective_number([("a", n) for n in range(4000)], 0.8) == pytest.approx(
        4000 / 9, rel=2e-3
    )


def test_the_correlations_are_weighed_as_whole_matrices_weigh_them():
    scores = np.random.default_rng(0).normal(size=6)
    found = measure_dependence(named(scores, PLACES))
    one, n = np.ones(6), 6
    weights, inflation, spread = [], [], []
    rhos = np.linspace(0, 0.95, 20)
    for rho in rhos:
        matrix = correlate(PLACES, rho)
        inverse = np.linalg.inv(matrix)
        information = one @ inverse @ one
        best = one @ inverse @ scores / information
        squares = (scores - best) @ inverse @ (scores - best)
        weights.append((np.linalg.det(matrix) * information) ** -0.5 * squares ** (-(n - 1) / 2))
        inflation.append(one @ matrix @ one / n)
        spread.append(squares * one @ matrix @ one / n**2 / (n - 1))
    jeffreys = (1 - rhos[1:] ** 2) ** -0.5
    weights *= np.concatenate([[0.4], 0.6 * jeffreys / jeffreys.sum()])
    weights /= weights.sum()
    assert found.weights == pytest.approx(weights)
    assert found.effective == pytest.approx(n / (weights @ inflation))
    # 5 % of the mixture of Student's distributions lie outside the interval.
    half = found.stretch * stats.t.ppf(0.975, n - 1) * scores.std(ddof=1) / np.sqrt(n)
    outside = 2 * stats.t.sf(half / np.sqrt(np.maximum(spread, spread[0])), n - 1)
    assert weights @ outside == pytest.approx(0.05, abs=1e-6)


def test_sections_of_no_known_order_are_independent():
    scores = [0.5, 0.6, 0.8]
    assert measure_dependence(dict(zip(["left", "right", "top"], scores, strict=True))) is None
    # One of each series; two of one place; volumes; nothing that varies.
    assert measure_dependence({"a1": 0.5, "b1": 0.6}) is None
    assert measure_dependence({"a1": 0.5, "a01": 0.6}) is None
    assert measure_dependence({"a1": 0.5, "a2": 0.6}, "volume") is None
    assert measure_dependence({"a1": 0.3 - 0.1, "a2": 0.4 - 0.2}) is None
    with pytest.raises(BenchError, match="finite"):
        measure_dependence({"a1": float("nan"), "a2": 0.5})


def test_sections_far_apart_are_as_good_as_independent():
    scores = np.random.default_rng(1).beta(8, 2, size=8)
    far = measure_dependence(named(scores, [("a", 500 * n) for n in range(8)]))
    assert far.effective == pytest.approx(8)
    assert far.correct_p(0.03) == pytest.approx(0.03)
    assert bootstrap_interval(scores, dependence=far) == pytest.approx(bootstrap_interval(scores))


def test_order_and_scale_of_the_scores_do_not_matter():
    scores = named(np.random.default_rng(2).random(6), PLACES)
    found = measure_dependence(scores)
    other = measure_dependence({name: 7 - 50 * scores[name] for name in reversed(scores)})
    assert other.effective == pytest.approx(found.effective)
    assert other.stretch == pytest.approx(found.stretch)


def test_a_smooth_series_is_worth_little_and_an_alternating_one_all_of_it():
    places = [("a", n) for n in range(12)]
    smooth = measure_dependence(named(np.sin(np.arange(12) / 4), places))
    jumping = measure_dependence(named([0.5, 0.7] * 6, places))
    assert smooth.effective < 2 < 11 < jumping.effective
    assert smooth.correct_p(0.001) > 0.05
    assert jumping.correct_p(0.001) < 0.005


def simulate(places, rho, repeats, seed=0):
    root = np.linalg.cholesky(correlate(places, rho))
    normal = np.random.default_rng(seed).normal(size=(repeats, len(places))) @ root.T
    return stats.beta(18, 2).ppf(stats.norm.cdf(normal)), 0.9


@pytest.mark.parametrize(
    ("sections", "rho", "least"),
    [(12, 0.0, 0.95), (12, 0.6, 0.92), (20, 0.3, 0.92), (40, 0.6, 0.92)],
)
def test_intervals_hold_the_mean_of_alike_neighbours(sections, rho, least):
    """Of 400 studies of skewed scores; what takes them as independent fails where they are not."""
    places = [("a", n) for n in range(sections)]
    drawn, truth = simulate(places, rho, 400)
    held, held_before, alarms = 0, 0, 0
    for scores in drawn:
        found = measure_dependence(named(scores, places))
        mean, error = scores.mean(), scores.std(ddof=1) / np.sqrt(sections)
        half = stats.t.ppf(0.975, sections - 1) * error
        held += abs(mean - truth) <= half * found.stretch
        held_before += abs(mean - truth) <= half
        alarms += (
            found.correct_p(float(2 * stats.t.sf(abs(mean - truth) / error, sections - 1))) <= 0.05
        )
    assert least <= held / 400 <= 0.99
    # The test is the interval seen from the other side.
    assert alarms == 400 - held
    assert held_before / 400 < 0.9 or rho == 0


def test_a_change_to_other_data_is_as_wide_as_each_sample_makes_it():
    here, there = np.random.default_rng(3).random((2, 10))
    places = [("a", n) for n in range(10)]
    alike = measure_dependence(named(np.sort(here), places))
    plain = difference_interval(there, here)
    wider = difference_interval(there, here, dependences=(None, alike))
    widest = difference_interval(there, here, dependences=(alike, alike))
    assert np.ptp(plain) < np.ptp(wider) < np.ptp(widest)
    # Stretched alike, both are as wide by the same factor.
    assert np.ptp(widest) == pytest.approx(alike.stretch * np.ptp(plain))


@pytest.fixture
def records():
    drawn = 0.5 + np.cumsum(np.random.default_rng(4).normal(0, 0.02, size=(2, 9)), axis=1)
    return [
        ScoreRecord(
            method, "vesicles", "d", 0, method, {"dice": 0.5},
            {f"test-s_z{n:02}": {"dice": float(s)} for n, s in enumerate(scores)},
        )
        for method, scores in zip("ab", drawn, strict=True)
    ]  # fmt: skip


def test_every_table_says_how_many_independent_sections_there_are(records, capsys):
    from rich.console import Console

    rows = benchmark_table(records, [], [])
    scores = {name: s["dice"] for name, s in records[0].section_scores.items()}
    worth = measure_dependence(scores).effective
    assert 1 < worth < 6
    assert rows[0].independent == worth
    plain = np.ptp(bootstrap_interval(scores.values()))
    assert np.ptp(rows[0].interval) > 1.2 * plain
    cell = f"9 ({worth:.1f})"
    assert f"| {cell} |" in to_markdown(rows)
    print_table(rows, Console(width=80))
    shown = capsys.readouterr().out
    assert cell in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert f",9,{worth!r}," in to_csv(rows)
    assert "in brackets how many independent sections tell as much" in captions(rows)[-1]
    pairs = compare_pairs(records, ["vesicles"])
    verdict = find_verdicts(rows, pairs)[0]
    assert f"over 9 sections, worth {worth:.1f})" in verdict.headline or verdict.row is rows[1]


def test_a_pair_is_judged_by_how_alike_its_differences_are(records):
    (pair,) = compare_pairs(records, ["vesicles"])
    first, second = sorted(records, key=lambda r: r.method != pair.first)
    differences = {
        name: scores["dice"] - second.section_scores[name]["dice"]
        for name, scores in first.section_scores.items()
    }
    found = measure_dependence(differences)
    assert pair.independent == found.effective
    plain = wilcoxon_signed_rank(list(differences.values())).p
    assert pair.over_sections.p == found.correct_p(plain) > plain
    # Nine sections of one series could tell two methods apart, six could not.
    assert 2**-8 < pair.over_sections.smallest_p < 0.05
    assert smallest_corrected_p({f"a{n}": 0.0 for n in range(6)}, 2**-5) > 0.05
