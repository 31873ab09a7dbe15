"""Patches and their boxes stay together whatever is done to them."""

import numpy as np
import pytest

from bench.errors import BenchError
from bench.metrics.detection import label_boxes
from bench.training.augment import Augmentation
from bench.training.box_patches import BoxPatchFeed, drop_slivers, turn_patch, zoom_patch
from bench.training.patches import PatchSettings


def make_section(seed=0, shape=(150, 200), count=8):
    """Bright rectangles on black, of ids from 1 on."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint16)
    for number in range(1, count + 1):
        y, x = rng.integers(0, shape[0] - 30), rng.integers(0, shape[1] - 30)
        labels[y : y + rng.integers(8, 30), x : x + rng.integers(8, 30)] = number
    return np.where(labels, 255, 0).astype(np.uint8), labels


def settings(**changed):
    given = {"patch_px": 64, "batch_size": 4, "foreground_fraction": 0.8, "seed": 0}
    given |= {"augmentation": Augmentation(True, True, 0.0, 0.0)}
    return PatchSettings(**given | changed)


@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_boxes_turn_as_the_patch_does(quarters, mirrored):
    labels = np.zeros((40, 40), np.uint8)
    labels[3:9, 20:33] = 1
    (x0, y0, x1, y1) = label_boxes(turn_patch(labels, quarters, mirrored))[0]
    # By hand: a quarter turn takes (x, y) to (y, 40 - x).
    box = [20, 3, 33, 9]
    for _ in range(quarters):
        box = [box[1], 40 - box[2], box[3], 40 - box[0]]
    if mirrored:
        box = [40 - box[2], box[1], 40 - box[0], box[3]]
    assert [x0, y0, x1, y1] == box


@pytest.mark.parametrize("zoom", [1.0, 1.5])
def test_boxes_lie_around_what_is_seen(zoom):
    feed = BoxPatchFeed([make_section()], settings(), zoom)
    seen = 0
    for iteration in range(10):
        images, boxes = feed.batch(iteration)
        assert images.shape == (4, 1, 64, 64)
        for image, those in zip(images[:, 0].numpy(), boxes, strict=True):
            bright = image > (image.min() + image.max()) / 2
            for x0, y0, x1, y1 in those.numpy().astype(int):
                inside = bright[y0:y1, x0:x1]
                # Each side of a box touches what it is the box of.
                sides = (inside[0], inside[-1], inside[:, 0], inside[:, -1])
                assert all(side.any() for side in sides)
                seen += 1
    assert seen > 20


def test_a_batch_is_a_function_of_seed_and_iteration():
    one, other = (BoxPatchFeed([make_section()], settings()) for _ in range(2))
    one.batch(0)
    (ours, our_boxes), (theirs, their_boxes) = one.batch(3), other.batch(3)
    assert (ours == theirs).all()
    assert all((a == b).all() for a, b in zip(our_boxes, their_boxes, strict=True))
    different, _ = BoxPatchFeed([make_section()], settings(seed=1)).batch(3)
    assert (ours != different).any()


def test_a_zoomed_patch_keeps_its_boxes():
    image, labels = make_section(shape=(64, 64), count=1)
    for edge in (32, 64, 96):
        zoomed, ids = zoom_patch(image.astype(np.float32), labels, edge)
        assert zoomed.shape == ids.shape == (edge, edge)
        expected = label_boxes(labels)[0] * edge / 64
        assert np.abs(label_boxes(ids)[0] - expected).max() <= 1
        assert np.abs(label_boxes(zoomed > 127)[0] - expected).max() <= 1


def test_slivers_are_no_objects():
    labels = np.zeros((20, 20), int)
    labels[0:1, 0:6], labels[10:16, 10:16], labels[19, 19] = 1, 2, 3
    kept = drop_slivers(labels, np.array([0, 400, 36, 1]))
    assert sorted(set(kept.ravel())) == [0, 2, 3]


def test_a_small_section_is_filled_up():
    raw, labels = make_section(shape=(40, 50), count=2)
    images, boxes = BoxPatchFeed([(raw, labels)], settings()).batch(0)
    assert images.shape[-1] == 64
    assert sum(map(len, boxes)) > 0


def test_sections_without_instances_are_refused():
    raw, labels = make_section()
    with pytest.raises(
        BenchError, match=r"a detector is trained on instances, received 1 sections"
    ):
        BoxPatchFeed([(raw, 0 * labels)], settings())
