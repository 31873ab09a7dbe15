import itertools

import numpy as np
import pytest

from bench.inference.sam.windows import Box, Mask, join_masks, paint_masks, place_windows


@pytest.mark.parametrize("shape", [(50, 40), (64, 64), (65, 130), (300, 211)])
def test_windows_cover_a_section_and_overlap(shape):
    windows = place_windows(shape, tile_px=48, halo_px=8)
    seen = np.zeros(shape, int)
    for window in windows:
        seen[window.slices] += 1
        assert window.shape == (min(64, shape[0]), min(64, shape[1]))
    assert seen.min() == 1
    rows = sorted({window.y0 for window in windows})
    assert all(second - first <= 48 for first, second in itertools.pairwise(rows))
    assert rows[-1] + 64 >= shape[0]


def see(labels, windows):
    """What a perfect model finds in windows."""
    masks = []
    for window in windows:
        found = []
        for number in np.unique(labels[window.slices])[1:]:
            pixels = labels[window.slices] == number
            found.append(Mask.pack(pixels, window.y0, window.x0, 0.5 + number / 100))
        masks.append(found)
    return masks


def test_instances_of_any_size_are_put_together_from_windows():
    rng = np.random.default_rng(0)
    labels = np.zeros((200, 180), int)
    labels[10:190, 20:35] = 1
    labels[60:70, 5:170] = 2
    labels[100:160, 80:150] = 3
    for number in range(4, 12):
        y, x = rng.integers(0, 190), rng.integers(0, 170)
        area = labels[y : y + 6, x : x + 6]
        area[area == 0] = number
    windows = place_windows(labels.shape, tile_px=32, halo_px=8)
    painted, scores = paint_masks(
        join_masks(windows, see(labels, windows)), labels.shape, min_area_px=1, max_area_px=None
    )
    assert np.array_equal(painted > 0, labels > 0)
    for number in (1, 2, 3):
        inside = painted[labels == number]
        # Where 2 crosses 1, the larger one is cut in two.
        assert len(np.unique(inside)) <= 2
        assert scores[inside] == pytest.approx(0.5 + number / 100)


def test_different_masks_at_one_place_stay_apart():
    whole, part = np.ones((20, 20), bool), np.zeros((20, 20), bool)
    part[5:10, 5:10] = True
    windows = [Box(0, 0, 20, 20), Box(0, 0, 20, 20)]
    masks = [[Mask.pack(whole, 0, 0, 0.9)], [Mask.pack(part, 0, 0, 0.7)]]
    joined = join_masks(windows, masks)
    assert sorted(mask.area for mask in joined) == [25, 400]
    painted, scores = paint_masks(joined, (20, 20), min_area_px=1, max_area_px=None)
    assert painted.max() == 2
    assert scores[painted[6, 6]] == pytest.approx(0.7)
    assert scores[painted[0, 0]] == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("low", "high", "areas"), [(0, None, [4, 25, 100]), (25, None, [25, 100]), (5, 99, [25])]
)
def test_areas_are_filtered_at_both_ends(low, high, areas):
    masks = []
    for edge, corner in ((2, 0), (5, 10), (10, 20)):
        masks.append(Mask.pack(np.ones((edge, edge), bool), corner, corner, 0.9))
    painted, scores = paint_masks(masks, (40, 40), min_area_px=low, max_area_px=high)
    assert sorted(np.bincount(painted.ravel())[1:]) == areas
    assert painted.max() == len(areas) == len(scores) - 1
    assert painted.dtype == np.int32


def test_a_mask_in_two_parts_is_two_instances_and_nothing_is_nothing():
    pixels = np.zeros((9, 9), bool)
    pixels[:3] = pixels[6:] = True
    painted, scores = paint_masks(
        [Mask.pack(pixels, 0, 0, 0.8)], (9, 9), min_area_px=1, max_area_px=None
    )
    assert painted.max() == 2
    assert scores[1:] == pytest.approx(0.8)
    nothing, _ = paint_masks([], (9, 9), min_area_px=1, max_area_px=None)
    assert not nothing.any()
