import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.measure import label
from skimage.morphology import ball, disk, opening, remove_small_objects

from bench.errors import BenchError
from bench.postprocess.ball_opening import are_cubes
from bench.postprocess.instances import (
    LARGEST_FOOTPRINT_RADIUS_PX,
    clean_mask,
    drop_small_instances,
    label_mask,
    open_by_distance,
    open_levels,
    open_mask,
)


def random_mask(seed):
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.standard_normal(rng.integers(1, 70, size=2)), rng.uniform(0.5, 5))
    return noise > rng.normal(-0.3, 0.5) * noise.std()


@pytest.mark.parametrize("seed", range(40))
def test_opening_equals_the_disk_opening_of_skimage(seed):
    mask = random_mask(seed)
    for radius in (1, 2, 3, 8):
        expected = opening(mask, disk(radius))
        np.testing.assert_array_equal(open_mask(mask, radius_px=radius), expected)
        np.testing.assert_array_equal(open_by_distance(mask, radius_px=radius), expected)


@pytest.mark.parametrize("value", [False, True])
@pytest.mark.parametrize("radius", [0, 2, LARGEST_FOOTPRINT_RADIUS_PX + 1])
def test_opening_of_uniform_masks_changes_nothing(value, radius):
    mask = np.full((12, 15), value)
    np.testing.assert_array_equal(open_mask(mask, radius_px=radius), mask)


def test_opening_keeps_what_the_border_cuts_and_removes_what_is_thin():
    mask = np.zeros((20, 20), bool)
    mask[:3, :3] = True
    mask[10] = True
    opened = open_mask(mask, radius_px=2)
    assert opened[0, 0]
    assert not opened[10].any()


@pytest.mark.filterwarnings("ignore:Only one label was provided")
@pytest.mark.parametrize("seed", range(20))
def test_segmentation_equals_the_same_steps_of_skimage(seed):
    mask = random_mask(seed)
    found = clean_mask(mask, opening_radius_px=1, min_area_px=12).labels
    parts = label(opening(mask, disk(1)), connectivity=1)
    # Up to max_size pixels are removed: 11 are too few, 12 are enough.
    kept = label(remove_small_objects(parts, max_size=11) > 0, connectivity=1)
    np.testing.assert_array_equal(found, kept)
    assert found.dtype == np.int32
    assert np.unique(found[found > 0]).tolist() == list(range(1, found.max() + 1))


def test_min_area_is_the_smallest_area_kept():
    mask = np.zeros((5, 12), np.uint8)
    mask[0, :3] = mask[2, :4] = mask[4, :5] = 255
    labels = clean_mask(mask, opening_radius_px=0, min_area_px=4).labels
    assert np.bincount(labels.ravel()).tolist() == [60 - 9, 4, 5]
    assert clean_mask(mask, opening_radius_px=0, min_area_px=0).labels.max() == 3


def test_corners_do_not_connect():
    assert label_mask(np.eye(3, dtype=bool)).tolist() == [[1, 0, 0], [0, 2, 0], [0, 0, 3]]


def test_removed_pixels_count_opening_and_area():
    mask = np.zeros((30, 30), bool)
    mask[2:12, 2:12] = True
    mask[20, :] = True
    mask[25:28, 25:28] = True
    cleaned = clean_mask(mask, opening_radius_px=1, min_area_px=20)
    # The square loses its four corners, the line and the small square go entirely.
    assert (cleaned.foreground_before_px, cleaned.foreground_after_px) == (139, 96)
    assert cleaned.labels.max() == 1


def test_empty_mask_has_no_instances_and_loses_nothing():
    cleaned = clean_mask(np.zeros((4, 6), bool), opening_radius_px=2, min_area_px=5)
    assert not cleaned.labels.any()
    assert (cleaned.foreground_before_px, cleaned.foreground_after_px) == (0, 0)


def test_mask_is_left_as_it_was():
    mask = random_mask(3)
    before = mask.copy()
    clean_mask(mask, opening_radius_px=2, min_area_px=30)
    np.testing.assert_array_equal(mask, before)


