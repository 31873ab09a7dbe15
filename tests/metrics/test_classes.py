import math

import numpy as np
import pytest
import sklearn.metrics

from bench.errors import BenchError
from bench.metrics.classes import class_ious, count_confusion, mean_class_iou


@pytest.mark.parametrize("seed", range(3))
def test_counts_equal_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    truth, prediction = rng.integers(0, 6, (2, 25, 30)).astype(np.uint8)
    found = count_confusion(truth=truth, prediction=prediction, classes=7)
    expected = sklearn.metrics.confusion_matrix(
        truth.ravel(), prediction.ravel(), labels=list(range(7))
    )
    assert found.tolist() == expected.tolist()
    half = [
        count_confusion(truth=truth[part], prediction=prediction[part], classes=7)
        for part in (slice(0, 9), slice(9, None))
    ]
    assert sum(half).tolist() == found.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_means_equal_masks_of_every_class(seed):
    rng = np.random.default_rng(seed)
    truth, prediction = rng.integers(0, 7, (2, 20, 20))
    table = count_confusion(truth=truth, prediction=prediction, classes=7)
    seen = truth != 0
    ious = []
    for label in range(1, 7):
        one, other = (truth == label) & seen, (prediction == label) & seen
        ious.append(np.count_nonzero(one & other) / np.count_nonzero(one | other))
    assert mean_class_iou(table) == pytest.approx(np.mean(ious))
    # Guay's: the cell itself is no organelle.
    assert mean_class_iou(table, averaged=range(2, 7)) == pytest.approx(np.mean(ious[1:]))
    whole = sklearn.metrics.jaccard_score(truth.ravel(), prediction.ravel(), average="macro")
    assert mean_class_iou(table, ignored=None) == pytest.approx(whole)


def test_predictions_where_nothing_is_annotated_cost_nothing():
    truth = np.array([0, 0, 1, 1, 2, 2])
    prediction = np.array([1, 2, 1, 1, 2, 0])
    table = count_confusion(truth=truth, prediction=prediction, classes=3)
    ious = class_ious(table)
    assert math.isnan(ious[0])
    assert ious[1:].tolist() == [1.0, 0.5]
    assert mean_class_iou(table) == 0.75
    assert mean_class_iou(table, ignored=None) == pytest.approx((0 + 2 / 3 + 1 / 3) / 3)


def test_absent_classes_are_left_out():
    table = np.zeros((4, 4), int)
    table[1, 1], table[2, 1] = 3, 1
    assert class_ious(table)[1:3].tolist() == [0.75, 0]
    assert mean_class_iou(table) == 0.375
    assert math.isnan(mean_class_iou(np.zeros((3, 3), int)))
    # All that was annotated is ignored.
    assert math.isnan(mean_class_iou(np.diag([5, 0, 0])))


def test_classes_that_are_none_are_refused():
    with pytest.raises(BenchError, match="prediction must hold classes from 0 to 1, received 0 to"):
        count_confusion(truth=np.array([0, 1]), prediction=np.array([0, 2]), classes=2)
    with pytest.raises(BenchError, match=r"must be \(classes, classes\), received \(2, 3\)"):
        mean_class_iou(np.zeros((2, 3)))
    with pytest.raises(BenchError, match="must be 0 to 2, received 3, 4"):
        mean_class_iou(np.eye(3), averaged=[1, 3, 4])
