import math
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest

from bench.errors import BenchError
from bench.metrics.curves import ThresholdCounts
from bench.metrics.measures import ClassMaps, ScoredSection, measure_pixels
from bench.metrics.metric import Metric
from bench.metrics.table import (
    METRICS,
    find_metric,
    finish_scores,
    measure_section,
    register_metric,
    requested_metrics,
    scored_metrics,
    searchable_metrics,
    table_columns,
    usual_metrics,
)

# As they were before a metric was a row, and as files of earlier versions have them.
COLUMNS = ["dice", "iou", "precision", "recall", "instance_f1"]
SEARCHED = [
    *("dice", "iou", "precision", "recall", "instance_precision", "instance_recall"),
    *("instance_f1", "instance_f1_mean", "panoptic_quality"),
]
OF_SECTIONS = [*SEARCHED, "average_precision"]
OF_VESICLES = [
    *("vesicle_recall", "vesicle_precision", "vesicle_f1", "diameter_error", "centre_error_nm")
]
ON_REQUEST = [
    *("false_distance_px", "false_distance_nm", "false_distance_mean_px", "false_distance_mean_nm"),
    *("cremi_score", "cremi_adgt", "cremi_adf", "cremi_fp", "cremi_fn", "matched_iou"),
    *("object_consistency_error", "object_error_truth", "object_error_prediction", "object_iou"),
]
OF_PROMPTS = ["box_iou", "point_iou", "point_box_iou", "points_iou"]
ROW = Metric("Sum", "Pixels.", float, measure=measure_pixels, basis="pixels")


@pytest.fixture(autouse=True)
def own_table():
    """What a test registers is gone after it."""
    kept = dict(METRICS)
    yield
    METRICS.clear()
    METRICS.update(kept)


def make_section(seed, present=1.0):
    rng = np.random.default_rng(seed)
    truth, prediction = (rng.integers(0, 4, (9, 12)) * (rng.random((9, 12)) < present), None)
    prediction = np.where(rng.random((9, 12)) < 0.8, truth, 0)
    return ScoredSection(truth, prediction, rng.integers(0, 256, (9, 12)).astype(np.uint8))


def make_volume(seed):
    rng = np.random.default_rng(seed)
    truth = np.zeros((20, 20, 40), np.int32)
    truth[4:14, 5:15, 4:14], truth[5:15, 4:14, 22:32] = 1, 2
    prediction = np.roll(truth, (1, seed), (0, 1))
    levels = np.where(prediction, 200, rng.integers(0, 100, truth.shape)).astype(np.uint8)
    classes = ClassMaps(truth, prediction, 3)
    edges = (2.0, 2.0, 2.0)
    prompted = dict.fromkeys(("box", "point", "point_box", "points"), (0.3, 0.6, 0.8))
    mask = prediction > 0
    return ScoredSection(truth, prediction, levels, None, edges, mask, None, classes, prompted)


def test_order_of_columns_and_scores_is_that_of_all_versions():
    assert list(table_columns([])) == list(table_columns([{"dice": 1.0}])) == COLUMNS
    rare = ["mask_dice", *OF_VESICLES, *ON_REQUEST, "mean_iou", *OF_PROMPTS]
    assert list(table_columns()) == [*COLUMNS, *rare]
    assert list(searchable_metrics()) == SEARCHED
    assert list(usual_metrics()) == [*OF_SECTIONS, "mask_dice", *OF_VESICLES]
    of_prompts = scored_metrics("vesicles", volumes=False, prompted=True)[len(OF_SECTIONS) :]
    assert of_prompts[: len(OF_PROMPTS)] == tuple(OF_PROMPTS)
    assert list(METRICS) == [*usual_metrics(), *ON_REQUEST, "mean_iou", *of_prompts]


def test_a_metric_of_volumes_is_a_column_where_a_method_has_it():
    rows = [{"dice": 1.0}, {"dice": 0.5, "vesicle_f1": 0.4}]
    assert list(table_columns(iter(rows))) == [*COLUMNS, "vesicle_f1"]


