import numpy as np
import pytest

from bench.inference.prediction import SectionPrediction
from bench.postprocess.instances import clean_mask
from bench.postprocess.segmentation import PostprocessSettings, segment_prediction
from bench.postprocess.watershed import WatershedSettings, default_settings

SETTINGS = PostprocessSettings(opening_radius_px=0, min_area_px=20, origin="")


@pytest.fixture
def two_that_touch():
    """Two squares side by side with a drawn border between them, and a speck."""
    foreground = np.zeros((40, 60), np.uint8)
    foreground[10:30, 10:50] = 250
    foreground[2:4, 2:4] = 250
    boundary = np.zeros_like(foreground)
    boundary[10:30, 29:31] = 250
    return foreground, boundary


def test_a_boundary_separates_what_touches(two_that_touch):
    prediction = SectionPrediction(*two_that_touch)
    together = segment_prediction(prediction, level=128, settings=SETTINGS, watershed=None)
    apart = segment_prediction(
        prediction, level=128, settings=SETTINGS, watershed=default_settings(20)
    )
    assert together.labels.max() == 1
    assert apart.labels.max() == 2
    np.testing.assert_array_equal(apart.labels > 0, together.labels > 0)
    assert apart.foreground_before_px == 20 * 40 + 4
    assert apart.foreground_after_px == 20 * 40
    assert apart.labels[20, 15] != apart.labels[20, 45]


def test_without_a_boundary_components_are_left(two_that_touch):
    foreground, _ = two_that_touch
    found = segment_prediction(
        SectionPrediction(foreground), level=128, settings=SETTINGS, watershed=default_settings(20)
    )
    expected = clean_mask(foreground >= 128, opening_radius_px=0, min_area_px=20)
    np.testing.assert_array_equal(found.labels, expected.labels)


def test_a_models_own_instances_stay_apart_and_follow_the_threshold(two_that_touch):
    foreground, _ = two_that_touch
    instances = np.zeros(foreground.shape, np.int32)
    instances[10:30, 10:30], instances[10:30, 30:50], instances[2:4, 2:4] = 7, 3, 5
    foreground[10:30, 30:50] = 100
    prediction = SectionPrediction(foreground, instances=instances)
    low = segment_prediction(prediction, level=100, settings=SETTINGS, watershed=None)
    assert set(np.unique(low.labels)) == {0, 1, 2}
    assert low.labels[20, 15] != low.labels[20, 45]
    high = segment_prediction(prediction, level=128, settings=SETTINGS, watershed=None)
    assert set(np.unique(high.labels)) == {0, 1}
    assert high.labels[20, 45] == 0
    assert (high.foreground_before_px, high.foreground_after_px) == (404, 400)


def test_a_volume_is_segmented_and_separated_like_a_section(two_that_touch):
    """The same picture in every plane: what a section gives, in each of them."""
    foreground, boundary = (np.repeat(part[None], 8, axis=0) for part in two_that_touch)
    settings = PostprocessSettings(opening_radius_px=0, min_area_px=40, origin="")
    prediction = SectionPrediction(foreground, boundary)
    together = segment_prediction(prediction, level=128, settings=settings, watershed=None)
    assert together.labels.shape == foreground.shape
    assert together.labels.max() == 1
    assert together.foreground_before_px == 8 * (20 * 40 + 4)
    assert together.foreground_after_px == 8 * 20 * 40
    apart = segment_prediction(
        prediction, level=128, settings=settings, watershed=WatershedSettings(0.65, 2.0, 2, 10, "")
    )
    np.testing.assert_array_equal(apart.labels > 0, together.labels > 0)
    assert apart.labels.max() == 2
    assert apart.labels[4, 20, 15] != apart.labels[4, 20, 45]
    instances = np.where(together.labels > 0, 5, 0).astype(np.int32)
    instances[:, :, 30:] *= 2
    own = segment_prediction(
        SectionPrediction(foreground, instances=instances),
        level=128,
        settings=settings,
        watershed=None,
    )
    assert set(np.unique(own.labels)) == {0, 1, 2}
