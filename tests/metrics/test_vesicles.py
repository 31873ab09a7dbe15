import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.metrics.measures import ScoredSection, measure_mask_pixels, measure_vesicles
from bench.metrics.overlap import dice_score
from bench.metrics.table import METRICS, finish_scores, measure_section
from bench.metrics.vesicles import (
    Balls,
    VesicleMatching,
    balls_of_labels,
    match_balls,
    pair_balls,
    vesicle_f1,
)


def balls(*rows):
    """Balls of rows z, y, x, radius."""
    table = np.array(rows, float).reshape(-1, 4)
    return Balls(table[:, :3], table[:, 3])


def paint(shape, found, edges=(1.0, 1.0, 1.0)):
    """Labels of balls, later ones on top."""
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1) * edges
    labels = np.zeros(shape, np.int32)
    for number, (centre, radius) in enumerate(
        zip(found.centres_nm, found.radii_nm, strict=True), 1
    ):
        labels[((places - centre) ** 2).sum(axis=-1) <= radius**2] = number
    return labels


@pytest.mark.parametrize("nm", [1.0, 2.2, 2.4, 1.35])
def test_each_centre_must_lie_in_the_other_ball(nm):
    """The known answers: radii 10 and 12 at (8, 6, 0) and (8, 6, 1)."""
    for offset, pairs in (((8, 6, 0), 1), ((8, 6, 1), 0)):
        small = balls([*(nm * np.array(offset)), 10 * nm])
        large = balls([0, 0, 0, 12 * nm])
        for truth, prediction in ((small, large), (large, small)):
            found = match_balls(truth=truth, prediction=prediction)
            assert found.true_positive == pairs
            assert (found.false_negative, found.false_positive) == (1 - pairs, 1 - pairs)


def test_errors_of_a_pair():
    found = match_balls(truth=balls([5, 5, 5, 10]), prediction=balls([6, 7, 7, 11]))
    assert found.centre_errors_nm == (3.0,)
    assert found.diameter_errors == (pytest.approx(1 / 11, abs=1e-15),)


def brute_force(truth, prediction):
    """The most pairs, and of these the smallest sum of distances, by trying every way."""
    distances = np.linalg.norm(truth.centres_nm[:, None] - prediction.centres_nm[None], axis=-1)
    smaller = np.minimum(truth.radii_nm[:, None], prediction.radii_nm[None])
    within = distances <= smaller * (1 + 1e-9)
    best = (0, 0.0)
    rows, columns = within.shape
    if rows > columns:
        within, distances, rows, columns = within.T, distances.T, columns, rows
    for order in itertools.permutations(range(columns), rows):
        taken = [(row, column) for row, column in enumerate(order) if within[row, column]]
        best = max(best, (len(taken), -sum(distances[pair] for pair in taken)))
    return best


coordinates = st.integers(0, 9)
rows = st.lists(st.tuples(coordinates, coordinates, coordinates, st.integers(1, 7)), max_size=6)


@settings(max_examples=300, deadline=None)
@given(truth=rows, prediction=rows)
def test_pairs_are_one_to_one_the_most_and_the_nearest(truth, prediction):
    """Crowded balls, so that almost every one has several partners to choose from."""
    sides = {"truth": balls(*truth), "prediction": balls(*prediction)}
    pairs, distances = pair_balls(**sides)
    assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == len(pairs)
    count, total = brute_force(**sides)
    assert len(pairs) == count
    assert distances.sum() == pytest.approx(-total)
    shifts = sides["truth"].centres_nm[pairs[:, 0]] - sides["prediction"].centres_nm[pairs[:, 1]]
    np.testing.assert_allclose(distances, np.linalg.norm(shifts, axis=1))
    radii = sides["truth"].radii_nm[pairs[:, 0]], sides["prediction"].radii_nm[pairs[:, 1]]
    assert (distances <= np.minimum(*radii) * (1 + 1e-9)).all()
    assert (np.diff(pairs[:, 0]) > 0).all()


