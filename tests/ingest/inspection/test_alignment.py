import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from bench.ingest.inspection.likeness import Series, Shift, describe_shift, estimate_shift


def texture(seed: int) -> np.ndarray:
    return gaussian_filter(np.random.default_rng(seed).normal(0, 1, (300, 300)), 2) * 100


def cut(image: np.ndarray, y: int = 0, x: int = 0) -> np.ndarray:
    return image[50 + y : 178 + y, 50 + x : 210 + x].astype(np.float32)


@pytest.mark.parametrize(("y", "x"), [(0, 0), (7, -3), (-20, 31)])
def test_a_shift_is_found(y, x):
    shift = estimate_shift(cut(texture(0)), cut(texture(0), -y, -x), 2)
    assert (shift.y, shift.x) == (2 * y, 2 * x)
    assert shift.after == pytest.approx(1)
    assert shift.is_real == bool(y or x)


def test_other_images_are_not_shifted():
    shifts = [estimate_shift(cut(texture(2 * n)), cut(texture(2 * n + 1)), 1) for n in range(20)]
    assert not any(shift.is_real for shift in shifts)


def test_images_without_contrast_are_not_shifted():
    flat = np.full((40, 50), 3, np.float32)
    assert not estimate_shift(flat, flat, 1).is_real
    assert not estimate_shift(flat, texture(0)[:40, :50].astype(np.float32), 1).is_real


def test_the_way_back_is_not_said():
    there, back = Shift(30, -10, 0.1, 0.9, 500), Shift(-29, 11, 0.1, 0.9, 500)
    assert "+30 px in y and -10 px in x" in describe_shift(there, None)
    assert describe_shift(back, there) == ""
    assert describe_shift(there, there) != ""


def test_a_series_ends_with_its_name_its_size_or_a_gap():
    series, image = Series(), cut(texture(0))
    assert series.follow(("train", ""), image) is None
    assert series.follow(("train", ""), image) is not None
    assert series.follow(("train", "other"), image) is None
    assert series.follow(("train", "other"), image[:-1]) is None
    assert series.follow(("train", "other"), None) is None
    assert series.follow(("train", "other"), image) is None


def test_real_neighbours_are_aligned_and_shifted_ones_are_found(real_neighbours):
    for first, second in real_neighbours:
        series = Series()
        series.follow(("train",), first)
        assert not series.follow(("train",), second).is_real
        moved = np.roll(second, (40, -24), (0, 1))
        series.follow(("train",), first)
        shift = series.follow(("train",), moved)
        assert shift.is_real
        assert (shift.y, shift.x) == (pytest.approx(40, abs=5), pytest.approx(-24, abs=5))
