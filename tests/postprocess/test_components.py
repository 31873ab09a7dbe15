import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import generate_binary_structure, label
from skimage.measure import label as label_by_skimage

from bench.errors import BenchError
from bench.postprocess.components import label_components


def label_by_scipy(mask, min_area_px, rank=1):
    """Labels in the order of the first pixels, without the small ones; and the pixels left."""
    labels, _ = label(mask, generate_binary_structure(mask.ndim, rank))
    areas = np.bincount(labels.reshape(-1))
    kept = [each for each in range(1, len(areas)) if areas[each] >= min_area_px]
    expected = np.zeros(mask.shape, np.int32)
    for number, each in enumerate(kept, start=1):
        expected[labels == each] = number
    return expected, int(areas[kept].sum())


def check(mask, min_area_px, connectivity=None):
    labels, kept_px = label_components(mask, min_area_px=min_area_px, connectivity=connectivity)
    expected, expected_px = label_by_scipy(mask, min_area_px, 3 if connectivity == 26 else 1)
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
@pytest.mark.parametrize("columns", [63, 64, 65, 128, 333])
def test_labels_are_those_of_scipy_on_images_of_many_runs(density, columns):
    check(np.random.default_rng(0).random((120, columns)) < density, 5)


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


@pytest.mark.parametrize(
    "shape", [(0, 0), (0, 5), (5, 0), (1, 1), (1, 40), (40, 1), (1, 64), (3, 129)]
)
def test_sections_of_a_row_or_nothing(shape):
    check(np.ones(shape, bool), 1)


@settings(max_examples=200, deadline=None)
@given(
    mask=arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=11)),
    min_area_px=st.integers(0, 12),
    connectivity=st.sampled_from([6, 26, None]),
)
def test_labels_of_volumes_are_those_of_scipy(mask, min_area_px, connectivity):
    check(mask, min_area_px, connectivity)


@pytest.mark.parametrize("density", [0.02, 0.1, 0.3, 0.6, 0.98])
@pytest.mark.parametrize("connectivity", [6, 26])
def test_labels_of_volumes_of_many_runs(density, connectivity):
    mask = np.random.default_rng(0).random((14, 33, 70)) < density
    check(mask, 5, connectivity)
    labels, _ = label_components(mask, min_area_px=1, connectivity=connectivity)
    rank = {6: 1, 26: 3}[connectivity]
    np.testing.assert_array_equal(labels, label_by_skimage(mask, connectivity=rank))


def test_voxels_that_share_an_edge_or_a_corner_touch_by_26_only():
    for other in ((0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, 1), (1, -1, 1), (1, 1, -1), (1, -1, -1)):
        mask = np.zeros((3, 3, 3), bool)
        mask[1, 1, 1] = mask[tuple(1 + step for step in other)] = True
        assert label_components(mask, min_area_px=1)[0].max() == 2
        assert label_components(mask, min_area_px=1, connectivity=26)[0].max() == 1


def test_a_section_and_a_volume_of_one_plane_are_alike():
    mask = np.random.default_rng(3).random((50, 70)) < 0.5
    section, kept = label_components(mask, min_area_px=4)
    plane, kept_of_plane = label_components(mask[None], min_area_px=4)
    np.testing.assert_array_equal(plane[0], section)
    assert kept == kept_of_plane


@pytest.mark.parametrize(
    "shape", [(0, 0, 0), (0, 3, 4), (3, 0, 4), (3, 4, 0), (1, 1, 1), (5, 1, 1)]
)
def test_volumes_of_a_row_or_nothing(shape):
    check(np.ones(shape, bool), 1, 26)


@pytest.mark.parametrize(
    ("shape", "connectivity"), [((4,), None), ((4, 4), 8), ((4, 4, 4), 4), ((2, 2, 2, 2), None)]
)
def test_other_axes_and_neighbours_are_refused(shape, connectivity):
    with pytest.raises(BenchError, match=r"of 4 neighbours \(y, x\), or of 6 or 26 \(z, y, x\)"):
        label_components(np.ones(shape, bool), min_area_px=1, connectivity=connectivity)