def test_sections_and_other_structures_are_not_asked_for_vesicles_of_volumes():
    """Else their finished evaluations would be other runs."""
    assert list(scored_metrics("vesicles", volumes=False)) == OF_SECTIONS
    assert list(scored_metrics("mitochondria", volumes=True)) == [*OF_SECTIONS, "mask_dice"]
    for name in ("vesicles", "dense_core_vesicles"):
        assert scored_metrics(name, volumes=True) == usual_metrics()


def test_models_of_classes_are_asked_for_their_mean_iou():
    usual = scored_metrics("vesicles", volumes=False)
    assert scored_metrics("vesicles", volumes=False, classes=True) == (*usual, "mean_iou")
    with pytest.raises(BenchError, match="unknown metric of vesicles 'mean_iou'"):
        requested_metrics("mean_iou", "vesicles", volumes=False)


def test_masks_of_prompts_are_scored_over_all_objects_of_all_sections():
    nothing = np.zeros((2, 2), np.int32)
    names = ["box_iou", "box_above_050", "box_above_075", "point_iou"]
    found = ()
    for prompted in ({"box": (0.5, 0.9)}, {}, {"box": (0.7,)}, None):
        section = ScoredSection(nothing, nothing, nothing, prompted=prompted)
        found += measure_section(section, names)[METRICS["box_iou"].measure]
    scores = finish_scores({METRICS["box_iou"].measure: found}, names)
    assert scores == pytest.approx({"box_iou": 0.7, "box_above_050": 2 / 3, "box_above_075": 1 / 3})


def test_mean_iou_is_that_of_the_structures_over_all_sections():
    """IoU of 1 is 2 / 4 and of 2 is 1 / 3 in both sections together; background does not count."""
    found = ()
    for truth, prediction in (([0, 1, 1, 2], [1, 1, 1, 2]), ([0, 1, 2, 0], [0, 2, 0, 0])):
        maps = ClassMaps(np.array([truth]), np.array([prediction]), 3)
        section = ScoredSection(maps.truth, maps.truth, maps.truth, classes=maps)
        measured = measure_section(section, ["mean_iou"])
        found += measured[METRICS["mean_iou"].measure]
    assert METRICS["mean_iou"].finish(found) == pytest.approx((2 / 4 + 1 / 3) / 2)


def test_what_is_requested_follows_and_leaves_the_rest_as_it_was():
    usual = scored_metrics("vesicles", volumes=False)
    asked = requested_metrics("matched_iou, cremi_f*", "vesicles", volumes=False)
    assert asked == ("cremi_fp", "cremi_fn", "matched_iou")
    assert scored_metrics("vesicles", volumes=False, requested=asked) == (*usual, *asked)
    # What is scored anyhow is not requested.
    assert requested_metrics("none", "vesicles", volumes=False) == ()
    assert requested_metrics("dice,cremi_fp", "vesicles", volumes=False) == ("cremi_fp",)
    rows = [{"dice": 1.0}, {"dice": 0.5, "cremi_fp": 4.0}]
    assert list(table_columns(rows)) == [*COLUMNS, "cremi_fp"]


@pytest.mark.parametrize("name", ["cremi", "vesicle_f1", "cremi_score,mdf_*"])
def test_a_request_of_what_is_not_there_lists_what_is(name):
    wrong = name.split(",")[-1]
    with pytest.raises(
        BenchError, match=rf"unknown metric of membrane '{re.escape(wrong)}': choose one of .*cremi"
    ):
        requested_metrics(name, "membrane", volumes=True)


@pytest.mark.parametrize("name", OF_SECTIONS)
def test_both_empty_is_one_and_one_empty_is_zero(name):
    nothing, something = np.zeros((2, 3), np.uint8), np.full((2, 3), 255, np.uint8)

    def score(truth, prediction):
        section = ScoredSection(truth, prediction, prediction)
        return finish_scores(measure_section(section, [name]), [name])[name]

    assert score(nothing, nothing) == 1
    assert score(nothing, something) == 0
    # Average precision of a map without any probability is the share of foreground.
    assert score(something, nothing) == (name == "average_precision")


