import numpy as np
import pytest

from bench.correction.fitting import fit_vesicle


@pytest.mark.parametrize("number", range(4))
def test_a_click_near_a_vesicle_finds_it(tomogram, truth, number):
    """Three voxels off, and a radius that is a fifth wrong: within half a voxel of the truth."""
    vesicle = truth[number]
    random = np.random.default_rng(number)
    for wrong in (0.8, 1.0, 1.2):
        away = random.normal(0, 1, 3)
        place = tuple(np.array(vesicle.centre) + 3 * away / np.linalg.norm(away))
        found = fit_vesicle(tomogram, place, wrong * vesicle.radius)
        assert found is not None
        centre, radius = found.centre, found.radius
        assert np.linalg.norm(np.array(centre) - vesicle.centre) < 0.4
        assert radius == pytest.approx(vesicle.radius, abs=0.5)


def test_where_nothing_is_nothing_is_found():
    noise = np.random.default_rng(1).normal(0, 1, (40, 40, 40)).astype(np.float32)
    assert fit_vesicle(noise, (20, 20, 20), 8.0) is None
    assert fit_vesicle(np.zeros((40, 40, 40)), (20, 20, 20), 8.0) is None


def test_sections_that_are_farther_apart(tomogram, truth):
    vesicle = truth[2]
    found = fit_vesicle(tomogram[::2], (14.5, 34, 16), 9.0, section_px=2.0)
    assert found is not None
    centre, radius = found.centre, found.radius
    assert centre == pytest.approx((vesicle.z / 2, vesicle.y, vesicle.x), abs=0.5)
    assert radius == pytest.approx(vesicle.radius, abs=0.6)


def test_grey_values_of_any_type_and_range(tomogram, truth):
    scaled = np.rint(1000 + 300 * tomogram).astype(np.int16)
    first = fit_vesicle(tomogram, (28, 35, 36), 8.0)
    second = fit_vesicle(scaled, (28, 35, 36), 8.0)
    assert first is not None
    assert second is not None
    assert second.centre == pytest.approx(first.centre, abs=0.2)
