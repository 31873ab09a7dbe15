import numpy as np
import pytest
from scipy.ndimage import center_of_mass
from skimage.transform import resize

from bench.inference import feeding
from bench.inference.feeding import EnlargedSection, enlarges, resize_section

SHAPES = [
    ((40, 53), (148, 196)),
    ((148, 196), (40, 53)),
    ((60, 50), (70, 40)),
    ((300, 200), (299, 201)),
    ((1, 7), (3, 20)),
    ((7, 1), (2, 1)),
    ((5, 5), (2, 2)),
]


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


def random_section(shape, dtype=np.uint8):
    return (np.random.default_rng(0).random(shape) * 255).astype(dtype)


@pytest.mark.parametrize(("old", "new"), SHAPES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_resizing_agrees_with_scikit_image(old, new, dtype):
    section = random_section(old, dtype)
    expected = resize(
        section.astype(np.float32),
        new,
        order=1,
        anti_aliasing=not enlarges(old, new),
        preserve_range=True,
    )
    np.testing.assert_allclose(resize_section(section, new), expected, atol=1e-4)


@pytest.mark.parametrize(("old", "new"), SHAPES)
def test_bands_of_any_height_give_the_same_bits(old, new, monkeypatch):
    section = random_section(old)
    whole = resize_section(section, new)
    for pixels in (1, 64, 700):
        monkeypatch.setattr(feeding, "FEED_BAND_PX", pixels)
        assert (resize_section(section, new) == whole).all()


def test_a_window_of_an_enlarged_section_is_that_of_the_whole():
    section = random_section((40, 53), np.uint16)
    whole, enlarged = resize_section(section, (148, 196)), EnlargedSection.of(section, (148, 196))
    assert enlarged.shape == whole.shape
    assert enlarged.size == whole.size
    rows, columns = np.array([0, 147, 3, 3, 90]), np.array([195, 0, 77])
    assert (enlarged.window(rows, columns) == whole[np.ix_(rows, columns)]).all()
    assert (enlarged[30:99] == whole[30:99]).all()
