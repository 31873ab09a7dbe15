from fractions import Fraction

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, label
from scipy.optimize import linear_sum_assignment

from bench.errors import BenchError
from bench.metrics.instances import THRESHOLDS, Matching, instance_scores, match_instances


def brute_force_ious(truth, prediction):
    """IoU of every pair of instances, as fractions, by comparing whole masks."""
    truth_ids = [i for i in np.unique(truth).tolist() if i]
    predicted_ids = [i for i in np.unique(prediction).tolist() if i]
    rows = []
    for t in truth_ids:
        row = []
        for p in predicted_ids:
            both = int(((truth == t) & (prediction == p)).sum())
            either = int(((truth == t) | (prediction == p)).sum())
            row.append(Fraction(both, either))
        rows.append(row)
    return rows, len(truth_ids), len(predicted_ids)


def optimal_matches(ious, truth_count, predicted_count, threshold):
    """IoUs of the assignment with the most pairs above the threshold, found by a solver."""
    if truth_count == 0 or predicted_count == 0:
        return []
    allowed = np.array([[iou > threshold for iou in row] for row in ious], dtype=float)
    values = np.array([[float(iou) for iou in row] for row in ious])
    # A pair is worth far more than its IoU, which only decides between equally many pairs.
    rows, columns = linear_sum_assignment(allowed * (1000 + values), maximize=True)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return [ious[r][c] for r, c in pairs if allowed[r, c]]


def random_labels(rng, shape):
    """Blobs with gaps in their ids, some of them in several parts."""
    blobs, count = label(gaussian_filter(rng.standard_normal(shape), 1.5) > 0.05)
    ids = rng.choice(np.arange(1, 3 * count + 2), size=count + 1, replace=False)
    if count > 2:
        ids[1] = ids[2]
    ids[0] = 0
    return ids[blobs]


def perturbed(rng, labels):
    """The same instances shifted, with some merged, some deleted and specks added."""
    moved = np.roll(labels, tuple(rng.integers(-1, 2, size=2)), axis=(0, 1))
    ids = np.arange(labels.max() + 1) * 5
    ids[1:] *= rng.random(len(ids) - 1) > 0.15
    ids[1::7] = ids[-1]
    moved = ids[moved]
    specks = (moved == 0) & (rng.random(labels.shape) < 0.02)
    return np.where(specks, ids.max() + 1 + np.arange(labels.size).reshape(labels.shape), moved)


