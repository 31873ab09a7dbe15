import numpy as np
import pytest
from scipy.ndimage import center_of_mass

from bench.errors import BenchError
from bench.volume import Volume, resize_section


def disc(shape=(60, 80), centre=(20, 50), radius=9):
    y, x = np.indices(shape)
    return (((y - centre[0]) ** 2 + (x - centre[1]) ** 2) < radius**2).astype(np.uint8) * 200


def test_crop_of_a_section_and_of_a_stack():
    data = np.arange(2 * 6 * 8).reshape(2, 6, 8)
    y, x = slice(1, 3), slice(4, 8)
    cropped = Volume(data, 5.0, "a.tif").crop(y, x)
    np.testing.assert_array_equal(cropped.data, data[:, 1:3, 4:8])
    assert (cropped.pixel_size_nm, cropped.source) == (5.0, "a.tif")
    np.testing.assert_array_equal(Volume(data[0], None, "").crop(y, x).data, data[0, 1:3, 4:8])


@pytest.mark.parametrize(
    ("pixel_size_nm", "shape"),
    [(10, (30, 40)), (2.5, (120, 160)), (5.0, (60, 80)), (7.5, (40, 53)), (1e6, (1, 1))],
)
def test_resample_keeps_the_size_in_nm(pixel_size_nm, shape):
    section = Volume(disc(), 5.0, "a.tif")
    resampled = section.resample(pixel_size_nm)
    assert resampled.data.shape == shape
    assert resampled.data.dtype == np.float32
    assert resampled.pixel_size_nm == pixel_size_nm
    assert resampled.source == "a.tif"


def test_resample_needs_a_pixel_size():
    with pytest.raises(BenchError, match=r"a\.tif has none: give it to prepare"):
        Volume(disc(), None, "a.tif").resample(5.0)


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
