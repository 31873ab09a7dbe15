import numpy as np
import pytest
from scipy.ndimage import label

from bench.metrics.matched import find_matched_overlap, mean_matched_iou


def brute_force(truth, prediction):
    """IoU with those components that touch the truth, one after the other."""
    kept = np.zeros(truth.shape, bool)
    for number in np.unique(prediction[prediction > 0]):
        component = prediction == number
        if (component & (truth > 0)).any():
            kept |= component
    union = np.count_nonzero(kept | (truth > 0))
    return np.count_nonzero(kept & (truth > 0)) / union if union else float(not prediction.any())


def test_known_answer():
    truth, prediction = np.zeros((2, 40, 40), np.int32)
    truth[5:15, 5:15] = 1
    prediction[5:15, 10:20], prediction[28:38, 28:38] = 1, 2
    plain = np.count_nonzero(truth * prediction) / np.count_nonzero(truth + prediction)
    assert plain == pytest.approx(0.2)
    assert find_matched_overlap(truth=truth, prediction=prediction).iou == pytest.approx(1 / 3)


@pytest.mark.parametrize("seed", range(5))
def test_equals_one_component_after_the_other(seed):
    rng = np.random.default_rng(seed)
    truth, prediction = (label(rng.random((30, 31)) < density)[0] for density in (0.1, 0.4))
    found = find_matched_overlap(truth=truth, prediction=prediction)
    assert found.iou == pytest.approx(brute_force(truth, prediction))
    assert found.iou >= np.count_nonzero(truth * prediction > 0) / np.count_nonzero(
        (truth > 0) | (prediction > 0)
    )


def test_both_empty_is_one_and_one_empty_is_zero():
    nothing, something = np.zeros((3, 3), np.int32), np.eye(3, dtype=np.int32)
    pairs = [(nothing, nothing), (nothing, something), (something, nothing)]
    units = [find_matched_overlap(truth=a, prediction=b) for a, b in pairs]
    assert [unit.iou for unit in units] == [1, 0, 0]
    assert mean_matched_iou(units) == pytest.approx(1 / 3)
