import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import label

from bench.postprocess.components import label_components


def label_by_scipy(mask, min_area_px):
    """Labels in the order of the first pixels, without the small ones; and the pixels left."""
    labels, _ = label(mask)
    areas = np.bincount(labels.reshape(-1))
    kept = [each for each in range(1, len(areas)) if areas[each] >= min_area_px]
    expected = np.zeros(mask.shape, np.int32)
    for number, each in enumerate(kept, start=1):
        expected[labels == each] = number
    return expected, int(areas[kept].sum())


def check(mask, min_area_px):
    labels, kept_px = label_components(mask, min_area_px=min_area_px)
    expected, expected_px = label_by_scipy(mask, min_area_px)
    np.testing.assert_array_equal(labels, expected)
    assert labels.dtype == np.int32
    assert kept_px == expected_px


@settings(max_examples=200, deadline=None)
@given(
    mask=arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=49)),
    min_area_px=st.integers(0, 12),
)
def test_labels_are_those_of_scipy(mask, min_area_px):
    check(mask, min_area_px)


@pytest.mark.parametrize("density", [0.02, 0.4, 0.6, 0.98])
def test_labels_are_those_of_scipy_on_images_of_many_runs(density):
    check(np.random.default_rng(0).random((120, 333)) < density, 5)


def test_combs_and_spirals_are_one_component():
    """Branches that meet only in the last row, and a band that winds from outside to inside."""
    comb = np.zeros((40, 101), bool)
    comb[:, ::2] = True
    comb[-1] = True
    assert label_components(comb, min_area_px=1)[0].max() == 1
    spiral = np.zeros((41, 41), bool)
    y = x = 0
    step, turned = (0, 1), 0
    while turned < 2:
        spiral[y, x] = True
        ahead = (y + 2 * step[0], x + 2 * step[1])
        inside = 0 <= y + step[0] < 41 and 0 <= x + step[1] < 41
        free = not (0 <= ahead[0] < 41 and 0 <= ahead[1] < 41 and spiral[ahead])
        if inside and free:
            y, x, turned = y + step[0], x + step[1], 0
        else:
            step, turned = (step[1], -step[0]), turned + 1
    assert np.count_nonzero(spiral) > 800
    check(spiral, 0)
    assert label_components(spiral, min_area_px=1)[0].max() == 1


def test_the_order_of_memory_and_a_view_change_nothing():
    mask = np.random.default_rng(1).random((50, 70)) < 0.5
    check(np.asfortranarray(mask), 3)
    check(mask[::2, 5:60], 3)
    mask.setflags(write=False)
    check(mask, 3)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (1, 1), (1, 40), (40, 1)])
def test_sections_of_a_row_or_nothing(shape):
    check(np.ones(shape, bool), 1)