def test_one_prediction_serves_one_vesicle():
    """Between two that overlap: the nearer has it, and a nearest partner is given up for a pair."""
    truth = balls([0, 0, 0, 10], [0, 0, 9, 10])
    found = match_balls(truth=truth, prediction=balls([0, 0, 4, 10]))
    assert (found.true_positive, found.false_negative) == (1, 1)
    assert found.centre_errors_nm == (4.0,)
    # The first prediction is nearest to the second vesicle, whose only partner is none other.
    prediction = balls([0, 0, 8, 10], [0, 0, 18, 10])
    pairs, _ = pair_balls(truth=truth, prediction=prediction)
    assert pairs.tolist() == [[0, 0], [1, 1]]


def test_scores_add_up_and_keep_what_each_pair_says():
    first = match_balls(
        truth=balls([0, 0, 0, 10], [50, 0, 0, 10]), prediction=balls([1, 2, 2, 11], [99, 0, 0, 5])
    )
    second = match_balls(truth=balls([0, 0, 0, 8]), prediction=balls([0, 0, 1, 8]))
    both = first + second
    assert (both.truth, both.predicted, both.true_positive) == (3, 3, 2)
    assert both.describe() == {
        "vesicles": 3,
        "predicted": 3,
        "true_positive": 2,
        "false_negative": 1,
        "false_positive": 1,
        "vesicle_recall": pytest.approx(2 / 3),
        "vesicle_precision": pytest.approx(2 / 3),
        "vesicle_f1": pytest.approx(2 / 3),
        "diameter_error": pytest.approx(1 / 22),
        "diameter_error_sd": pytest.approx(np.std([1 / 11, 0], ddof=1)),
        "centre_error_nm": 2.0,
        "centre_error_nm_sd": pytest.approx(math.sqrt(2)),
    }
    assert "diameter_error_sd" not in second.describe()
    assert "diameter_error" not in VesicleMatching(2, 1).describe()


@pytest.mark.parametrize(("counts", "score"), [((0, 0), 1), ((3, 0), 0), ((0, 3), 0)])
def test_both_empty_is_one_and_one_empty_is_zero(counts, score):
    sides = (balls(*([0, 0, 0, 5],) * count) for count in counts)
    found = match_balls(**dict(zip(("truth", "prediction"), sides, strict=True)))
    for name in ("vesicle_recall", "vesicle_precision", "vesicle_f1"):
        assert METRICS[name].finish((found,)) == score
    assert math.isnan(METRICS["diameter_error"].finish((found,)))
    assert math.isnan(METRICS["centre_error_nm"].finish((found,)))


@pytest.mark.parametrize("edges", [(1.0, 1.0, 1.0), (2.2, 2.2, 2.2), (5.0, 2.0, 2.0)])
def test_balls_of_labels_are_those_that_were_painted(edges):
    rng = np.random.default_rng(0)
    centres = np.array([[12.3, 12.0, 12.8], [12.1, 37.6, 36.2], [13.0, 12.4, 37.9]]) * edges
    painted = Balls(centres, rng.uniform(7, 9, 3) * np.cbrt(np.prod(edges)))
    found = balls_of_labels(paint((26, 50, 50), painted, edges), edges)
    np.testing.assert_allclose(found.centres_nm, centres, atol=0.15 * max(edges))
    np.testing.assert_allclose(found.radii_nm, painted.radii_nm, rtol=0.01)


@pytest.mark.parametrize("depth", [0.7, 0.2, 0.0, -0.4])
def test_a_ball_that_the_border_cuts_is_the_whole_ball(depth):
    """Cut by one face, to a third of it at last, and cut by three, to a fifth."""
    centres = np.array([[30.2, 8.0 * depth, 31.7], [9.0 * max(depth, 0.2)] * 3])
    painted = Balls(centres, np.array([8.4, 9.1]))
    found = balls_of_labels(paint((50, 50, 50), painted), (1, 1, 1))
    np.testing.assert_allclose(found.centres_nm, centres, atol=0.3)
    np.testing.assert_allclose(found.radii_nm, painted.radii_nm, atol=0.3)
    np.testing.assert_allclose(found.radii_nm[0], painted.radii_nm[0], atol=0.1)


