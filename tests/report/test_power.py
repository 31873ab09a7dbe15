"""How many sections or seeds tell two methods apart: against published numbers, and simulated."""

import math

import numpy as np
import pytest
from scipy import stats

from bench.report.comparison_formats import describe_best, pair_cells, to_csv
from bench.report.comparisons import compare_pairs
from bench.report.power import (
    Spread,
    measure_spread,
    needed_effect,
    needed_number,
    power_of,
)
from bench.report.serial import measure_dependence
from bench.report.statistics import wilcoxon_signed_rank
from bench.report.tables import ScoreRecord


@pytest.mark.parametrize(("effect", "pairs"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_the_paired_t_test_needs_the_published_numbers_of_pairs(effect, pairs):
    """G*Power's of a two-sided test at 0.05 with a power of 0.8 (Faul et al. 2007)."""
    assert needed_number(effect) == pairs
    assert needed_effect(pairs) <= effect < needed_effect(pairs - 1)


@pytest.mark.parametrize(
    ("effect", "number"), [(0.3, 20), (0.8, 7), (-2.0, 4), (30.0, 12), (0.0, 9)]
)
def test_the_power_agrees_with_scipys_distribution(effect, number):
    limit = stats.t.ppf(0.975, number - 1)
    shift = abs(effect) * math.sqrt(number)
    expected = stats.nct.sf(limit, number - 1, shift) if shift else 0.025
    expected += stats.nct.sf(limit, number - 1, -shift) if 0 < shift < 30 else 0.025 * (not shift)
    assert power_of(effect, number) == pytest.approx(expected, abs=1e-6)


def test_effects_of_any_size_have_a_number():
    numbers = [needed_number(effect) for effect in (1e-6, 0.01, 0.3, 3, 11, 12, 1e9)]
    assert numbers == sorted(numbers, reverse=True)
    assert numbers[-1] == 2


def test_parts_of_the_variance_by_hand():
    # Two seeds of a differ by 0.2 on the first section and by 0 on the second: of that 0.1 is luck
    # of the training, and +-0.05 the rest, of which (2 - 1)(2 - 1) are free: 4 * 0.05^2. Those of b
    # differ by as much everywhere, which is luck alone.
    a = [{"x": 0.9, "y": 0.5}, {"x": 0.7, "y": 0.5}]
    b = [{"x": 0.2, "y": 0.1}, {"x": 0.4, "y": 0.3}]
    spread = measure_spread({"x": 0.5, "y": 0.3}, (a, b), None)
    assert spread.variance == pytest.approx(0.02)
    assert spread.of_seeds == pytest.approx(4 * 0.05**2)
    assert spread.of_these_seeds == pytest.approx(4 * 0.05**2 / 2)
    assert measure_spread({"x": 0.5, "y": 0.3}, (a, b[:1]), None).of_seeds is None
    assert measure_spread({"x": 0.5}, (a, b), None) is None


def test_seeds_alone_are_not_enough_where_sections_differ():
    sections = Spread(variance=1.0, of_seeds=0.4, of_these_seeds=0.2, seen=1.0, alike=False)
    # With as many seeds as one likes 0.8 of the variance are left: what is seen falls to sqrt(0.8).
    assert sections.needed(0.89).seeds is None
    # 0.95^2 - 0.8 = 0.1025 are left for the seeds' 0.4: four; 1.0 is seen already by two.
    assert sections.needed(0.95).seeds == 4
    assert sections.needed(1.0).seeds == 2
    assert sections.needed(0.5).describe(8, "section") == "needs 34 sections, not by seeds alone"
    assert sections.needed(0.95).describe(8, "section") == "needs 11 sections, or 4 seeds"
    assert sections.needed(0.0) is None
    assert sections.needed(1e-9).write() == "> 10000 / –"


@pytest.mark.parametrize("effect", [0.5, 0.8, 1.1])
def test_a_study_of_so_many_sections_resolves_the_difference(effect):
    """By the test that compare does, in 75 to 85 of 100 studies; sections far apart likewise."""
    spread = Spread(variance=0.03**2, of_seeds=None, of_these_seeds=0, seen=1, alike=False)
    sections = spread.needed(0.03 * effect).sections
    drawn = np.random.default_rng(0).normal(0.03 * effect, 0.03, size=(400, sections))
    resolved = [wilcoxon_signed_rank(study).p <= 0.05 for study in drawn]
    assert 0.75 <= np.mean(resolved) <= 0.85
    far = {f"a{1000 * n}": float(d) for n, d in enumerate(drawn[0])}
    p = wilcoxon_signed_rank(drawn[0]).p
    assert measure_dependence(far).correct_p(p) == pytest.approx(p)


def test_a_study_of_so_many_seeds_resolves_the_difference():
    """On 12 sections, whose differences vary by 0.01 and whose seeds' rests by 0.03."""
    rng, sections, here = np.random.default_rng(1), 12, 2
    of_seeds = 2 * 0.03**2
    variance = 0.01**2 + of_seeds / here
    seen = needed_effect(sections) * math.sqrt(variance)
    spread = Spread(variance, of_seeds, of_seeds / here, seen, alike=False)
    needed = spread.needed(0.0185)
    assert needed.seeds > here
    rests = rng.normal(0, 0.03, size=(400, 2, needed.seeds, sections)).mean(axis=2)
    drawn = 0.0185 + rng.normal(0, 0.01, size=(400, sections)) + rests[:, 0] - rests[:, 1]
    resolved = [wilcoxon_signed_rank(study).p <= 0.05 for study in drawn]
    assert 0.75 <= np.mean(resolved) <= 0.85


def compared(name):
    rng = np.random.default_rng(2)
    base = rng.random(12) / 10
    records = [
        ScoreRecord(
            method,
            "vesicles",
            "d",
            seed,
            f"{method}{seed}",
            {"dice": 0.7},
            {
                name.format(n): {"dice": float(0.7 + level + b + rng.normal(0, 0.02))}
                for n, b in enumerate(base)
            },
        )
        for method, level in (("a", 0.004), ("b", 0.0))
        for seed in range(2)
    ]
    return compare_pairs(records, ["vesicles"])


def test_comparisons_say_what_it_takes():
    (pair,) = compared("{}s")
    seen, small = pair.needed
    sections = needed_number(abs(pair.difference) / math.sqrt(pair.spread.variance))
    assert seen.sections == sections > 12
    assert small.sections == max(6, needed_number(0.02 / math.sqrt(pair.spread.variance)))
    assert f"; needs {sections:,} sections" in describe_best([pair])[1]
    assert pair_cells(pair, seeds=True)[8].startswith(f"{sections} / ")
    line = to_csv([pair]).splitlines()[1].split(",")
    assert (line[-4], line[-2]) == (str(sections), str(small.sections))
    # Of neighbours more would bring little: those that are far apart are counted.
    (alike,) = compared("s{}")
    assert " sections far apart" in describe_best([alike])[1]
