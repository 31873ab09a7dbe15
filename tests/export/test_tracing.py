import numpy as np
import pytest
from matplotlib.path import Path as Polygon

from bench.export.instances import trace_outlines


def fill(outlines, shape):
    """Even-odd fill at pixel centres, by a point-in-polygon test that knows no pixel grid."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    centres = np.column_stack([x.ravel(), y.ravel()])
    inside = np.zeros(len(centres), bool)
    for outline in outlines:
        closed = np.vstack([outline, outline[:1]])
        inside ^= Polygon(closed, closed=True).contains_points(centres)
    return inside.reshape(shape)


def test_a_rectangle_has_four_corners():
    mask = np.zeros((5, 7), bool)
    mask[1:3, 2:6] = True
    (outline,) = trace_outlines(mask)
    assert sorted(map(tuple, outline.tolist())) == [(2, 1), (2, 3), (6, 1), (6, 3)]


def test_a_hole_is_an_outline_of_its_own():
    mask = np.ones((5, 5), bool)
    mask[2, 2] = False
    assert len(trace_outlines(mask)) == 2


def test_an_empty_mask_has_no_outlines():
    assert trace_outlines(np.zeros((4, 4), bool)) == []


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
def test_outlines_fill_to_the_mask(share):
    # Random pixels have diagonal neighbours, holes and islands in holes.
    mask = np.random.default_rng(7).random((23, 31)) < share
    assert np.array_equal(fill(trace_outlines(mask), mask.shape), mask)
