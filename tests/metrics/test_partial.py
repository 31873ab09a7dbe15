"""What nobody annotated counts for nothing: hand-worked cases, and sections that are cropped."""

import math

import numpy as np
import pytest
from skimage.measure import label

from bench.metrics.detection import Detections, box_precision, drop_open_boxes, label_boxes
from bench.metrics.instances import count_instances_only
from bench.metrics.measures import ClassMaps
from bench.metrics.overlap import count_pixels, dice_score
from bench.metrics.table import METRICS
from bench.metrics.vesicles import Balls
from bench.postprocess.instances import Instances
from bench.recipe.scores import SplitResult
from bench.recipe.volumes import VolumeInstances

CROPPED = [name for name, row in METRICS.items() if not row.prompted]


def score(truth, prediction, probability, levels=None, **others):
    result = SplitResult(CROPPED, 5.0, voxel_size_nm=others.pop("voxel_size_nm", None))
    area = int(np.count_nonzero(prediction))
    balls = others.pop("balls", None)
    found = Instances(prediction, area, area)
    if balls is not None:
        found = VolumeInstances(prediction, area, area, prediction > 0, None, balls)
    result.add("a", truth=truth, probability=probability, instances=found, levels=levels, **others)
    return result.all_scores()


@pytest.mark.parametrize("shape", [(40, 50), (10, 30, 24)])
def test_scores_are_those_of_the_annotated_part_alone(shape):
    """Objects keep away from the border, behind which anything may be, so both are the same."""
    rng = np.random.default_rng(len(shape))
    cut = 2 * shape[-1] // 3
    kept = (..., slice(0, cut))
    blobs = rng.random(shape) < 0.05
    for axis in range(len(shape)):
        blobs |= np.roll(blobs, 1, axis)
    truth = label(blobs, connectivity=1)
    prediction = label(np.roll(blobs, 1, -1) & (rng.random(shape) < 0.9), connectivity=1)
    probability = rng.integers(0, 256, shape).astype(np.uint8)
    for image in (truth, prediction):
        image[..., cut - 2 : cut] = 0
        image[..., cut:][image[..., cut:] <= image[kept].max(initial=0)] = 0
    levels = np.zeros(shape, np.uint8)
    levels[..., cut:] = 1
    classes = [rng.integers(0, 3, shape).astype(np.uint8) for _ in range(2)]
    size = {"voxel_size_nm": (5.0, 5.0, 5.0)} if len(shape) == 3 else {}
    whole = score(
        truth, prediction, probability, levels, **size, classes=ClassMaps(*classes, 3, levels == 1)
    )
    part = score(
        truth[kept].copy(),
        prediction[kept].copy(),
        probability[kept],
        **size,
        classes=ClassMaps(classes[0][kept], classes[1][kept], 3),
    )
    assert whole == pytest.approx(part)
    assert {
        "dice",
        "average_precision",
        "panoptic_quality",
        "object_iou",
        "matched_iou",
        "false_distance_px",
        "cremi_fp",
        "mean_iou",
    } <= whole.keys()
    # Whatever is predicted or annotated there.
    other = prediction.copy()
    other[..., cut:] = 999
    dirty = truth.copy()
    dirty[..., cut:] = 7
    assert (
        score(
            dirty, other, probability, levels, **size, classes=ClassMaps(*classes, 3, levels == 1)
        )
        == whole
    )


@pytest.mark.parametrize(
    ("truth", "prediction", "opened", "counted", "matched"),
    [
        # Found in the annotated part, where it has an IoU of 1, though most of it is open.
        ([1, 1, 0, 0, 0, 0, 0, 0], [5, 5, 5, 5, 5, 5, 0, 0], [0, 0, 1, 1, 1, 1, 1, 1], (1, 1), 1),
        # Mostly open and no match: neither extra nor missed.
        ([0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 6, 6, 6, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1], (0, 0), 0),
        # Half of it is not more than half: extra.
        ([0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 6, 6, 6, 6, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1], (0, 1), 0),
        # An object that is mostly open is not missed ...
        ([0, 0, 0, 2, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 2, 1, 1, 1, 1], (0, 0), 0),
        # ... and what is found of it is neither found nor extra.
        ([0, 0, 0, 2, 0, 0, 0, 0], [0, 0, 0, 9, 0, 0, 0, 0], [0, 0, 0, 2, 1, 1, 1, 1], (0, 0), 0),
    ],
)
def test_instances_that_count(truth, prediction, opened, counted, matched):
    truth, prediction, opened = (np.array([each]) for each in (truth, prediction, opened))
    real, left = count_instances_only(truth, prediction, opened.astype(np.uint8))
    assert (len(np.unique(real)) - 1, len(np.unique(left)) - 1) == counted
    scores = score(truth, prediction, np.zeros(truth.shape, np.uint8), opened.astype(np.uint8))
    everything = sum(counted)
    assert scores["instance_f1"] == (2 * matched / everything if everything else 1.0)


def test_pixels_of_an_object_that_is_mostly_open_are_annotated():
    truth, opened = np.array([0, 2, 0, 0]), np.array([0, 2, 1, 1], np.uint8)
    counts = count_pixels(truth=truth, prediction=np.array([0, 0, 3, 3]), ignored=opened == 1)
    assert (counts.false_negative, counts.false_positive, counts.true_negative) == (1, 0, 1)
    assert dice_score(counts) == 0


def test_spheres_count_by_their_centres():
    truth = np.zeros((9, 9, 20), np.uint8)
    truth[3:6, 3:6, 3:6] = 1
    levels = np.zeros(truth.shape, np.uint8)
    levels[..., 10:] = 1
    balls = Balls(np.array([[20.0, 20, 20], [20, 20, 70]]), np.array([8.0, 8]))
    prediction = truth.copy()
    prediction[3:6, 3:6, 13:16] = 2
    size = {"voxel_size_nm": (5.0, 5.0, 5.0), "balls": balls}
    assert score(truth, prediction, 255 * truth, levels, **dict(size))["vesicle_f1"] == 1
    assert score(truth, prediction, 255 * truth, **dict(size))["vesicle_f1"] == pytest.approx(2 / 3)


def test_boxes_that_are_mostly_open_are_no_mistakes():
    labels = np.zeros((20, 40), np.uint8)
    labels[5:10, 5:10] = 1
    void = np.zeros(labels.shape, bool)
    void[:, 20:] = True
    boxes = np.array([[5, 5, 10, 10], [18, 5, 30, 10], [12, 5, 22, 10]], np.float32)
    found = Detections(boxes, np.array([0.5, 0.9, 0.8], np.float32))
    kept = drop_open_boxes(found, label_boxes(labels), void)
    assert kept.boxes[:, 0].tolist() == [5, 12]
    assert box_precision([(kept, label_boxes(labels))], 0.5) == pytest.approx(0.5)
    # One that is right is kept wherever it lies.
    assert len(drop_open_boxes(found, label_boxes(labels), np.ones_like(void))) == 1


def test_a_section_that_is_annotated_whole_is_scored_as_ever():
    rng = np.random.default_rng(0)
    truth, prediction = (label(rng.random((20, 20)) < 0.4, connectivity=1) for _ in range(2))
    probability = rng.integers(0, 256, truth.shape).astype(np.uint8)
    nothing = np.zeros(truth.shape, np.uint8)
    scores = score(truth, prediction, probability, nothing)
    assert scores == score(truth, prediction, probability)
    assert not any(map(math.isnan, scores.values()))
