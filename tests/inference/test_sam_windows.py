import itertools

import numpy as np
import pytest
from skimage.measure import label

from bench.inference.sam.windows import (
    Box,
    Mask,
    join_masks,
    paint_masks,
    place_windows,
    windows_around,
)


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


def test_an_object_is_looked_at_in_a_window_that_holds_it_whole():
    shape = (100, 300)
    # From 0, 60, 120, 180 and 200 on, each of 100 px.
    windows = place_windows(shape, tile_px=60, halo_px=20)
    boxes = np.array(
        [
            # The middle of the second window is nearest, and it ends where the box does.
            [62.0, 10, 150, 30],
            # The nearest would cut 2 px; another holds it.
            [58.5, 10, 99, 30],
            # None does: one of its own, as large as the others.
            [50.2, 10, 129.5, 30],
            # Larger than all of them: with some room, and within the section.
            [20, 0, 260, 60],
            # As a detector may place it, beyond the end.
            [230, 80, 301, 100.5],
        ]
    )
    found = windows_around(boxes, windows, shape)
    assert found[0] == windows[1]
    assert found[1] == windows[0]
    assert found[2] == Box(0, 39, 70, 139)
    assert found[3] == Box(0, 0, 100, 290)
    assert found[4] == windows[-1]
    rng = np.random.default_rng(0)
    for _ in range(200):
        (x0, x1), (y0, y1) = np.sort(rng.uniform(0, 300, 2)), np.sort(rng.uniform(0, 100, 2))
        (window,) = windows_around(np.array([[x0, y0, x1, y1]]), windows, shape)
        assert window.x0 <= x0 < x1 <= window.x1
        assert window.y0 <= y0 < y1 <= window.y1


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


@pytest.mark.parametrize("seed", range(3))
def test_ids_and_areas_are_those_of_the_whole_painting(seed):
    """Parts are found within the box of each mask: the same as of the section at once."""
    rng = np.random.default_rng(seed)
    shape, masks = (70, 90), []
    for _ in range(25):
        height, width = rng.integers(3, 40, 2)
        y, x = rng.integers(0, shape[0] - height), rng.integers(0, shape[1] - width)
        pixels = rng.random((height, width)) < 0.7
        masks.append(Mask.pack(pixels, int(y), int(x), float(rng.random())))
    painted, scores = paint_masks(masks, shape, min_area_px=4, max_area_px=300)
    whole = np.zeros(shape, int)
    kept = sorted((m for m in masks if 4 <= m.area <= 300), key=lambda mask: -mask.area)
    for number, mask in enumerate(kept, start=1):
        whole[mask.box.slices][mask.pixels()] = number
    parts = label(whole, background=0, connectivity=1)
    expected, expected_scores = np.zeros(shape, int), [0.0]
    for part in range(1, parts.max() + 1):
        if 4 <= np.count_nonzero(parts == part) <= 300:
            expected[parts == part] = len(expected_scores)
            expected_scores.append(kept[int(whole[parts == part][0]) - 1].score)
    assert np.array_equal(painted, expected)
    assert scores == pytest.approx(expected_scores)
    assert painted.max() > 15
