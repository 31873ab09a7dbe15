import math

import numpy as np
import pytest
from scipy import stats

from bench.errors import BenchError
from bench.methods import METHODS
from bench.report.data_facts import DataFacts
from bench.report.intervals import bootstrap_interval
from bench.report.tables import ScoreRecord, benchmark_table


def record(method="scratch", structure="vesicles", seed=0, dice=0.5, dataset="d", **more):
    run_id = f"{method}-{structure}-{seed}"
    return ScoreRecord(method, structure, dataset, seed, run_id, {"dice": dice}, **more)


def missing(method, structure, reason, seed=0, dataset="d"):
    return ScoreRecord(method, structure, dataset, seed, "", reason=reason)


def test_interval_of_nine_failures_in_ten_is_that_of_the_binomial():
    # The resampled mean is Binomial(10, 0.1) / 10: P(<= 2) = 0.930, P(<= 3) = 0.987, so that the
    # percentiles are 0 and 0.3. For ten values t is 2.262 instead of 1.960.
    stretch = math.sqrt(10 / 9) * 2.262157 / 1.959964
    low, high = bootstrap_interval([1] + [0] * 9, resamples=20000)
    assert (low, high) == pytest.approx((0.1 - 0.1 * stretch, 0.1 + 0.2 * stretch), abs=1e-6)
    low, high = bootstrap_interval([1] + [0] * 9, resamples=20000, limits=(0, 0.3))
    assert (low, high) == (0, 0.3)


def test_interval_agrees_with_scipy():
    values = np.random.default_rng(3).beta(8, 2, size=25)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(7)
    ).confidence_interval
    ours = bootstrap_interval(values, seed=1, resamples=20000)
    stretch = math.sqrt(25 / 24) * stats.t.ppf(0.975, 24) / stats.norm.ppf(0.975)
    mean = values.mean()
    widened = [mean + (end - mean) * stretch for end in (theirs.low, theirs.high)]
    assert ours == pytest.approx(widened, abs=2e-3)


def test_interval_is_reproducible_and_depends_on_the_seed():
    values = [0.1, 0.5, 0.7, 0.9, 0.95]
    assert bootstrap_interval(values, seed=4) == bootstrap_interval(values, seed=4)
    values = np.random.default_rng(0).random(40)
    assert bootstrap_interval(values, seed=4) != bootstrap_interval(values, seed=5)


@pytest.mark.parametrize("values", [[], [0.7]])
def test_fewer_than_two_values_have_no_interval(values):
    assert bootstrap_interval(values) is None


def test_interval_refuses_nan():
    with pytest.raises(BenchError, match="finite"):
        bootstrap_interval([0.5, float("nan")])


def test_rows_follow_the_given_orders_with_unknown_names_last():
    records = [
        record("other", "vesicles"),
        record("finetuned", "membrane"),
        record("scratch", "nuclei"),
    ]
    rows = benchmark_table(records, ["scratch", "finetuned"], ["vesicles", "membrane"])
    assert [(row.method, row.structure) for row in rows] == [
        (method, structure)
        for method in ("scratch", "finetuned", "other")
        for structure in ("vesicles", "membrane", "nuclei")
        if (method, structure) in {(record.method, record.structure) for record in records}
    ]
    assert rows[0].label == METHODS["scratch"].label
    assert rows[-1].label == "other"


def test_seeds_are_averaged():
    records = [record(seed=seed, dice=dice) for seed, dice in ((2, 0.9), (0, 0.5), (1, 0.7))]
    (row,) = benchmark_table(records, ["scratch"], ["vesicles"])
    assert row.n == 3
    assert row.seeds == (0, 1, 2)
    assert row.run_ids == ("scratch-vesicles-0", "scratch-vesicles-1", "scratch-vesicles-2")
    assert row.scores["dice"] == pytest.approx(0.7)
    assert row.deviations["dice"] == pytest.approx(0.2)
    assert row.reason is None


def test_one_seed_has_no_deviation():
    (row,) = benchmark_table([record()], ["scratch"], ["vesicles"])
    assert row.deviations == {}


def test_interval_is_over_sections_averaged_over_seeds():
    # Over seeds both sections average to 0.5, so nothing is left to vary.
    records = [
        record(seed=0, section_scores={"a": {"dice": 0.4, "iou": 0.1}, "b": {"dice": 0.6}}),
        record(seed=1, section_scores={"a": {"dice": 0.6}, "b": {"dice": 0.4}}),
    ]
    (row,) = benchmark_table(records, ["scratch"], ["vesicles"])
    assert row.interval == pytest.approx((0.5, 0.5))
    assert row.sections == 2


