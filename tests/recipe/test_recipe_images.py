from dataclasses import replace

import numpy as np
import pytest

from bench.errors import BenchError
from bench.inference.prediction import SectionPrediction
from bench.postprocess.spheres.settings import SphereSettings
from bench.recipe.predictor import RecipePredictor, segment_array
from bench.recipe.recipe import Recipe


class Threshold:
    """Stands for a recipe's models: foreground is where the image is bright."""

    infos = ()
    recipe = Recipe(
        structure="vesicles",
        dataset="",
        pixel_size_nm=5.0,
        rescale=True,
        members=(),
        level=128,
        opening_radius_px=0,
        min_area_px=0,
        watershed=None,
    )

    def __init__(self):
        self.seen = []

    def predict(self, raw, pixel_size_nm, folder, advance):
        self.seen.append((raw.dtype, pixel_size_nm, raw.copy()))
        folder.mkdir()
        return SectionPrediction((raw > 100).astype(np.uint8) * 255)


@pytest.fixture
def predictor() -> RecipePredictor:
    return Threshold()


IMAGE = np.array([[0, 200, 30, 40, 50], [120, 0, 255, 0, 0]])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32, np.int64, np.float64])
def test_one_section_and_several(predictor, kind):
    """Any depth; ids and probability have the shape of what was given."""
    image = IMAGE.astype(kind)
    one = segment_array(predictor, image, 5.0)
    several = segment_array(predictor, np.stack([image, image[::-1]]), 5.0)
    expected = np.array([[0, 1, 0, 0, 0], [2, 0, 3, 0, 0]])
    np.testing.assert_array_equal(one["instances"], expected)
    np.testing.assert_array_equal(one["probability"], expected > 0)
    assert (one["instances"].dtype, one["probability"].dtype) == (np.int32, np.float32)
    for name, pixels in one.items():
        np.testing.assert_array_equal(several[name] > 0, np.stack([pixels, pixels[::-1]]) > 0)
    assert [size for _, size, _ in predictor.seen] == [5.0] * 3


def test_whole_numbers_of_json_get_their_depth_back(predictor):
    segment_array(predictor, IMAGE, 5.0)
    segment_array(predictor, IMAGE * 256, 5.0)
    segment_array(predictor, IMAGE > 100, 5.0)
    segment_array(predictor, IMAGE - 1, 5.0)
    assert [kind for kind, _, _ in predictor.seen] == [np.uint8, np.uint16, np.uint8, np.int64]
    np.testing.assert_array_equal(predictor.seen[0][2], IMAGE)


def test_an_unknown_pixel_size_is_said(predictor, caplog):
    segment_array(predictor, IMAGE, None)
    assert "the pixel size is unknown, so images are fed as they are" in caplog.text
    caplog.clear()
    segment_array(predictor, IMAGE, 5.0)
    assert not caplog.records


@pytest.mark.parametrize(
    ("images", "size", "message"),
    [
        (np.zeros(5), 5.0, r"shape \(y, x\) or \(n, y, x\), received \(5,\)"),
        (np.zeros((2, 2, 4, 4)), 5.0, r"received \(2, 2, 4, 4\)"),
        (np.zeros((8, 8, 3)), 5.0, r"must be grey .* received \(8, 8, 3\): give one channel"),
        (np.zeros((0, 8)), 5.0, r"received \(0, 8\)"),
        (np.array([["a", "b"]]), 5.0, "finite numbers, received <U1"),
        (np.array([[1.0, np.nan]]), 5.0, "finite numbers, received float64"),
        (np.zeros((4, 4)), 0.0, "pixel_size_nm must be a length over 0, received 0.0"),
        (np.zeros((4, 4)), -5.0, "received -5.0"),
        (np.zeros((4, 4)), float("nan"), "received nan"),
    ],
)
def test_bad_input_is_one_line(predictor, images, size, message):
    with pytest.raises(BenchError, match=message) as caught:
        segment_array(predictor, images, size)
    assert "\n" not in str(caught.value)
    assert not predictor.seen


def test_circles_need_a_pixel_size_and_are_those_of_the_maps(predictor, monkeypatch):
    """A dark ring around a bright disc is a vesicle of 15 nm; a speck is none."""
    monkeypatch.setattr(predictor, "recipe", replace(Threshold.recipe, circles=SphereSettings()))
    y, x = np.ogrid[:48, :48]
    distance = np.hypot(y - 23.4, x - 24.2)
    # What stands for the model finds what is bright: the disc within the membrane.
    image = np.where(distance <= 9, 200, 90).astype(np.float32)
    image -= 60 * np.exp(-(((distance - 9) / 2) ** 2))
    image[2, 2] = 200
    with pytest.raises(BenchError, match="without a pixel size: state it"):
        segment_array(predictor, image, None)
    assert not predictor.seen
    found = segment_array(predictor, image, 2.0)["instances"]
    assert found[2, 2] == 0
    assert found.max() == 1
    expected = distance <= 10
    assert np.count_nonzero((found > 0) != expected) < 0.15 * np.count_nonzero(expected)
