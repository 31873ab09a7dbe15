import numpy as np
import pytest
import sklearn.metrics

from bench.errors import BenchError
from bench.metrics import curves
from bench.metrics.curves import average_precision, histogram_scores, precision_recall
from bench.metrics.overlap import count_pixels, precision_score, recall_score


def random_case(seed):
    rng = np.random.default_rng(seed)
    shape = (37, 23) if seed % 3 else (5, 11, 15)
    truth = rng.random(shape) < rng.uniform(0.05, 0.6)
    noisy = 100 * truth + rng.normal(80, 60, truth.shape)
    # Every other case has few levels, hence many ties.
    step = 1 if seed % 2 else 40
    return truth, (np.clip(noisy, 0, 255) // step * step).astype(np.uint8)


@pytest.mark.parametrize("seed", range(6))
def test_every_threshold_equals_thresholding_the_map(seed):
    truth, probability = random_case(seed)
    histogram = histogram_scores(truth=truth, probability=probability)
    thresholds, precision, recall = precision_recall(histogram)
    assert thresholds.tolist() == list(range(256))
    for t in range(256):
        direct = count_pixels(truth=truth, prediction=probability >= t)
        assert (precision[t], recall[t]) == (precision_score(direct), recall_score(direct))


@pytest.mark.parametrize("seed", range(20))
def test_average_precision_equals_scikit_learn(seed):
    truth, probability = random_case(seed)
    expected = sklearn.metrics.average_precision_score(truth.ravel(), probability.ravel())
    found = average_precision(histogram_scores(truth=truth, probability=probability))
    assert found == pytest.approx(expected, abs=1e-12)


def test_histograms_of_sections_add(monkeypatch):
    cases = [random_case(seed) for seed in (1, 2)]
    parts = [histogram_scores(truth=t, probability=p) for t, p in cases]
    monkeypatch.setattr(curves, "PIXELS_AT_ONCE", 100)
    whole = histogram_scores(
        truth=np.concatenate([t for t, _ in cases]),
        probability=np.concatenate([p for _, p in cases]),
    )
    pooled = parts[0] + parts[1]
    np.testing.assert_array_equal(pooled.foreground, whole.foreground)
    np.testing.assert_array_equal(pooled.background, whole.background)
    assert whole.foreground.sum() == sum(int(t.sum()) for t, _ in cases)


def score(truth, probability):
    return average_precision(
        histogram_scores(truth=np.array(truth), probability=np.array(probability, np.uint8))
    )


@pytest.mark.parametrize(
    ("truth", "probability", "expected"),
    [
        ([1, 1, 0, 0], [255, 200, 100, 0], 1.0),
        ([0, 0, 1, 1], [255, 200, 100, 0], 0.5 * 1 / 3 + 0.5 * 2 / 4),
        ([1, 0, 0, 0], [7, 7, 7, 7], 0.25),
        ([1, 1, 1, 1], [0, 0, 0, 0], 1.0),
        ([0, 0], [0, 0], 1.0),
        ([0, 0], [0, 1], 0.0),
    ],
    ids=["perfect", "reversed", "one_level", "all_foreground", "both_empty", "truth_empty"],
)
def test_average_precision_by_hand(truth, probability, expected):
    assert score(truth, probability) == pytest.approx(expected)


def test_empty_truth_is_one_where_nothing_is_predicted():
    histogram = histogram_scores(
        truth=np.zeros(3, bool), probability=np.array([0, 10, 20], np.uint8)
    )
    _, precision, recall = precision_recall(histogram)
    expected = [0.0] * 21 + [1.0] * 235
    assert precision.tolist() == recall.tolist() == expected


def test_probability_must_be_levels():
    with pytest.raises(BenchError, match="uint8 levels of 0 to 255, received float32"):
        histogram_scores(truth=np.zeros(3, bool), probability=np.zeros(3, np.float32))
