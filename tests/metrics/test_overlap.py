import numpy as np
import pytest
import sklearn.metrics
import torch
from torchmetrics.functional.segmentation import dice_score as torchmetrics_dice

from bench.errors import BenchError
from bench.metrics import overlap
from bench.metrics.overlap import PixelCounts, count_pixels
from bench.metrics.table import METRICS

ORACLES = {
    "dice": sklearn.metrics.f1_score,
    "iou": sklearn.metrics.jaccard_score,
    "precision": sklearn.metrics.precision_score,
    "recall": sklearn.metrics.recall_score,
}


def random_masks(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(5, 40, size=rng.integers(1, 4)))
    share = rng.uniform(0.05, 0.95, size=2)
    return rng.random(shape) < share[0], rng.random(shape) < share[1]


@pytest.mark.parametrize("seed", range(25))
def test_scores_equal_scikit_learn(seed):
    truth, prediction = random_masks(seed)
    counts = count_pixels(truth=truth, prediction=prediction)
    for name, oracle in ORACLES.items():
        expected = oracle(truth.ravel(), prediction.ravel(), zero_division=0)
        assert METRICS[name].finish(counts) == pytest.approx(expected, abs=1e-12), name


@pytest.mark.filterwarnings("ignore:dice_score metric currently defaults")
@pytest.mark.parametrize("seed", range(5))
def test_dice_equals_torchmetrics(seed):
    truth, prediction = random_masks(seed)
    # One sample and one class: the foreground.
    expected = torchmetrics_dice(
        torch.tensor(prediction.reshape(1, 1, -1)).int(),
        torch.tensor(truth.reshape(1, 1, -1)).int(),
        num_classes=1,
        average="micro",
    )
    counts = count_pixels(truth=truth, prediction=prediction)
    assert METRICS["dice"].finish(counts) == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_counts_equal_the_confusion_matrix(seed):
    truth, prediction = random_masks(seed)
    negatives, positives = sklearn.metrics.confusion_matrix(
        truth.ravel(), prediction.ravel(), labels=[False, True]
    )
    counts = count_pixels(truth=truth, prediction=prediction)
    assert counts == PixelCounts(
        true_positive=positives[1],
        false_positive=negatives[1],
        false_negative=positives[0],
        true_negative=negatives[0],
    )


def test_blocks_do_not_change_the_counts(monkeypatch):
    truth, prediction = random_masks(0)
    whole = count_pixels(truth=truth, prediction=prediction)
    monkeypatch.setattr(overlap, "PIXELS_AT_ONCE", 7)
    assert count_pixels(truth=truth, prediction=prediction) == whole


def test_any_value_but_zero_is_foreground():
    truth = np.array([[0, 3], [65535, 0]], dtype=np.uint16)
    prediction = np.array([[0, -1], [0, 255]], dtype=np.int64)
    assert count_pixels(truth=truth, prediction=prediction) == PixelCounts(1, 1, 1, 1)


def test_views_that_are_not_contiguous_are_counted():
    truth, prediction = np.zeros((6, 8), bool), np.zeros((8, 6), bool)
    truth[1, 2] = prediction[2, 1] = prediction[0, 0] = True
    counts = count_pixels(truth=truth[:, ::2], prediction=prediction.T[:, ::2])
    assert counts == PixelCounts(1, 1, 0, 22)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (PixelCounts(0, 0, 0, 9), {"dice": 1, "iou": 1, "precision": 1, "recall": 1}),
        (PixelCounts(), {"dice": 1, "iou": 1, "precision": 1, "recall": 1}),
        (PixelCounts(0, 0, 4, 5), {"dice": 0, "iou": 0, "precision": 0, "recall": 0}),
        (PixelCounts(0, 4, 0, 5), {"dice": 0, "iou": 0, "precision": 0, "recall": 0}),
        (PixelCounts(0, 2, 2, 5), {"dice": 0, "iou": 0, "precision": 0, "recall": 0}),
        (PixelCounts(3, 1, 2, 5), {"dice": 6 / 9, "iou": 3 / 6, "precision": 3 / 4, "recall": 0.6}),
    ],
    ids=["both_empty", "no_pixels", "no_prediction", "no_truth", "disjoint", "by_hand"],
)
def test_cases_by_hand(counts, expected):
    assert {name: METRICS[name].finish(counts) for name in expected} == expected
    assert counts.both_empty == (counts.true_negative in {9, 0})


def test_pooled_sections_score_as_one_image():
    (truth, prediction), (other_truth, other_prediction) = random_masks(1), random_masks(2)
    pooled = sum(
        [
            count_pixels(truth=truth, prediction=prediction),
            count_pixels(truth=other_truth, prediction=other_prediction),
        ],
        PixelCounts(),
    )
    assert pooled == count_pixels(
        truth=np.concatenate([truth.ravel(), other_truth.ravel()]),
        prediction=np.concatenate([prediction.ravel(), other_prediction.ravel()]),
    )


def test_shapes_must_agree():
    with pytest.raises(BenchError, match=r"same shape, received \(2, 3\) and \(3, 2\)"):
        count_pixels(truth=np.zeros((2, 3), bool), prediction=np.zeros((3, 2), bool))


def test_probabilities_are_not_a_mask():
    with pytest.raises(BenchError, match=r"prediction must be a boolean or integer mask.*float32"):
        count_pixels(truth=np.zeros(3, bool), prediction=np.full(3, 0.1, np.float32))
