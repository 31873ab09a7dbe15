import numpy as np
import pytest
from scipy.ndimage import center_of_mass

from bench.resample import resize_section


def disc(shape=(60, 80), centre=(20, 50), radius=9):
    y, x = np.indices(shape)
    return (((y - centre[0]) ** 2 + (x - centre[1]) ** 2) < radius**2).astype(np.uint8) * 200


@pytest.mark.parametrize("shape", [(30, 40), (45, 60), (120, 160), (240, 80), (60, 30), (97, 131)])
def test_resizing_keeps_place_and_brightness(shape):
    section = disc()
    resized = resize_section(section, shape)
    assert resized.shape == shape
    assert resized.dtype == np.float32
    scale = np.array(shape) / section.shape
    # Pixel centres lie at +0.5.
    expected = (np.array(center_of_mass(section)) + 0.5) * scale - 0.5
    np.testing.assert_allclose(center_of_mass(resized), expected, atol=0.15)
    assert resized.mean() == pytest.approx(section.mean(), rel=0.02)
    assert resized.min() >= 0
    assert resized.max() <= 200.01


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
def test_resizing_keeps_the_values_of_every_type(dtype):
    section = disc().astype(dtype)
    np.testing.assert_allclose(resize_section(section, section.shape), section, atol=1e-4)
    np.testing.assert_allclose(
        resize_section(section, (30, 40)), resize_section(disc(), (30, 40)), atol=1e-4
    )


def test_shrinking_smooths_first():
    """Stripes of one pixel become their mean, not one of both."""
    stripes = np.tile(np.array([0, 200], np.uint8), (64, 32))
    np.testing.assert_allclose(resize_section(stripes, (16, 16))[:, 2:-2], 100, atol=25)
