"""Average precision of boxes, against pycocotools and by hand."""

import contextlib
import io

import numpy as np
import pytest

from bench.errors import BenchError
from bench.metrics.detection import (
    BOX_IOUS,
    Detections,
    box_ious,
    box_precision,
    check_areas,
    label_boxes,
    match_boxes,
    mean_box_precision,
)


def section(rng, *, truths, found):
    """Boxes that are there, and jittered ones that are found, with some that are nowhere."""
    corners = rng.uniform(0, 200, (truths, 2))
    truth = np.concatenate([corners, corners + rng.uniform(8, 40, (truths, 2))], 1)
    chosen = truth[rng.integers(truths, size=found)] if truths else np.zeros((0, 4))
    jittered = chosen + rng.normal(0, 2.5, chosen.shape)
    strange = rng.uniform(0, 100, (4, 2))
    boxes = np.concatenate([jittered, np.concatenate([strange, strange + 20], 1)])
    scores = rng.permutation(len(boxes)) / len(boxes) + 0.001 * rng.random(len(boxes))
    return Detections(boxes.astype(np.float32), scores.astype(np.float32)), truth


def coco_precisions(pairs):
    """What pycocotools says: mean over all IoUs, and at 0.5 and 0.75."""
    coco = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    def as_xywh(box):
        x0, y0, x1, y1 = map(float, box)
        return [x0, y0, x1 - x0, y1 - y0]

    annotations = [
        {"image_id": number, "category_id": 1, "bbox": as_xywh(box), "iscrowd": 0}
        for number, (_, truth) in enumerate(pairs)
        for box in truth
    ]
    for number, each in enumerate(annotations, start=1):
        each |= {"id": number, "area": each["bbox"][2] * each["bbox"][3]}
    found = [
        {"image_id": number, "category_id": 1, "bbox": as_xywh(box), "score": float(score)}
        for number, (detections, _) in enumerate(pairs)
        for box, score in zip(detections.boxes, detections.scores, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = {
            "images": [{"id": number} for number in range(len(pairs))],
            "annotations": annotations,
            "categories": [{"id": 1}],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:3]


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_is_that_of_pycocotools(seed):
    rng = np.random.default_rng(seed)
    pairs = [section(rng, truths=int(rng.integers(0, 12)), found=14) for _ in range(5)]
    mean, half, three_quarters = coco_precisions(pairs)
    assert 0.1 < half < 1
    assert box_precision(pairs, 0.5) == pytest.approx(half, abs=1e-9)
    assert box_precision(pairs, 0.75) == pytest.approx(three_quarters, abs=1e-9)
    assert mean_box_precision(pairs) == pytest.approx(mean, abs=1e-9)


def test_average_precision_by_hand():
    truth = np.array([[0, 0, 10, 10], [20, 0, 30, 10]], float)
    found = Detections(np.array([truth[0], [50, 0, 60, 10], truth[1]]), np.array([0.9, 0.8, 0.7]))
    # Precision 1 to a recall of 0.5 (51 of 101 points), then 2 of 3.
    assert box_precision([(found, truth)], 0.5) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_empty_sides():
    one = Detections(np.array([[0, 0, 5, 5]], np.float32), np.array([0.9], np.float32))
    nothing = np.zeros((0, 4), np.float32)
    assert box_precision([(Detections.none(), nothing)], 0.5) == 1
    assert box_precision([(one, nothing)], 0.5) == 0
    assert box_precision([(Detections.none(), one.boxes)], 0.5) == 0
    assert box_precision([], 0.5) == 1
    assert BOX_IOUS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def test_boxes_of_labels_are_at_the_corners_of_pixels():
    labels = np.zeros((6, 8), np.uint16)
    labels[2, 3] = 7
    labels[0:2, 5:8] = 2
    assert label_boxes(labels).tolist() == [[5, 0, 8, 2], [3, 2, 4, 3]]
    assert label_boxes(np.zeros((4, 4), np.uint8)).shape == (0, 4)


def test_a_truth_is_found_once():
    truth = np.array([[0, 0, 10, 10]], np.float32)
    found = Detections(np.repeat(truth, 2, axis=0), np.array([0.4, 0.9], np.float32))
    assert match_boxes(found, truth, 0.5).tolist() == [-1, 0]
    assert box_ious(truth, truth + np.array([5, 0, 5, 0])).item() == pytest.approx(1 / 3)


@pytest.mark.parametrize("box", [[3, 3, 3, 9], [3, 9, 8, 9], [5, 0, 4, 9], [0, 0, np.nan, 9]])
def test_boxes_of_no_area_are_refused(box):
    with pytest.raises(BenchError, match=r"a box must have an area .*received .* leave them out"):
        check_areas(np.array([[0, 0, 4, 4], box], float))
    check_areas(np.array([[0, 0, 1, 1]], float))
    check_areas(np.zeros((0, 4)))
