import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.measurement.objects import CUT, DIAMETER
from bench.report.intervals import bootstrap_interval
from bench.report.measured.estimates import Estimator, Measured, compare_estimates
from bench.report.measured.quantities import QUANTITIES

COUNT, DENSITY = QUANTITIES[2][:2]


def sections(counts, prefix="x", clusters=()):
    """Sections of 2 µm² with so many objects, of which none is like another by name."""
    tables = tuple(
        pd.DataFrame({"id": np.arange(n), "area_nm2": 1.0, DIAMETER: 40.0, CUT: False})
        for n in counts
    )
    names = tuple(f"{prefix}{chr(97 + place)}" for place in range(len(counts)))
    return Measured(names, tables, (2.0,) * len(counts), serial=True, clusters=tuple(clusters))


def test_the_interval_of_a_mean_is_that_of_scores():
    counts = [12, 30, 18, 25, 22, 41, 17]
    found = Estimator(COUNT, None).raw(sections(counts))
    assert found.value == pytest.approx(np.mean(counts))
    assert found.interval() == pytest.approx(bootstrap_interval(counts), rel=0.03)
    density = Estimator(DENSITY, None).raw(sections(counts))
    assert density.value == found.value / 2
    assert math.isnan(Estimator(COUNT, None).corrected(sections(counts)).value)


def test_neighbours_that_are_alike_tell_less():
    counts = [10, 11, 12, 13, 30, 31, 32, 33, 20, 21, 22, 23]
    apart = sections(counts)
    names = tuple(f"s{n:02d}" for n in range(len(counts)))
    series = Measured(names, apart.tables, apart.extents, serial=True)
    widths = [
        np.diff(Estimator(COUNT, None).raw(each).interval())[0]
        for each in (apart, series, Measured(names, apart.tables, apart.extents, serial=False))
    ]
    assert widths[1] > 1.3 * widths[0]
    assert widths[2] == pytest.approx(widths[0], rel=0.1)


def test_one_section_has_no_interval():
    low, high = Estimator(COUNT, None).raw(sections([5])).interval()
    assert math.isnan(low)
    assert math.isnan(high)


def test_groups_are_compared_as_by_welch():
    first, second = [12, 30, 18, 25, 22, 41, 17, 20], [40, 35, 52, 31, 60, 44]
    estimator = Estimator(COUNT, None)
    sides = [estimator.raw(sections(c, p)) for c, p in ((first, "x"), (second, "y"))]
    found = compare_estimates(*sides)
    assert found.value == pytest.approx(np.mean(first) - np.mean(second))
    expected = stats.ttest_ind(first, second, equal_var=False)
    assert found.p_value() == pytest.approx(expected.pvalue, rel=0.35)
    ends = expected.confidence_interval()
    assert found.interval() == pytest.approx((ends.low, ends.high), abs=1.5)


def test_sections_of_an_animal_are_one_value():
    """Four sections of each of three animals tell as much as three values do."""
    values = [10, 20, 36]
    counts = [value + each for value in values for each in (-1, 0, 0, 1)]
    animals = [f"m{n}" for n in range(3) for _ in range(4)]
    estimator = Estimator(COUNT, None)
    clustered = estimator.raw(sections(counts, clusters=animals)).interval()
    assert clustered == pytest.approx(bootstrap_interval(values), rel=0.05)
    assert np.diff(estimator.raw(sections(counts)).interval()) < 0.5 * np.diff(clustered)


def test_equal_sections_differ_by_nothing_that_a_test_can_say():
    estimator = Estimator(COUNT, None)
    same = [estimator.raw(sections([7] * 5, prefix)) for prefix in "xy"]
    assert math.isnan(compare_estimates(*same).p_value())
    assert compare_estimates(*same).interval() == (0.0, 0.0)