@pytest.mark.parametrize(
    ("mask", "radius", "area", "message"),
    [
        (np.zeros(4, bool), 0, 0, r"\(y, x\) or volume \(z, y, x\), received bool of shape"),
        (np.zeros((2, 2, 4, 4), bool), 0, 0, r"received bool of shape"),
        (np.zeros((2, 4, 4), bool), -1, 0, "radius must be at least 0 px, received -1"),
        (np.full((4, 4), 0.3), 0, 0, "received float64"),
        (np.zeros((4, 4), bool), -1, 0, "radius must be at least 0 px, received -1"),
        (np.zeros((4, 4), bool), 0, -5, "min_area_px must be at least 0, received -5"),
    ],
)
def test_bad_input_is_refused(mask, radius, area, message):
    with pytest.raises(BenchError, match=message):
        clean_mask(mask, opening_radius_px=radius, min_area_px=area)


def random_volume(seed, largest=28):
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.standard_normal(rng.integers(1, largest, 3)), rng.uniform(0.5, 3))
    return noise > rng.normal(-0.3, 0.5) * noise.std()


@pytest.mark.parametrize("seed", range(12))
def test_opening_of_volumes_equals_the_ball_opening_of_skimage(seed):
    mask = random_volume(seed)
    levels = np.random.default_rng(seed).integers(0, 256, mask.shape).astype(np.uint8)
    for radius in (1, 2, 3, 5):
        expected = opening(mask, ball(radius))
        np.testing.assert_array_equal(open_mask(mask, radius_px=radius), expected)
        np.testing.assert_array_equal(open_by_distance(mask, radius_px=radius), expected)
        opened = open_levels(levels, radius_px=radius)
        np.testing.assert_array_equal(opened, opening(levels, ball(radius)))
        at_200 = open_mask(levels >= 200, radius_px=radius)
        np.testing.assert_array_equal(opened >= 200, at_200)


@pytest.mark.filterwarnings("ignore:Only one label was provided")
@pytest.mark.parametrize("seed", range(8))
def test_segmentation_of_volumes_equals_the_same_steps_of_skimage(seed):
    mask = random_volume(seed)
    found = clean_mask(mask, opening_radius_px=1, min_area_px=12)
    parts = label(opening(mask, ball(1)), connectivity=1)
    kept = label(remove_small_objects(parts, max_size=11) > 0, connectivity=1)
    np.testing.assert_array_equal(found.labels, kept)
    assert found.foreground_before_px == np.count_nonzero(mask)
    assert found.foreground_after_px == np.count_nonzero(kept)
    np.testing.assert_array_equal(label_mask(mask), label(mask, connectivity=1))


def test_planes_of_a_volume_touch_by_faces():
    mask = np.zeros((2, 3, 3), bool)
    mask[0, 0, 0] = mask[1, 0, 0] = mask[1, 2, 2] = mask[0, 1, 1] = True
    assert label_mask(mask)[:, [0, 1, 2], [0, 1, 2]].tolist() == [[1, 2, 0], [1, 0, 3]]


def test_small_instances_of_volumes_go_and_ids_close_up(monkeypatch):
    monkeypatch.setattr("bench.postprocess.instances._COUNTED_AT_ONCE", 7)
    labels = np.random.default_rng(0).choice(
        [0, 0, 3, 900, 901], (4, 5, 6), p=[0.4, 0.3, 0.2, 0.02, 0.08]
    )
    areas = np.bincount(labels.reshape(-1), minlength=902)
    found = drop_small_instances(labels, min_area_px=5)
    kept = [each for each in (3, 900, 901) if areas[each] >= 5]
    expected = np.zeros(labels.shape, np.int32)
    for number, each in enumerate(kept, start=1):
        expected[labels == each] = number
    np.testing.assert_array_equal(found, expected)


def test_cubes_are_equal_to_2_percent():
    assert are_cubes((2.2, 2.2, 2.2))
    assert are_cubes((2.24, 2.2, 2.2))
    assert not are_cubes((50.0, 5.0, 5.0))
    assert not are_cubes(None)
