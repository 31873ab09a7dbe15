import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter
from skimage.measure import label
from skimage.morphology import ball, disk, opening, remove_small_objects

from bench.errors import BenchError
from bench.metrics.instances import match_instances
from bench.metrics.measures import measure_matching, measure_pixels
from bench.metrics.overlap import count_pixels
from bench.metrics.table import METRICS, finish_scores, searchable_metrics
from bench.postprocess.instances import clean_mask, open_levels
from bench.search.component_tree import build_component_tree
from bench.search.threshold_counts import count_thresholds

AREAS = (0, 2, 5, 12)


def plain_scores(levels, truth, level, radius, area):
    """The same with scikit-image, a threshold at a time."""
    mask = levels >= level
    if radius:
        mask = opening(mask, disk(radius) if mask.ndim == 2 else ball(radius))
    if area > 1:
        mask = remove_small_objects(mask, max_size=area - 1, connectivity=1)
    labels = label(mask, connectivity=1)
    counts = count_pixels(truth=truth, prediction=labels)
    matching = match_instances(truth=truth, prediction=labels)
    return finish_scores({measure_pixels: counts, measure_matching: matching}, searchable_metrics())


def check_all(levels, truth, radius, wanted):
    counts = count_thresholds(open_levels(levels, radius_px=radius), truth, AREAS)
    curves = {name: METRICS[name].at_thresholds(counts) for name in searchable_metrics()}
    for level in wanted:
        for place, area in enumerate(AREAS):
            expected = plain_scores(levels, truth, level, radius, area)
            found = {name: curve[place, level] for name, curve in curves.items()}
            assert found == pytest.approx({name: expected[name] for name in found}, abs=1e-12)


@given(
    levels=arrays(np.uint8, (9, 13), elements=st.sampled_from([0, 1, 60, 61, 128, 200, 255])),
    truth=arrays(np.int32, (9, 13), elements=st.sampled_from([0, 0, 0, 3, 3, 7, 900])),
    radius=st.sampled_from([0, 1, 2]),
)
@settings(max_examples=60, deadline=None)
def test_every_score_is_that_of_the_segmentation_at_each_threshold(levels, truth, radius):
    check_all(levels, truth, radius, [0, 1, 2, 60, 61, 62, 128, 201, 255])


@pytest.mark.parametrize("seed", range(4))
def test_smooth_maps_of_touching_instances(seed):
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=(70, 90)), 3)
    levels = np.interp(field, (field.min(), field.max()), (0, 255)).round().astype(np.uint8)
    truth = label(gaussian_filter(field + 0.02 * rng.normal(size=field.shape), 1) > field.std())
    for radius in (0, 1, 3):
        check_all(levels, truth, radius, range(0, 256, 17))


@pytest.mark.parametrize(
    ("levels", "truth"),
    [
        (np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.int32)),
        (np.zeros((4, 5), np.uint8), np.ones((4, 5), np.int32)),
        (np.full((4, 5), 255, np.uint8), np.zeros((4, 5), np.int32)),
        (np.full((1, 1), 9, np.uint8), np.ones((1, 1), np.int32)),
        (np.full((1, 7), 9, np.uint8), np.ones((1, 7), np.int32)),
    ],
)
def test_maps_of_a_single_level_and_empty_truths(levels, truth):
    check_all(levels, truth, 0, [0, 1, 9, 10, 255])


def test_counts_of_sections_add_up():
    rng = np.random.default_rng(0)
    sections = [
        (rng.integers(0, 256, (8, 9)).astype(np.uint8), rng.integers(0, 3, (8, 9)))
        for _ in range(2)
    ]
    first, second = (count_thresholds(*section, AREAS) for section in sections)
    both = first + second
    pairs = [
        (truth, clean_mask(levels >= 90, opening_radius_px=0, min_area_px=2).labels)
        for levels, truth in sections
    ]
    counts = [count_pixels(truth=truth, prediction=found) for truth, found in pairs]
    matches = [match_instances(truth=truth, prediction=found) for truth, found in pairs]
    expected = finish_scores(
        {measure_pixels: counts[0] + counts[1], measure_matching: matches[0] + matches[1]},
        searchable_metrics(),
    )
    found = {name: METRICS[name].at_thresholds(both)[1, 90] for name in expected}
    assert found == pytest.approx(expected, abs=1e-12)