def test_a_cell_without_scores_says_why_and_what_was_never_tried_has_no_row():
    records = [
        missing("scratch", "membrane", "out of memory", seed=0),
        missing("scratch", "membrane", "out of memory", seed=1),
        record("scratch", "vesicles"),
    ]
    rows = benchmark_table(records, ["scratch", "finetuned"], ["vesicles", "membrane"])
    reasons = {(row.method, row.structure): row.reason for row in rows}
    assert reasons == {
        ("scratch", "vesicles"): None,
        ("scratch", "membrane"): "out of memory",
    }
    assert all(not row.scores and row.n == 0 for row in rows if row.reason)


def test_a_seed_that_failed_is_named_beside_the_scores_of_the_others():
    records = [record(seed=0, dice=0.6), missing("scratch", "vesicles", "diverged", seed=1)]
    (row,) = benchmark_table(records, ["scratch"], ["vesicles"])
    assert row.scores == {"dice": 0.6}
    assert row.n == 1
    assert row.reason == "seed 1 not scored: diverged"


def test_warnings_are_notes_and_name_the_seeds_they_are_about():
    records = [
        record(seed=0, warnings=("toy", "source kept")),
        record(seed=1, warnings=("toy",)),
        missing("scratch", "vesicles", "diverged", seed=2),
    ]
    (row,) = benchmark_table(records, ["scratch"], ["vesicles"])
    assert row.warnings == ("toy", "seed 0: source kept")
    assert row.notes == ("seed 2 not scored: diverged", "toy", "seed 0: source kept")


def test_best_is_per_structure_and_dataset_with_all_ties_at_three_decimals():
    records = [
        record("scratch", "vesicles", dice=0.60012),
        record("finetuned", "vesicles", dice=0.59987),
        record("other", "vesicles", dice=0.59),
        record("scratch", "membrane", dice=0.2),
        record("other", "membrane", dice=0.3),
        record("scratch", "vesicles", dice=0.9, dataset="e"),
        record("other", "vesicles", dice=0.7, dataset="e"),
    ]
    rows = benchmark_table(records, [], [])
    best = {(row.method, row.structure, row.dataset) for row in rows if "dice" in row.best}
    assert best == {
        ("scratch", "vesicles", "d"),
        ("finetuned", "vesicles", "d"),
        ("other", "membrane", "d"),
        ("scratch", "vesicles", "e"),
    }


def test_zero_is_never_the_best():
    rows = benchmark_table([record(dice=0.0), record("other", dice=0.0)], [], [])
    assert [row.best for row in rows] == [frozenset(), frozenset()]


@pytest.mark.parametrize("dice", [(0.286, 0.286, 0.286), (0.2861, 0.2859, 0.286), (0.5,)])
def test_a_value_that_all_rows_have_says_nothing(dice):
    records = [record(f"m{place}", dice=value) for place, value in enumerate(dice)]
    assert not any(row.best for row in benchmark_table(records, [], []))


def test_instances_of_a_network_are_not_marked():
    def scored(method, value, uncounted):
        scores = {"dice": value, "instance_f1": value}
        data = DataFacts(uncounted=uncounted)
        return ScoreRecord(method, "membrane", "d", 0, method, scores, data=data)

    for uncounted, best in (("a network", {"dice"}), ("", {"dice", "instance_f1"})):
        records = [scored("a", 0.7, uncounted), scored("b", 0.6, uncounted)]
        first, second = benchmark_table(records, [], [])
        assert (first.best, second.best) == (best, frozenset())
        assert first.data.uncounted == uncounted


def test_a_structure_that_one_of_several_datasets_lacks_has_no_rows_there():
    records = [record(), record(structure="membrane"), record(structure="membrane", dataset="e")]
    rows = benchmark_table(records, ["scratch"], ["vesicles", "membrane"])
    assert [(row.dataset, row.structure) for row in rows] == [
        ("d", "vesicles"),
        ("d", "membrane"),
        ("e", "membrane"),
    ]


def test_two_runs_of_one_cell_and_seed_are_refused():
    with pytest.raises(BenchError, match="one record per method"):
        benchmark_table([record(), record(dice=0.8)], ["scratch"], ["vesicles"])


@pytest.mark.parametrize(
    ("scores", "reason", "message"),
    [
        ({"dice": 0.5}, "failed", "received both"),
        ({}, None, "received neither"),
        ({"dice": float("nan")}, None, "finite"),
    ],
)
def test_a_record_has_finite_scores_or_a_reason(scores, reason, message):
    with pytest.raises(BenchError, match=message):
        ScoreRecord("scratch", "vesicles", "d", 0, "r", scores, {}, reason)


def test_no_records_give_no_rows():
    assert benchmark_table([], ["scratch"], ["vesicles"]) == []