def test_what_is_no_ball_has_its_centroid_and_volume():
    labels = np.zeros((20, 20, 20), np.int32)
    labels[0:2, 0:20, 5:8] = 3
    found = balls_of_labels(labels, (2.0, 2.0, 2.0))
    assert found.centres_nm.tolist() == [[1.0, 19.0, 12.0]]
    assert found.radii_nm[0] == pytest.approx((3 * 120 * 8 / (4 * math.pi)) ** (1 / 3))
    # A sheet along two faces, which is not even tried.
    labels[:, 0] = labels[:, :, 0] = 7
    assert balls_of_labels(labels, (1, 1, 1)).centres_nm[1] == pytest.approx(
        [9.5, 4.87, 4.87], abs=1e-2
    )
    everything = balls_of_labels(np.ones((3, 4, 5), np.int32), (1, 1, 1))
    assert everything.centres_nm.tolist() == [[1, 1.5, 2]]
    assert len(balls_of_labels(np.zeros((3, 4, 5), np.int32), (1, 1, 1)).radii_nm) == 0
    with pytest.raises(BenchError, match=r"of a volume \(z, y, x\), received labels of shape"):
        balls_of_labels(np.zeros((4, 5), np.int32), (1, 1))


def test_equal_balls_a_radius_apart_have_the_known_overlap():
    """Dice .3125, of digital balls of radius 10 .3135; both are a true match at d = r."""
    sides = [paint((21, 21, 31), balls([10, 10, x, 10])) for x in (10, 20)]
    section = ScoredSection(sides[0], sides[1], sides[1], mask=sides[1] > 0)
    (counts,) = measure_mask_pixels(section)
    assert dice_score(counts) == pytest.approx(0.3135, abs=5e-5)
    found = match_balls(truth=balls([10, 10, 10, 10]), prediction=balls([10, 10, 20, 10]))
    assert found.true_positive == 1


VOLUME_METRICS = [name for name, row in METRICS.items() if row.volumes]


def scores_of(section):
    return finish_scores(measure_section(section, VOLUME_METRICS), VOLUME_METRICS)


def test_sections_and_volumes_of_unknown_size_have_no_vesicle_scores():
    section = np.ones((4, 5), np.int32)
    volume = np.ones((3, 4, 5), np.int32)
    assert scores_of(ScoredSection(section, section, section, 2.0)) == {}
    assert scores_of(ScoredSection(volume, volume, volume, 2.0)) == {}
    with_mask = ScoredSection(volume, volume, volume, mask=volume > 0)
    assert scores_of(with_mask) == {"mask_dice": 1}


def test_fitted_spheres_are_scored_as_they_are_and_labels_by_their_size():
    truth = balls([12, 12, 12, 8], [12, 12, 32, 8])
    labels = paint((24, 24, 48), truth)
    moved = balls([12, 12, 13, 8], [12, 12, 32, 10])
    size = (2.0, 2.0, 2.0)
    fitted = Balls(moved.centres_nm * 2, moved.radii_nm * 2)
    section = ScoredSection(labels, labels, labels > 0, None, size, labels > 0, fitted)
    scores = scores_of(section)
    assert scores["mask_dice"] == scores["vesicle_recall"] == scores["vesicle_f1"] == 1
    assert scores["centre_error_nm"] == pytest.approx(1.0)
    assert scores["diameter_error"] == pytest.approx(0.1, abs=6e-3)
    without = scores_of(ScoredSection(labels, labels, labels > 0, None, size))
    assert without["centre_error_nm"] == without["diameter_error"] == 0
    assert "mask_dice" not in without


def test_volumes_are_pooled_not_averaged():
    many = VesicleMatching(9, 9, (0.0,) * 9, (1.0,) * 9)
    one = VesicleMatching(1, 3)
    assert METRICS["vesicle_f1"].finish((many, one)) == vesicle_f1(many + one) == 18 / 22
    assert METRICS["centre_error_nm"].finish((many, one)) == 1
    assert measure_vesicles(ScoredSection(*[np.zeros((2, 2), np.int32)] * 3)) == ()
