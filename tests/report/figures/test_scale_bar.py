import numpy as np
import pytest

from bench.report.figures.scale_bar import draw_scale_bar, format_length, round_length


@pytest.mark.parametrize(
    ("longest_nm", "length_nm"), [(1280, 1000), (999, 500), (500, 500), (49.9, 20), (0.13, 0.1)]
)
def test_scale_bars_have_round_lengths(longest_nm, length_nm):
    assert round_length(longest_nm) == pytest.approx(length_nm)


@pytest.mark.parametrize(
    ("length_nm", "text"),
    [(0.5, "0.5 nm"), (500, "500 nm"), (1000, "1 µm"), (2000, "2 µm"), (5e6, "5000 µm")],
)
def test_lengths_are_said_in_the_unit_of_people(length_nm, text):
    assert format_length(length_nm) == text


@pytest.mark.parametrize(("side", "size_nm", "length_px"), [(512, 5.0, 100), (200, 46.0, 43)])
def test_a_bar_of_pixels_is_as_long_as_it_says(side, size_nm, length_px):
    image = np.full((side, side, 3), 90, np.uint8)
    drawn = draw_scale_bar(image, size_nm)
    assert (image == 90).all()
    changed = np.nonzero((drawn != 90).any(axis=(1, 2)))[0]
    bottom = drawn[changed.max() - 1]
    white = np.nonzero((bottom == 255).all(axis=1))[0]
    # Within its black edge.
    assert np.ptp(white) + 3 == pytest.approx(length_px, abs=2)
    assert changed.min() > side / 2


def test_without_a_scale_there_is_no_bar():
    image = np.zeros((64, 64, 3), np.uint8)
    assert draw_scale_bar(image, None) is image


def test_a_bar_fits_a_picture_of_a_few_pixels():
    assert draw_scale_bar(np.zeros((24, 24, 3), np.uint8), 5.0).any()