def test_a_match_needs_more_than_half():
    # The component of two pixels and the instance of two share one: IoU 1/3. At the lower
    # threshold the component of three holds both pixels of the instance: IoU 2/3.
    levels = np.array([[200, 200, 100, 0]], np.uint8)
    truth = np.array([[0, 5, 5, 0]], np.int32)
    counts = count_thresholds(levels, truth, (0,))
    assert counts.matched[0, 0, 101:].sum() == 0
    assert counts.matched[0, 0, 1:101].tolist() == [1] * 100
    assert counts.matched_iou[0, 100] == pytest.approx(2 / 3)
    # IoU 2/4 of the whole row at threshold 0 is not more than half.
    assert counts.matched[0, 0, 0] == 0


def test_parents_are_lower_and_lead_to_the_root():
    levels = np.random.default_rng(1).integers(0, 6, (20, 30)).astype(np.uint8)
    flat = levels.reshape(-1)
    order, parent = build_component_tree(flat, 30, 600)
    assert sorted(order) == list(range(600))
    assert (np.diff(flat[order].astype(int)) <= 0).all()
    root = order[-1]
    assert parent[root] == root
    for pixel in range(600):
        steps = 0
        while parent[pixel] != pixel:
            assert flat[parent[pixel]] <= flat[pixel]
            pixel, steps = parent[pixel], steps + 1
        assert pixel == root
        # Levels and one step to the name of a pixel's own component.
        assert steps <= 7


def test_shapes_must_agree():
    with pytest.raises(BenchError, match="same shape"):
        count_thresholds(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.int32), (0,))


@pytest.mark.parametrize("radius", [-1, 7])
def test_the_radius_is_one_that_has_a_footprint(radius):
    with pytest.raises(BenchError, match="radius of 0 to 6"):
        open_levels(np.zeros((4, 4), np.uint8), radius_px=radius)


@given(
    levels=arrays(np.uint8, (4, 5, 6), elements=st.sampled_from([0, 1, 60, 61, 128, 200, 255])),
    truth=arrays(np.int32, (4, 5, 6), elements=st.sampled_from([0, 0, 0, 3, 3, 7, 900])),
    radius=st.sampled_from([0, 1, 2]),
)
@settings(max_examples=60, deadline=None)
def test_every_score_of_a_volume_is_that_of_its_segmentation(levels, truth, radius):
    check_all(levels, truth, radius, [0, 1, 2, 60, 61, 62, 128, 201, 255])


@pytest.mark.parametrize("shape", [(12, 20, 25), (1, 20, 30), (6, 1, 30), (5, 20, 1), (1, 1, 1)])
def test_volumes_of_touching_instances(shape):
    rng = np.random.default_rng(0)
    field = gaussian_filter(rng.normal(size=shape), 1.5)
    ends = (field.min(), field.max() + 1e-9)
    levels = np.interp(field, ends, (0, 255)).round().astype(np.uint8)
    truth = label(gaussian_filter(field + 0.02 * rng.normal(size=shape), 1) > field.std())
    for radius in (0, 1):
        check_all(levels, truth, radius, range(0, 256, 31))


def test_a_volume_of_one_plane_counts_as_its_section():
    rng = np.random.default_rng(2)
    levels = rng.integers(0, 256, (20, 30)).astype(np.uint8)
    truth = rng.integers(0, 4, (20, 30))
    section, plane = (count_thresholds(levels[at], truth[at], AREAS) for at in (..., None))
    for name, counted in vars(section).items():
        np.testing.assert_array_equal(counted, vars(plane)[name])
