"""Drawing shapes: against a loop over pixels, and by hand."""

import numpy as np
import pytest

from bench.ingest.annotations.drawing import Disc, DrawnObject, Outline, Painted
from bench.ingest.annotations.rasterise import draw_labels

SIZE = (17, 21)


def square(low: float, high: float) -> np.ndarray:
    return np.array([(low, low), (high, low), (high, high), (low, high)])


def draw(shape, size=SIZE, origin=(0.0, 0.0)) -> np.ndarray:
    return (
        draw_labels([DrawnObject("a", "vesicle", {0: (shape,)})], 0, size, origin=origin).labels > 0
    )


def draw_by_loop(rings, size) -> np.ndarray:
    """Counts, for every pixel centre, the edges at or left of it."""
    mask = np.zeros(size, bool)
    for row, column in np.ndindex(size):
        x, y = column + 0.5, row + 0.5
        for ring in rings:
            for (x1, y1), (x2, y2) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
                if (y1 <= y) != (y2 <= y) and x1 + (y - y1) * (x2 - x1) / (y2 - y1) <= x:
                    mask[row, column] = not mask[row, column]
    return mask


@pytest.mark.parametrize("seed", range(40))
def test_outlines_agree_with_a_loop_over_pixels(seed):
    generator = np.random.default_rng(seed)
    # Half pixels put corners and edges onto pixel centres; some reach beyond the image.
    rings = tuple(
        np.round(generator.uniform(-5, 25, (generator.integers(3, 9), 2)) * 2) / 2
        for _ in range(generator.integers(1, 4))
    )
    np.testing.assert_array_equal(draw(Outline(rings)), draw_by_loop(rings, SIZE))


def test_a_hole_is_cut_out():
    mask = draw(Outline((square(2, 12), square(5, 8))))
    assert mask.sum() == 100 - 9
    assert not mask[5:8, 5:8].any()


def test_touching_squares_share_no_pixel_even_on_centres():
    left, right = square(0.5, 4.5), square(0.5, 4.5) + np.array([4, 0])
    masks = [draw(Outline((ring,))) for ring in (left, right)]
    assert [mask.sum() for mask in masks] == [16, 16]
    assert not (masks[0] & masks[1]).any()


@pytest.mark.parametrize("radius", [0.3, 1.0, 2.5, 6.0])
def test_a_disc_has_the_pixels_whose_centres_are_within_its_radius(radius):
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    expected = (columns - 7.25) ** 2 + (rows - 3.5) ** 2 <= radius**2
    np.testing.assert_array_equal(draw(Disc(7.25, 3.5, radius)), expected)


def test_origin_moves_the_image_under_the_shapes():
    ring = square(30, 36)
    np.testing.assert_array_equal(
        draw(Outline((ring,)), origin=(25.0, 28.0)), draw(Outline((ring - (25, 28),)))
    )


def test_painted_pixels_are_cut_at_the_border():
    painted = Painted(-2, 18, np.ones((5, 6), bool))
    mask = draw(painted)
    assert mask.sum() == 3 * 3
    assert mask[:3, 18:].all()
    assert not draw(Painted(30, 0, np.ones((2, 2), bool))).any()
    drawn = draw_labels([DrawnObject("a", "vesicle", {0: (painted,)})], 0, SIZE)
    assert drawn.cut == [1]


def test_nothing_is_drawn_of_shapes_outside_and_of_degenerate_ones():
    assert not draw(Outline((square(100, 110),))).any()
    assert not draw(Outline((np.array([(1, 1), (5, 5)]),))).any()
    assert not draw(Outline(())).any()
    assert not draw(Disc(-9, -9, 2)).any()


def test_labels_report_overlap_cut_and_outside():
    shapes = [square(0, 6), square(4, 8), square(15, 30), square(50, 60)]
    objects = [
        DrawnObject(str(number), "vesicle", {2: (Outline((ring,)),)})
        for number, ring in enumerate(shapes)
    ]
    drawn = draw_labels(objects, 2, SIZE)
    assert drawn.overlapping_px == 4
    assert drawn.covered == {1: 4}
    assert (drawn.labels == 1).sum() == 32
    assert (drawn.labels == 2).sum() == 16
    assert drawn.cut == [3]
    assert drawn.outside == [4]
    assert not draw_labels(objects, 1, SIZE).labels.any()


def test_parts_of_one_object_unite():
    parts = (Outline((square(0, 6),)), Outline((square(4, 8),)), Disc(3, 3, 2))
    drawn = draw_labels([DrawnObject("a", "vesicle", {0: parts})], 0, SIZE)
    assert drawn.overlapping_px == 0
    assert (drawn.labels == 1).sum() == 36 + 16 - 4
