import numpy as np
import pytest

from bench.errors import BenchError
from bench.report.figures.crops import PANELS, choose_crop, draw_crop
from bench.report.figures.overlays import PREDICTION_COLOUR, TRUTH_COLOUR


def disc(shape, y, x, radius):
    ys, xs = np.ogrid[: shape[0], : shape[1]]
    return (ys - y) ** 2 + (xs - x) ** 2 <= radius**2


@pytest.fixture
def section():
    """Two large objects of 1500 x 1300 px; the second is missed, the first is shifted by 3 px."""
    truth = np.zeros((1500, 1300), np.uint16)
    prediction = truth.copy()
    truth[disc(truth.shape, 200, 300, 60)] = 1
    truth[disc(truth.shape, 1200, 1000, 60)] = 2
    prediction[disc(truth.shape, 203, 300, 60)] = 1
    return truth, prediction


def test_the_crop_has_most_of_what_differs(section):
    truth, prediction = section
    crop = choose_crop(truth=truth, prediction=prediction)
    wrong = (truth > 0) != (prediction > 0)
    assert (crop.height, crop.width, crop.zoom) == (512, 512, 1)
    assert wrong[crop.view].sum() == (truth == 2).sum()
    # Within the section, as it lies near the end.
    assert crop.top + crop.height <= 1500
    assert crop.left + crop.width <= 1300


def test_no_window_of_the_grid_has_more():
    random = np.random.default_rng(0)
    truth = random.random((300, 280)) < 0.02
    truth[40:60, 200:230] = True
    prediction = np.zeros_like(truth)
    crop = choose_crop(truth=truth, prediction=prediction)
    side = crop.height
    sums = [
        truth[top : top + side, left : left + side].sum()
        for top in range(0, 300 - side + 1, side // 16)
        for left in range(0, 280 - side + 1, side // 16)
    ]
    assert crop.zoom == 2
    assert truth[crop.view].sum() >= max(sums)


def test_where_all_is_right_the_crop_shows_the_objects(section):
    truth, _ = section
    crop = choose_crop(truth=truth, prediction=truth)
    assert (truth[crop.view] > 0).any()
    nothing = np.zeros((40, 3000), bool)
    crop = choose_crop(truth=nothing, prediction=nothing)
    assert (crop.top, crop.left, crop.height) == (0, 0, 40)


@pytest.mark.parametrize(("radius", "zoom"), [(3, 4), (8, 2), (14, 1)])
def test_small_objects_are_enlarged(radius, zoom):
    truth = np.zeros((1000, 1000), np.uint8)
    truth[disc(truth.shape, 500, 500, radius)] = 1
    crop = choose_crop(truth=truth, prediction=truth > 1)
    assert (crop.zoom, crop.width * zoom) == (zoom, 512)


def test_specks_beside_a_membrane_do_not_enlarge_it():
    truth = np.zeros((1000, 1000), np.uint8)
    truth[400:600] = 1
    for number in range(2, 40):
        truth[10, 20 * number] = number
    assert choose_crop(truth=truth, prediction=truth == 1).zoom == 1


def test_panels_are_pixels_of_the_section_with_outlines(section):
    truth, prediction = section
    raw = np.random.default_rng(0).integers(0, 255, truth.shape, dtype=np.uint8)
    crop = choose_crop(truth=truth, prediction=prediction)
    panels = draw_crop(raw, truth=truth, prediction=prediction, crop=crop, pixel_size_nm=None)
    assert tuple(panels) == PANELS
    assert {image.shape for image in panels.values()} == {(512, 512, 3)}
    annotation, predicted = (
        (panels[name] == colour).all(axis=2)
        for name, colour in zip(PANELS, (TRUTH_COLOUR, PREDICTION_COLOUR), strict=False)
    )
    assert annotation.any()
    assert not predicted.any()
    ys, xs = np.nonzero(annotation)
    assert ys.min() + crop.top == 1200 - 60
    assert xs.max() + crop.left == 1000 + 60


def test_an_enlarged_crop_has_its_scale_and_its_place():
    truth = np.zeros((1000, 1000), np.uint8)
    truth[disc(truth.shape, 500, 500, 3)] = 1
    crop = choose_crop(truth=truth, prediction=truth)
    assert str(crop).endswith("px, enlarged 4 times")
    plain, scaled = (
        draw_crop(truth, truth=truth, prediction=truth, crop=crop, pixel_size_nm=size)["Errors"]
        for size in (None, 8.0)
    )
    changed = np.nonzero((plain != scaled).any(axis=2))
    # A quarter of 512 px of 2 nm is 256 nm: the bar is 200 nm, 100 px.
    rows = changed[0].max() - 1
    assert (scaled[rows] == 255).all(axis=1).sum() == pytest.approx(100, abs=3)


def test_shapes_that_differ_are_refused():
    with pytest.raises(BenchError, match="one shape"):
        choose_crop(truth=np.zeros((5, 5)), prediction=np.zeros((5, 6)))
