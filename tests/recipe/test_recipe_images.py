import numpy as np
import pytest

from bench.errors import BenchError
from bench.inference.prediction import SectionPrediction
from bench.recipe.predictor import RecipePredictor, segment_array


class Threshold:
    """Stands for a recipe: foreground is where the image is bright, its level the grey value."""

    infos = ()
    recipe = None

    def __init__(self):
        self.seen = []
        self.recipe = self
        self.rescale = True

    def predict(self, raw, pixel_size_nm, folder, advance):
        self.seen.append((raw.dtype, pixel_size_nm, raw.copy()))
        folder.mkdir()
        return SectionPrediction((raw > 100).astype(np.uint8) * 255)

    def segment(self, prediction, pixel_size_nm):
        labels = (prediction.foreground > 0).astype(np.int32) * 7
        return type("Instances", (), {"labels": labels})


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
    expected = np.array([[0, 7, 0, 0, 0], [7, 0, 7, 0, 0]])
    np.testing.assert_array_equal(one["instances"], expected)
    np.testing.assert_array_equal(one["probability"], expected > 0)
    assert (one["instances"].dtype, one["probability"].dtype) == (np.int32, np.float32)
    for name, pixels in one.items():
        np.testing.assert_array_equal(several[name], np.stack([pixels, pixels[::-1]]))
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
