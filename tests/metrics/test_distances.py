import math

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from bench.errors import BenchError
from bench.metrics.distances import find_distances
from bench.metrics.measures import ScoredSection
from bench.metrics.table import METRICS, finish_scores, measure_section

CREMI_NM = (40.0, 4.0, 4.0)
DISTANCES = [name for name, row in METRICS.items() if name.startswith(("false_", "cremi_"))]


def clefts():
    """The known answer: two bars a few voxels apart."""
    truth = np.zeros((5, 50, 50), np.uint32)
    prediction = truth.copy()
    truth[2, 10:20, 10:12] = 1
    prediction[2, 10:20, 13:15] = 1
    return truth, prediction


def score(truth, prediction, voxel_size_nm=CREMI_NM, pixel_size_nm=None):
    section = ScoredSection(
        truth, prediction, (prediction > 0).astype(np.uint8), pixel_size_nm, voxel_size_nm
    )
    return finish_scores(measure_section(section, DISTANCES), DISTANCES)


def random_masks(seed, shape, density=0.03):
    rng = np.random.default_rng(seed)
    truth, prediction = (rng.random(shape) < density for _ in range(2))
    # Blobs, so that surfaces differ from what they enclose.
    for mask in (truth, prediction):
        place = tuple(int(rng.integers(0, max(side // 2, 1))) for side in shape)
        mask[
            tuple(slice(start, start + side // 2) for start, side in zip(place, shape, strict=True))
        ] = True
    return truth, prediction


def test_known_answer_of_cremi():
    found = score(*clefts())
    assert found["cremi_adgt"] == found["cremi_adf"] == found["cremi_score"] == 10
    assert found["false_distance_px"] == 3
    assert found["false_distance_mean_px"] == 2.5
    assert found["false_distance_nm"] == 12
    assert found["cremi_fp"] == found["cremi_fn"] == 0


def test_known_answer_with_a_voxel_far_away():
    truth, prediction = clefts()
    prediction[4, 40, 40] = 2
    found = score(truth, prediction)
    assert found["cremi_adgt"] == pytest.approx(17.34, abs=0.005)
    assert found["cremi_adf"] == 10
    assert found["false_distance_px"] == pytest.approx(19.43, abs=0.005)
    # It is 164 nm from the truth.
    assert found["cremi_fp"] == 0
    prediction[4, 49, 49] = 2
    assert score(truth, prediction)["cremi_fp"] == 1
    assert score(prediction, truth)["cremi_fn"] == 1


@pytest.mark.parametrize(
    ("shape", "sampling"),
    [((30, 41), None), ((25, 33), (2.5, 2.5)), ((6, 20, 23), CREMI_NM), ((9, 8, 10), None)],
)
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_distance_transform(shape, sampling, seed):
    truth, prediction = random_masks(seed, shape)
    found = find_distances(truth=truth, prediction=prediction, sampling=sampling, far_beyond=3.0)
    for side, other, directed in (
        (prediction, truth, found.from_prediction),
        (truth, prediction, found.from_truth),
    ):
        expected = distance_transform_edt(~other, sampling=sampling)[side]
        assert directed.mean == pytest.approx(expected.mean(), rel=1e-12)
        assert directed.largest == pytest.approx(expected.max(), rel=1e-12)
        assert directed.far == np.count_nonzero(expected > 3.0)


@pytest.mark.parametrize("seed", range(3))
def test_equals_all_pairs(seed):
    truth, prediction = random_masks(seed, (4, 7, 6), density=0.1)
    found = find_distances(truth=truth, prediction=prediction, sampling=CREMI_NM)
    places = [np.argwhere(mask) * CREMI_NM for mask in (prediction, truth)]
    pairs = np.linalg.norm(places[0][:, None] - places[1][None], axis=2)
    for axis, directed in ((1, found.from_prediction), (0, found.from_truth)):
        nearest = pairs.min(axis=axis)
        assert directed.mean == pytest.approx(nearest.mean(), rel=1e-12)
        assert directed.largest == pytest.approx(nearest.max(), rel=1e-12)


def test_many_blocks_are_as_one(monkeypatch):
    truth, prediction = random_masks(5, (9, 30, 31))
    whole = find_distances(truth=truth, prediction=prediction)
    monkeypatch.setattr("bench.metrics.distances.PIXELS_AT_ONCE", 97)
    parts = find_distances(truth=truth, prediction=prediction)
    assert parts.from_prediction.largest == whole.from_prediction.largest
    assert parts.from_prediction.mean == pytest.approx(whole.from_prediction.mean, rel=1e-12)


def test_an_empty_side_has_no_distance():
    truth, prediction = clefts()
    nothing = np.zeros_like(truth)
    for pair in ((truth, nothing), (nothing, prediction), (nothing, nothing)):
        assert find_distances(truth=pair[0], prediction=pair[1]) is None
        assert score(*pair) == {}
    for name in DISTANCES:
        assert math.isnan(METRICS[name].finish(()))


def test_equal_masks_are_no_distance_apart():
    truth, _ = clefts()
    assert set(score(truth, truth).values()) == {0.0}


def test_invalid_voxels_count_on_neither_side():
    truth, prediction = clefts()
    prediction[4, 40, 40], truth[0, 40, 3] = 2, 2
    invalid = np.zeros(truth.shape, bool)
    invalid[4, 40, 40] = invalid[0, 40, 3] = True
    found = find_distances(truth=truth, prediction=prediction, sampling=CREMI_NM, invalid=invalid)
    clean = clefts()
    assert found == find_distances(truth=clean[0], prediction=clean[1], sampling=CREMI_NM)
    everything = np.ones(truth.shape, bool)
    assert find_distances(truth=truth, prediction=prediction, invalid=everything) is None


def test_nm_are_of_pixels_whose_size_is_known():
    truth, prediction = (plane[2] for plane in clefts())
    found = score(truth, prediction, voxel_size_nm=None, pixel_size_nm=5.0)
    assert found["false_distance_nm"] == 15
    assert found["cremi_score"] == 12.5
    unknown = score(truth, prediction, voxel_size_nm=None)
    assert set(unknown) == {"false_distance_px", "false_distance_mean_px"}


def test_several_units_are_averaged_and_voxels_added_up():
    truth, prediction = clefts()
    prediction[4, 49, 49] = 2
    near, far = (
        measure_section(
            ScoredSection(truth, found, truth.astype(np.uint8), None, CREMI_NM), DISTANCES
        )
        for found in (clefts()[1], prediction)
    )
    empty = measure_section(
        ScoredSection(truth, 0 * truth, truth.astype(np.uint8), None, CREMI_NM), DISTANCES
    )
    pooled = finish_scores({key: near[key] + far[key] + empty[key] for key in near}, DISTANCES)
    alone = [finish_scores(each, DISTANCES) for each in (near, far)]
    assert pooled["cremi_adgt"] == pytest.approx((10 + alone[1]["cremi_adgt"]) / 2)
    assert pooled["cremi_fp"] == 1


@pytest.mark.parametrize("sampling", [(4.0, 4.0), (40.0, 4.0, 0.0), (40.0, 4.0, math.nan)])
def test_edges_that_are_none_are_refused(sampling):
    truth, prediction = clefts()
    with pytest.raises(BenchError, match="sampling must be 3 edges above 0"):
        find_distances(truth=truth, prediction=prediction, sampling=sampling)


def test_probabilities_and_other_shapes_are_refused():
    truth, prediction = clefts()
    with pytest.raises(BenchError, match="threshold it first"):
        find_distances(truth=truth, prediction=prediction * 0.5)
    with pytest.raises(BenchError, match="same shape"):
        find_distances(truth=truth, prediction=prediction, invalid=truth[0])
