import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.ingest.annotations.drawing import Disc, Outline
from bench.ingest.annotations.trakem2.geometry import (
    compose,
    flatten_curve,
    invert,
    parse_curve,
    parse_matrix,
    parse_number,
    parse_polygons,
    transform_disc,
    transform_points,
)

numbers = st.floats(-100, 100)
matrices = st.tuples(*[numbers] * 6).map(lambda n: np.array(n).reshape(2, 3))
POINTS = np.array([(0, 0), (1, 0), (0, 1), (-3.5, 20), (400, -7)], float)


@given(matrices, matrices)
def test_composing_is_applying_one_after_the_other(outer, inner):
    expected = transform_points(outer, transform_points(inner, POINTS))
    composed = transform_points(compose(outer, inner), POINTS)
    np.testing.assert_allclose(composed, expected, rtol=1e-9, atol=1e-6)


@given(matrices, matrices, matrices)
def test_composing_is_associative(first, second, third):
    left = compose(compose(first, second), third)
    np.testing.assert_allclose(left, compose(first, compose(second, third)), rtol=1e-9, atol=1e-6)


@given(
    st.floats(0.1, 10),
    st.floats(-math.pi, math.pi),
    st.floats(0.1, 10),
    st.floats(-2, 2),
    st.floats(-1e4, 1e4),
)
def test_an_inverse_undoes(scale, angle, stretch, shear, shift):
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = scale * turn @ np.array([[1, shear], [0, stretch]])
    matrix = np.column_stack([linear, [shift, -shift]])
    undone = transform_points(invert(matrix), transform_points(matrix, POINTS))
    np.testing.assert_allclose(undone, POINTS, atol=1e-6)


def test_a_flat_transform_has_no_inverse():
    with pytest.raises(ValueError, match="can be undone"):
        invert(np.array([[1.0, 2, 5], [2, 4, 6]]))


def test_a_matrix_is_written_by_columns():
    # TrakEM2: x' = 2x + 4y + 6, y' = 3x + 5y + 7
    matrix = parse_matrix("matrix(2.0,3.0,4.0,5.0,6.0,7.0)")
    np.testing.assert_array_equal(
        transform_points(matrix, np.array([[10.0, 100.0]])), [[20 + 400 + 6, 30 + 500 + 7]]
    )


@pytest.mark.parametrize("text", ["matrix(1,2,3)", "", "matrix(1,0,0,1,nan,0)", "scale(2)"])
def test_other_transforms_are_refused(text):
    with pytest.raises(ValueError, match="received"):
        parse_matrix(text)


@pytest.mark.parametrize(
    "text",
    [
        "M 0 1 L 2.5 -3 L 1.0E1 4 z",
        " M 0 1 L 2.5 -3 L 10 4 z\n",
        "M 0,1 L 2.5,-3 L 10,4 Z",
        "M0 1L2.5 -3L10 4z",
    ],
)
def test_paths_are_read_as_they_are_written(text):
    (polygon,), dropped = parse_polygons(text)
    np.testing.assert_array_equal(polygon, [(0, 1), (2.5, -3), (10, 4)])
    assert dropped == 0


def test_several_polygons_of_a_path_are_told_apart():
    polygons, dropped = parse_polygons("M 0 0 L 1 0 L 1 1 z M 5 5 L 6 6 M 2 2 L 3 2 L 3 3 z")
    assert [polygon[0].tolist() for polygon in polygons] == [[0, 0], [2, 2]]
    assert dropped == 1


@pytest.mark.parametrize(
    "text",
    [
        "M 1 2 3 z",
        "M 1 nan L 2 3 z",
        "M 1 1e12 L 2 3 z",
        "M 1 a L 2 3 z",
        "1 2 L 3 4 z",
        "M 1 2 C 3 4 5 6 7 8 z",
    ],
)
def test_what_is_no_path_is_refused(text):
    with pytest.raises(ValueError, match="received"):
        parse_polygons(text)


@pytest.mark.parametrize("text", ["", "inf", "-inf", "nan", "1e10", "0x10", "five"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match="finite numbers"):
        parse_number(text)


def bezier(segment, t):
    """Halves of halves (de Casteljau)."""
    points = segment
    while len(points) > 1:
        points = [(1 - t) * one + t * two for one, two in pairwise(points)]
    return points[0]


def distance_to_polygon(point, corners):
    starts, ends = corners, np.roll(corners, -1, axis=0)
    runs = ends - starts
    lengths = np.maximum((runs**2).sum(axis=1), 1e-300)
    along = np.clip(((point - starts) * runs).sum(axis=1) / lengths, 0, 1)
    return np.hypot(*(starts + along[:, None] * runs - point).T).min()


@pytest.mark.parametrize("size", [3, 60, 1500])
def test_a_flattened_curve_is_within_a_twentieth_of_a_pixel(size):
    points = np.random.default_rng(size).uniform(0, size, (9, 2))
    words = [f"{x},{y}" for x, y in points]
    text = f"M {words[0]} C {' '.join(words[1:4])} C {' '.join(words[4:7])} C "
    segments = parse_curve(text + f"{words[7]} {words[8]} {words[0]} z")
    assert segments.shape == (3, 4, 2)
    corners = flatten_curve(segments)
    samples = [bezier(list(segment), t) for segment in segments for t in np.linspace(0, 1, 200)]
    assert max(distance_to_polygon(point, corners) for point in samples) < 0.05


def test_an_open_curve_has_no_area():
    assert parse_curve("M 0,0 C 1,1 2,1 3,0") is None


def test_curves_of_another_form_are_refused():
    with pytest.raises(ValueError, match="M x,y C"):
        parse_curve("M 0,0 C 1,1 2,1 z")


def test_a_circle_stays_one_when_it_is_turned_scaled_and_mirrored():
    disc = transform_disc(parse_matrix("matrix(0,2,2,0,10,20)"), 3, 4, 5)
    assert isinstance(disc, Disc)
    assert (disc.x, disc.y, disc.radius) == pytest.approx((18, 26, 10))


def test_a_stretched_circle_is_an_ellipse():
    shape = transform_disc(parse_matrix("matrix(3,0,0,1,100,0)"), 10, 20, 40)
    assert isinstance(shape, Outline)
    (ring,) = shape.rings
    radii = np.hypot((ring[:, 0] - 130) / 3, ring[:, 1] - 20)
    np.testing.assert_allclose(radii, 40)
    x, y = ring.T
    area = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
    assert area == pytest.approx(math.pi * 120 * 40, rel=1e-3)