def test_rows_that_measure_alike_measure_once():
    seen = []

    def measure(section):
        seen.append(section)
        return 1.0

    METRICS["a"] = replace(ROW, measure=measure)
    METRICS["b"] = replace(ROW, measure=measure, finish=lambda total: total / 2)
    measured = measure_section(make_section(0), ["a", "b", "dice"])
    assert len(seen) == 1
    assert finish_scores(measured, ["b", "a"]) == {"b": 0.5, "a": 1.0}


def test_what_is_measured_goes_to_other_processes_and_back():
    first, second = (measure_section(make_volume(seed), METRICS) for seed in (1, 2))
    back = pickle.loads(pickle.dumps(first))
    pooled = {measure: back[measure] + second[measure] for measure in second}
    expected = {measure: first[measure] + second[measure] for measure in second}
    assert finish_scores(pooled, METRICS) == finish_scores(expected, METRICS)
    assert len(finish_scores(pooled, METRICS)) == len(METRICS)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_defined_is_left_out(value):
    METRICS["odd"] = replace(ROW, finish=lambda _: value)
    names = ["dice", "odd"]
    assert list(finish_scores(measure_section(make_section(0), names), names)) == ["dice"]


def test_a_row_is_registered_once():
    register_metric("mine", ROW)
    register_metric("mine", ROW)
    assert find_metric("mine") is ROW
    with pytest.raises(BenchError, match="a metric's name is free, 'mine' is Sum: register Other"):
        register_metric("mine", replace(ROW, label="Other"))
    with pytest.raises(BenchError, match="'dice' is Dice"):
        register_metric("dice", ROW)
    assert METRICS["dice"].label == "Dice"


@pytest.mark.parametrize("name", ["", "Dice", "a-b", "val/dice", "1st", "a b"])
def test_names_that_are_none_are_refused(name):
    with pytest.raises(BenchError, match="the name of a metric is of small letters"):
        register_metric(name, ROW)


@pytest.mark.parametrize(
    "settings",
    [
        {"low": 1.0},
        {"low": math.nan},
        {"high": math.inf, "search": lambda found: (found.true_px, found.truth_px)},
    ],
)
def test_a_range_that_is_none_is_refused(settings):
    with pytest.raises(BenchError, match=r"metric 'Sum' must have a range.*state low and high"):
        replace(ROW, **settings)


def test_unknown_metric_lists_the_names():
    assert find_metric("dice").label == "Dice"
    with pytest.raises(BenchError, match=r"'dise'.*dice.*panoptic_quality"):
        find_metric("dise")


def test_lengths_where_less_is_better():
    row = replace(ROW, direction="lower", high=math.inf, unit="nm", decimals=1, short="S.")
    assert (row.heading, row.narrow_heading) == ("Sum (nm)", "S.\n(nm)")
    assert (row.write(12.34), row.write_change(-12.36)) == ("12.3", "-12.4")
    assert (row.merit(3.0 - 5.0), row.ends) == (2.0, (math.inf, 0.0))
    assert (METRICS["dice"].merit(0.3), METRICS["dice"].ends) == (0.3, (0.0, 1.0))


def counts_of(found, predicted, truth):
    """Counts of pixels at as many thresholds as values."""
    values = [np.array([part]) for part in (found, predicted)]
    nothing = np.zeros_like(values[0])
    return ThresholdCounts(truth, 0, nothing, values[1], values[0], nothing[None], nothing)


def test_nothing_by_nothing_is_the_best_and_anything_by_nothing_the_worst():
    row = replace(
        ROW,
        direction="lower",
        high=5.0,
        search=lambda found: (found.predicted_px - found.true_px, found.true_px),
    )
    assert row.at_thresholds(counts_of([2, 0], [3, 3], 4)).tolist() == [[0.5, 5.0]]
    assert row.at_thresholds(counts_of([0], [0], 0)).tolist() == [[0.0]]
    with pytest.raises(TypeError, match="Sum is not counted at thresholds"):
        ROW.at_thresholds(counts_of([0], [0], 0))