@pytest.mark.parametrize("seed", range(52))
def test_matching_equals_an_optimal_assignment(seed):
    """Of sections and, in the last of these, of volumes."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(12, 40, size=2) if seed < 40 else rng.integers(5, 16, size=3))
    truth = random_labels(rng, shape)
    prediction = perturbed(rng, truth) if seed % 4 else random_labels(rng, shape)
    ious, truth_count, predicted_count = brute_force_ious(truth, prediction)
    matching = match_instances(truth=truth, prediction=prediction)
    assert matching.truth_instances == truth_count
    assert matching.predicted_instances == predicted_count
    expected = [optimal_matches(ious, truth_count, predicted_count, t) for t in THRESHOLDS]
    assert matching.matched == tuple(len(found) for found in expected)
    assert matching.matched_ious == tuple(float(iou) for iou in expected[0])
    # Against the definitions in full, from the oracle's matches alone.
    scores = instance_scores(matching)
    true_positive = len(expected[0])
    wrong = truth_count + predicted_count - 2 * true_positive
    quality = float(sum(expected[0])) / (true_positive + wrong / 2)
    f1 = [2 * len(found) / (truth_count + predicted_count) for found in expected]
    assert scores["panoptic_quality"] == pytest.approx(quality)
    assert scores["instance_f1_mean"] == pytest.approx(np.mean(f1))
    assert scores["instance_f1"] == pytest.approx(f1[0])
    assert scores["instance_precision"] == pytest.approx(true_positive / predicted_count)
    assert scores["instance_recall"] == pytest.approx(true_positive / truth_count)


def test_random_cases_do_have_matches_and_misses():
    rng = np.random.default_rng(1)
    truth = random_labels(rng, (40, 40))
    matching = match_instances(truth=truth, prediction=perturbed(rng, truth))
    assert min(matching.true_positive, matching.false_positive, matching.false_negative) > 0
    assert matching.matched[-1] < matching.matched[0]


def squares():
    """Truth: two squares of 10 x 10; prediction: the first one pixel right, the second halved."""
    truth, prediction = np.zeros((40, 40), np.uint16), np.zeros((40, 40), np.uint16)
    truth[5:15, 5:15] = 1
    truth[25:35, 25:35] = 2
    prediction[5:15, 6:16] = 1
    prediction[25:30, 25:35] = 2
    return truth, prediction


def test_squares_by_hand():
    truth, prediction = squares()
    matching = match_instances(truth=truth, prediction=prediction)
    # First: 90 of 110 px, 0.818: above 0.5 .. 0.8. Second: 50 of 100 px, exactly 0.5: no match.
    assert matching.matched == (1, 1, 1, 1, 1, 1, 1, 0, 0, 0)
    assert matching.matched_ious == (90 / 110,)
    assert (matching.true_positive, matching.false_positive, matching.false_negative) == (1, 1, 1)
    assert instance_scores(matching) == pytest.approx(
        {
            "instance_precision": 0.5,
            "instance_recall": 0.5,
            "instance_f1": 0.5,
            "instance_f1_mean": 0.35,
            "panoptic_quality": 90 / 110 / 2,
        }
    )


@pytest.mark.parametrize("step", range(10, 20))
def test_an_iou_equal_to_a_threshold_does_not_exceed_it(step):
    truth, prediction = np.ones(20, np.uint8), np.zeros(20, np.uint8)
    prediction[:step] = 1
    matching = match_instances(truth=truth, prediction=prediction)
    assert matching.matched == tuple(int(k < step) for k in range(10, 20))


def test_prediction_covering_two_instances_matches_at_most_one():
    truth = np.repeat([1, 2], [6, 4])
    matching = match_instances(truth=truth, prediction=np.full(10, 3))
    assert (matching.true_positive, matching.false_positive, matching.false_negative) == (1, 0, 1)
    assert matching.matched_ious == (0.6,)


def test_identical_instances_under_other_ids_are_perfect():
    truth = random_labels(np.random.default_rng(3), (30, 30))
    matching = match_instances(truth=truth, prediction=truth * 1000)
    assert set(instance_scores(matching).values()) == {1.0}


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.uint32, np.int64, np.uint64])
def test_integer_types_mix_and_ids_may_be_as_large_as_they_hold(dtype):
    truth, prediction = squares()
    largest = np.array([0, np.iinfo(dtype).max, np.iinfo(dtype).max - 1], dtype=dtype)
    expected = match_instances(truth=truth, prediction=prediction)
    assert match_instances(truth=truth, prediction=largest[prediction]) == expected
    assert match_instances(truth=largest[truth], prediction=prediction) == expected


@pytest.mark.parametrize("shape", [(0,), (4, 5)])
def test_both_empty_is_one(shape):
    nothing = np.zeros(shape, np.int32)
    matching = match_instances(truth=nothing, prediction=nothing)
    assert matching == Matching()
    assert matching.both_empty
    assert set(instance_scores(matching).values()) == {1.0}


def test_one_empty_is_zero():
    nothing, something = np.zeros((4, 5), np.int32), np.ones((4, 5), np.int32)
    for matching in (
        match_instances(truth=nothing, prediction=something),
        match_instances(truth=something, prediction=nothing),
    ):
        assert not matching.both_empty
        assert set(instance_scores(matching).values()) == {0.0}


def test_pooling_equals_one_image_with_other_ids():
    rng = np.random.default_rng(5)
    truths = [random_labels(rng, (30, 30)) for _ in range(3)]
    predictions = [perturbed(rng, truth) for truth in truths]
    pairs = list(zip(truths, predictions, strict=True))
    pooled = sum((match_instances(truth=t, prediction=p) for t, p in pairs), Matching())

    def joined(images):
        return np.concatenate([np.where(x, x + i * 10**6, 0) for i, x in enumerate(images)])

    assert pooled == match_instances(truth=joined(truths), prediction=joined(predictions))
    assert pooled.truth_instances > 10


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.ones((4, 5), bool), "integer instance ids, received bool.*label_mask"),
        (np.full((4, 5), 0.5), "integer instance ids, received float64"),
        (np.full((4, 5), -1), "0 and above, received -1"),
        (np.ones((5, 4), int), "same shape"),
    ],
)
def test_bad_input_is_refused(bad, message):
    with pytest.raises(BenchError, match=message):
        match_instances(truth=np.ones((4, 5), int), prediction=bad)
