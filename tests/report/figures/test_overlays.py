import numpy as np
import pytest

from bench.core.pixels import shrink_factor, shrink_image, shrink_labels, stretch_contrast
from bench.errors import BenchError
from bench.report.figures.overlays import (
    ERROR_CLASSES,
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    PREDICTION_COLOUR,
    TINT,
    TRUE_POSITIVE,
    TRUTH_COLOUR,
    classify_pixels,
    draw_outlines,
    draw_overlay,
    find_outlines,
)

TRUTH = np.array([[0, 0], [7, 7]])
PREDICTION = np.array([[0, 3], [0, 1]])


def test_every_pixel_has_its_class():
    classes = classify_pixels(truth=TRUTH, prediction=PREDICTION)
    assert classes.tolist() == [[0, FALSE_POSITIVE], [FALSE_NEGATIVE, TRUE_POSITIVE]]
    swapped = classify_pixels(truth=PREDICTION != 0, prediction=TRUTH != 0)
    assert swapped.tolist() == [[0, FALSE_NEGATIVE], [FALSE_POSITIVE, TRUE_POSITIVE]]


def test_overlay_mixes_grey_and_the_colour_of_the_class():
    overlay = draw_overlay(np.full((2, 2), 9, np.uint8), truth=TRUTH, prediction=PREDICTION)
    assert overlay.dtype == np.uint8
    assert overlay[0, 0].tolist() == [128, 128, 128]
    for pixel, key in (
        ((0, 1), FALSE_POSITIVE),
        ((1, 0), FALSE_NEGATIVE),
        ((1, 1), TRUE_POSITIVE),
    ):
        colour = np.array(ERROR_CLASSES[key][1])
        assert overlay[pixel].tolist() == np.rint(128 + TINT * (colour - 128)).tolist()


def test_overlay_keeps_the_section_visible_under_the_tint():
    raw = np.tile(np.linspace(0, 1000, 64), (64, 1))
    everywhere = np.ones((64, 64), bool)
    overlay = draw_overlay(raw, truth=everywhere, prediction=everywhere).astype(int)
    assert (overlay[:, -1] - overlay[:, 0] > 80).all()


def test_a_shrunk_overlay_tints_a_block_in_proportion():
    truth = np.zeros((4, 4), bool)
    truth[:2, 0] = True
    overlay = draw_overlay(np.zeros((4, 4)), truth=truth, prediction=truth, factor=2)
    colour = np.array(ERROR_CLASSES[TRUE_POSITIVE][1])
    assert overlay.shape == (2, 2, 3)
    assert overlay[0, 0].tolist() == np.rint(128 + TINT / 2 * (colour - 128)).tolist()
    assert overlay[1, 1].tolist() == [128, 128, 128]


def test_the_arguments_are_left_as_they_were():
    raw, truth = np.arange(4.0).reshape(2, 2), TRUTH.copy()
    draw_overlay(raw, truth=truth, prediction=PREDICTION)
    assert raw.tolist() == [[0, 1], [2, 3]]
    assert (truth == TRUTH).all()


@pytest.mark.parametrize(
    ("raw", "prediction"),
    [((3, 2), (2, 2)), ((2, 2), (2, 3)), ((2, 2, 3), (2, 2))],
)
def test_shapes_that_differ_are_refused(raw, prediction):
    with pytest.raises(BenchError, match="one shape"):
        draw_overlay(np.zeros(raw), truth=TRUTH, prediction=np.zeros(prediction))


@pytest.mark.parametrize(
    "dtype", [bool, np.uint8, np.uint16, np.int16, np.int32, np.float16, np.float32, np.float64]
)
def test_contrast_takes_any_bit_depth_and_constant_images(dtype):
    ramp = stretch_contrast(np.arange(100).reshape(10, 10).astype(dtype))
    assert ramp.dtype == np.uint8
    assert (ramp.min(), ramp.max()) == (0, 255)
    constant = stretch_contrast(np.full((5, 5), 1, dtype))
    assert (constant == 128).all()


def test_contrast_does_not_follow_a_hot_pixel():
    raw = np.random.default_rng(0).normal(100, 10, (100, 100))
    raw[0, 0] = 1e6
    assert stretch_contrast(raw).std() > 40


def test_contrast_of_few_values_uses_their_range():
    raw = np.zeros((100, 100), np.uint16)
    raw[3, 4] = 60000
    assert stretch_contrast(raw)[3, 4] == 255


def test_contrast_of_large_numbers_is_kept():
    raw = np.array([[0, 1], [2, 3]]) + 2_000_000_000
    assert len(np.unique(stretch_contrast(raw.astype(np.int32)))) == 4


def test_pixels_that_are_not_finite_are_black():
    raw = np.arange(16, dtype=np.float32).reshape(4, 4)
    raw[1, 1], raw[2, 2] = np.nan, np.inf
    stretched = stretch_contrast(raw)
    assert stretched[1, 1] == stretched[2, 2] == 0
    assert stretched[3, 3] == 255
    assert (stretch_contrast(np.full((2, 2), np.nan)) == 0).all()


def test_outlines_are_the_rim_and_the_line_between_touching_instances():
    labels = np.zeros((5, 7), int)
    labels[:, 0:4] = 1
    labels[:, 4:6] = 2
    outlines = find_outlines(labels)
    assert outlines.astype(int).tolist() == [[0, 0, 0, 1, 1, 1, 0]] * 5


def test_outlines_widen_inwards():
    labels = np.zeros((9, 9), int)
    labels[1:8, 1:8] = 5
    drawn = draw_outlines(np.zeros((9, 9, 3), np.uint8), labels, (1, 2, 3), width_px=2)
    inside = np.zeros((9, 9), bool)
    inside[1:8, 1:8], inside[3:6, 3:6] = True, False
    assert ((drawn == (1, 2, 3)).all(axis=2) == inside).all()


@pytest.mark.parametrize(
    ("colour", "rim"), [(TRUTH_COLOUR, 0), (PREDICTION_COLOUR, 255), ((0, 114, 178), 255)]
)
def test_an_outline_has_a_rim_so_that_it_is_seen_on_any_grey(colour, rim):
    labels = np.zeros((15, 15), int)
    labels[3:12, 3:12] = 1
    drawn = draw_outlines(np.full((15, 15, 3), 77, np.uint8), labels, colour)
    around = drawn[7]
    assert [tuple(pixel) for pixel in around[1:6]] == [
        *((77,) * 3, (rim,) * 3, colour, (rim,) * 3, (77,) * 3)
    ]


def test_shrinking_averages_images_and_keeps_small_instances():
    image = np.array([[0, 4, 9], [8, 4, 9], [9, 9, 9]])
    assert shrink_image(image, 2).tolist() == [[4.0]]
    assert shrink_image(np.uint8(image), 2).dtype == np.uint8
    assert shrink_labels(np.array([[0, 0, 1, 1], [0, 6, 1, 2]]), 2).tolist() == [[6, 2]]


def test_the_factor_brings_the_longer_side_within_the_limit():
    assert shrink_factor((100, 50), 100) == 1
    assert shrink_factor((101, 50), 100) == 2
    assert shrink_factor((50, 7000), 1000) == 7
    assert shrink_factor((3, 7000), 1000) == 3
