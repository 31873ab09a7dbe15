"""Boxes over the borders of windows."""

import numpy as np
import pytest
import torch

from bench.inference.detection.boxes import detect_boxes, join_boxes, keep_best
from bench.inference.device import Compute
from bench.inference.sam.windows import place_windows
from bench.metrics.detection import Detections, check_areas, match_boxes
from bench.models.checkpoint import ModelInfo
from bench.models.detection.fcos import build_fcos_small

CPU = Compute(torch.device("cpu"), "fp32")


def see(window, truth):
    """What a perfect detector sees of true boxes in a window; corners of the window's pixels."""
    ends = np.array([window.x0, window.y0, window.x1, window.y1], float)
    boxes = np.clip(truth, np.tile(ends[:2], 2), np.tile(ends[2:], 2))
    boxes = boxes[(boxes[:, 2:] - boxes[:, :2]).min(axis=1) > 4]
    return Detections(boxes.astype(np.float32), np.full(len(boxes), 0.9, np.float32))


@pytest.mark.parametrize("seed", range(3))
def test_an_object_over_a_border_is_one_box(seed):
    rng = np.random.default_rng(seed)
    shape = (500, 700)
    windows = place_windows(shape, tile_px=128, halo_px=32)
    # Objects from a tenth of a window to more than one, on a lattice so that they do not overlap.
    truth = []
    for y, x in np.ndindex(3, 4):
        height, width = rng.uniform(15, 140, 2)
        y0, x0 = y * 160 + rng.uniform(0, 10), x * 170 + rng.uniform(0, 10)
        truth.append([x0, y0, min(x0 + width, 700), min(y0 + height, 500)])
    truth = np.array(truth)
    found = join_boxes(windows, [see(window, truth) for window in windows])
    assert len(found) == len(truth)
    assert sorted(match_boxes(found, truth, 0.95)) == list(range(len(truth)))


def test_an_object_larger_than_a_window_is_one_box():
    windows = place_windows((100, 400), tile_px=64, halo_px=20)
    truth = np.array([[30.0, 20, 370, 80]])
    found = join_boxes(windows, [see(window, truth) for window in windows])
    assert found.boxes.tolist() == truth.tolist()


def test_neighbours_stay_two():
    windows = place_windows((100, 200), tile_px=64, halo_px=20)
    truth = np.array([[50.0, 20, 90, 60], [90, 20, 130, 60]])
    found = join_boxes(windows, [see(window, truth) for window in windows])
    assert sorted(found.boxes[:, 0]) == [50, 90]


def test_boxes_that_contradict_each_other_still_have_an_area():
    rng = np.random.default_rng(0)
    windows = place_windows((120, 150), tile_px=48, halo_px=8)
    for _ in range(30):
        found = []
        for window in windows:
            corners = rng.uniform([window.x0, window.y0], [window.x1 - 9, window.y1 - 9], (9, 2))
            boxes = np.concatenate([corners, corners + rng.uniform(1, 60, (9, 2))], 1)
            ends = np.array([window.x0, window.y0, window.x1, window.y1])
            boxes = boxes.clip(np.tile(ends[:2], 2), np.tile(ends[2:], 2)).astype(np.float32)
            found.append(Detections(boxes, rng.random(9).astype(np.float32)))
        check_areas(join_boxes(windows, found).boxes)


def test_nothing_anywhere_is_nothing():
    windows = place_windows((100, 200), tile_px=64, halo_px=20)
    assert len(join_boxes(windows, [Detections.none()] * len(windows))) == 0


def test_the_best_of_those_that_overlap_is_kept():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [30, 0, 40, 10]], np.float32)
    found = Detections(boxes, np.array([0.5, 0.8, 0.2], np.float32))
    assert keep_best(found, 0.0, 0.5).tolist() == [1, 2]
    assert keep_best(found, 0.3, 0.5).tolist() == [1]
    assert len(keep_best(found, 0.0, 0.99)) == 3


class BrightSquares(torch.nn.Module):
    """A detector of what is bright, by connected components: its windows are real ones."""

    def find(self, images):
        from scipy.ndimage import label

        from bench.metrics.detection import label_boxes

        boxes = label_boxes(label(images[0, 0].numpy() > 2)[0])
        return [(torch.from_numpy(boxes), torch.full((len(boxes),), 0.9))]


@pytest.mark.parametrize("size_nm", [None, 5.0, 10.0])
def test_boxes_of_a_section_are_in_its_own_pixels(size_nm):
    raw = np.zeros((200, 260), np.uint8)
    raw[40:60, 100:130] = 255
    raw[150:170, 200:220] = 255
    info = ModelInfo("fcos_small", {}, ("boxes",), "mitochondria", 5.0, "section", 64, 16)
    found = detect_boxes(BrightSquares(), info, raw, size_nm, CPU)
    truth = np.array([[100.0, 40, 130, 60], [200, 150, 220, 170]])
    assert len(found) == 2
    assert sorted(match_boxes(found, truth, 0.8)) == [0, 1]


@pytest.mark.parametrize("training", [False, True])
def test_a_window_is_seen_at_its_own_size(training):
    """torchvision's transform would make it 800 px wide."""
    network = build_fcos_small(features=8).train(training)
    shapes = []
    network.backbone.register_forward_pre_hook(lambda _, given: shapes.append(given[0].shape))
    image = torch.zeros(1, 1, 96, 64)
    if training:
        network.measure(image, [torch.tensor([[4.0, 4, 20, 30]])])
    else:
        network.find(image)
    assert shapes == [(1, 1, 96, 64)]


def test_a_section_without_objects_has_no_boxes():
    info = ModelInfo("fcos_small", {}, ("boxes",), "mitochondria", 5.0, "section", 64, 16)
    raw = np.random.default_rng(0).integers(100, 110, (90, 120)).astype(np.uint8)
    assert len(detect_boxes(BrightSquares(), info, raw * 0, 5.0, CPU)) == 0
