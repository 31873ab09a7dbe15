import numpy as np
import pytest
from scipy.ndimage import label

from bench.metrics.consistency import (
    ObjectConsistency,
    error_of_prediction,
    error_of_truth,
    find_object_consistency,
    mean_object_iou,
    object_consistency_error,
)


def draw(*boxes):
    """Ids 1, 2 .. of boxes (y0, x0, y1, x1), end excluded."""
    image = np.zeros((9, 9), np.int32)
    for number, (y0, x0, y1, x1) in enumerate(boxes, start=1):
        image[y0:y1, x0:x1] = number
    return image


# Two objects of 2 x 4 px, one row apart.
PAIR = draw((1, 1, 3, 5), (4, 1, 6, 5))
SQUARE = draw((0, 0, 2, 2))


@pytest.mark.parametrize(
    ("truth", "prediction", "of_truth", "of_prediction"),
    [
        pytest.param(PAIR, draw((1, 1, 6, 5)), 0.6, 0.6, id="merged over the gap"),
        pytest.param(PAIR, draw((1, 1, 3, 5)), 0.5, 0, id="one missed"),
        pytest.param(
            PAIR, draw((1, 1, 3, 5), (4, 1, 6, 3), (4, 3, 6, 5)), 0.25, 0.25, id="one in halves"
        ),
        pytest.param(PAIR, draw((1, 1, 3, 5), (4, 1, 6, 3)), 0.25, 1 / 6, id="half of one"),
        pytest.param(
            PAIR, draw((1, 1, 3, 5), (4, 1, 6, 5), (7, 7, 9, 9)), 0, 0.2, id="4 px too many"
        ),
        pytest.param(PAIR, draw((1, 2, 3, 6), (4, 2, 6, 6)), 0.4, 0.4, id="both shifted by 1"),
        pytest.param(
            SQUARE, draw((0, 0, 1, 2), (1, 0, 2, 1), (1, 1, 2, 2)), 0.625, 0.625, id="in 2 + 1 + 1"
        ),
        pytest.param(PAIR, PAIR, 0, 0, id="equal"),
    ],
)
def test_known_answers(truth, prediction, of_truth, of_prediction):
    found = find_object_consistency(truth=truth, prediction=prediction)
    assert error_of_truth(found) == pytest.approx(of_truth)
    assert error_of_prediction(found) == pytest.approx(of_prediction)
    assert object_consistency_error(found) == pytest.approx(min(of_truth, of_prediction))
    # The other way round the two change places.
    back = find_object_consistency(truth=prediction, prediction=truth)
    assert error_of_truth(back) == pytest.approx(of_prediction)


def test_the_minimum_hides_a_missed_object_that_the_mean_iou_shows():
    found = find_object_consistency(truth=PAIR, prediction=draw((1, 1, 3, 5)))
    assert object_consistency_error(found) == 0
    assert mean_object_iou(found) == 0.5


def slow_error(truth, prediction):
    """The formula as it is printed, one object after the other."""
    ours = [truth == number for number in np.unique(truth[truth > 0])]
    others = [prediction == number for number in np.unique(prediction[prediction > 0])]
    total = sum(np.count_nonzero(mask) for mask in ours)
    error = 0.0
    for mask in ours:
        touching = [other for other in others if (mask & other).any()]
        weight = sum(np.count_nonzero(other) for other in touching)
        inner = 0.0
        for other in touching:
            iou = np.count_nonzero(mask & other) / np.count_nonzero(mask | other)
            inner += np.count_nonzero(other) / weight * iou
        error += np.count_nonzero(mask) / total * (1 - inner)
    return error


def slow_mean_iou(truth, prediction):
    ious = []
    for number in np.unique(truth[truth > 0]):
        mask = truth == number
        found = [prediction == other for other in np.unique(prediction[prediction > 0])]
        each = [np.count_nonzero(mask & o) / np.count_nonzero(mask | o) for o in found]
        ious.append(max(each, default=0.0))
    return np.mean(ious)


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_printed_formula_on_random_labels(seed):
    rng = np.random.default_rng(seed)
    truth, prediction = (label(rng.random((25, 31)) < density)[0] for density in (0.3, 0.45))
    # Ids with gaps, and objects in several parts.
    truth[truth > 9] += 100
    prediction[prediction == 3] = 2
    found = find_object_consistency(truth=truth, prediction=prediction)
    assert error_of_truth(found) == pytest.approx(slow_error(truth, prediction))
    assert error_of_prediction(found) == pytest.approx(slow_error(prediction, truth))
    assert mean_object_iou(found) == pytest.approx(slow_mean_iou(truth, prediction))


def test_sections_are_pooled_like_one_large_section():
    rng = np.random.default_rng(0)
    truths, predictions = (rng.integers(0, 5, (2, 3, 8, 9)) for _ in range(2))
    truths, predictions = truths[0], predictions[0]
    parts = [
        find_object_consistency(truth=a, prediction=b)
        for a, b in zip(truths, predictions, strict=True)
    ]
    # Ids of their own in each section.
    shift = 10 * np.arange(3)[:, None, None]
    whole = find_object_consistency(
        truth=np.where(truths, truths + shift, 0),
        prediction=np.where(predictions, predictions + shift, 0),
    )
    pooled = sum(parts, ObjectConsistency())
    assert vars(pooled) == pytest.approx(vars(whole))


def test_both_empty_is_best_and_one_empty_is_worst():
    nothing = np.zeros((9, 9), np.int32)
    for truth, prediction, error in ((nothing, nothing, 0), (nothing, PAIR, 1), (PAIR, nothing, 1)):
        found = find_object_consistency(truth=truth, prediction=prediction)
        assert error_of_truth(found) == error_of_prediction(found) == error
        assert object_consistency_error(found) == error
        assert mean_object_iou(found) == 1 - error
