import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from scipy.stats import chi2

from bench.postprocess.spheres.outliers import judge_vesicles

NO_FLOORS = np.zeros(3)


def give_none(places):
    return [np.full((10, 3), np.nan) for _ in places]


def draw(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal([9, 2, -1], [1, 0.2, 0.3], (count, 3))


def judge(features, chances=give_none, *, as_published=False, least_p=None, floors=NO_FLOORS):
    least = (0.3 if as_published else 0.001) if least_p is None else least_p
    return judge_vesicles(
        features, chances, least_p=least, floors=floors, as_published=as_published
    )


@pytest.mark.parametrize("as_published", [False, True])
def test_p_is_that_of_scipy(as_published):
    features = draw(60)
    judged = judge(features, as_published=as_published, least_p=0.0)
    inverse = np.linalg.inv(np.cov(features, rowvar=False))
    distances = np.array([mahalanobis(each, features.mean(0), inverse) for each in features])
    expected = chi2.sf(distances if as_published else distances**2, 3)
    np.testing.assert_allclose(judged.p, expected, rtol=1e-9)
    assert not judged.outlier.any()


def test_what_the_published_p_means():
    """SYSTEMS: p < 0.3 of D is D > 3.66, of which the right p is 0.0038."""
    distance = chi2.isf(0.3, 3)
    assert distance == pytest.approx(3.66, abs=0.005)
    assert chi2.sf(distance**2, 3) == pytest.approx(0.0038, abs=5e-5)


def test_an_outlier_among_the_usual_is_found_and_they_are_left_in_peace():
    features = np.vstack([draw(200), [[20, 2, -1], [9, 8, -1], [9, 2, 5]]])
    judged = judge(features)
    assert np.flatnonzero(judged.outlier).tolist() == [200, 201, 202]
    assert (judged.p[200:] < 1e-9).all()


def test_a_crowd_of_outliers_does_not_hide_itself():
    """A tenth of another kind blows up mean and deviations so that no distance is large."""
    features = np.vstack([draw(60), np.random.default_rng(1).normal([9, 2, 4], 0.5, (6, 3))])
    assert np.flatnonzero(judge(features).outlier).tolist() == list(range(60, 66))
    assert not judge(features, as_published=True, least_p=chi2.sf(4, 3)).outlier.any()


def test_a_second_chance_that_is_usual_is_taken_the_first_of_several():
    features = np.vstack([draw(50), [[30, 2, -1], [30, 2, -1]]])

    def give(places):
        chances = {50: [[30, 2, -1], [np.nan] * 3, [9, 2, -1], [9.1, 2, -1]], 51: [[31, 2, -1]]}
        return [np.array(chances[int(place)], float) for place in places]

    judged = judge(features, give)
    assert judged.chance.tolist() == [-1] * 50 + [2, -1]
    assert np.flatnonzero(judged.outlier).tolist() == [51]
    assert judged.p[50] > 0.5


@pytest.mark.parametrize("count", [0, 1, 4])
def test_few_are_not_compared(count):
    judged = judge(draw(count))
    assert np.isnan(judged.p).all()
    assert not judged.outlier.any()


def test_of_fewer_than_nineteen_none_is_an_outlier():
    for count in (5, 18):
        features = draw(count)
        features[0] = 1e6
        assert not judge(features).outlier.any()
    for count in (19, 40):
        features = draw(count)
        features[0] = 1e6
        assert judge(features).outlier.tolist() == [True] + [False] * (count - 1)


def test_equal_vesicles_are_not_odd():
    features = np.tile([9.0, 2.0, -1.0], (30, 1))
    assert judge(features).p.tolist() == [1.0] * 30
    features[0, 1] += 0.1
    assert judge(features, floors=np.array([0.25, 0.25, 0.05])).p.min() > 0.9


def test_the_order_changes_nothing():
    features = np.vstack([draw(80), [[20, 2, -1]]])
    order = np.random.default_rng(2).permutation(81)
    first, second = judge(features), judge(features[order])
    np.testing.assert_allclose(second.p, first.p[order], rtol=1e-6)
    np.testing.assert_array_equal(second.outlier, first.outlier[order])
