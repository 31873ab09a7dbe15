"""What is said of objects that were left out, made up, or drawn at the wrong place."""

import numpy as np
import pytest

from bench.advice.suspects import (
    BADLY_DRAWN,
    EXTRA_OBJECT,
    MISSING_OBJECT,
    judge_section,
    rank_suspects,
    usual_area,
)


def disc(y, x, radius, side=200):
    ys, xs = np.ogrid[:side, :side]
    return (ys - y) ** 2 + (xs - x) ** 2 <= radius**2


CENTRES = [(30, 30), (30, 100), (30, 170), (100, 30), (100, 100), (100, 170), (170, 30)]
TRUE = np.any([disc(y, x, 14) for y, x in CENTRES], axis=0)
# Models are sure inside, less so at the outline.
FOUND = np.rint(
    255
    * np.clip(
        0.5 + 0.06 * (sum(disc(y, x, 14 + d) for y, x in CENTRES for d in range(-7, 8)) - 8),
        0.03,
        0.95,
    )
).astype(np.uint8)


def draw(centres):
    labels = np.zeros((200, 200), np.uint8)
    for number, (y, x) in enumerate(centres, start=1):
        labels[disc(y, x, 14)] = number
    return labels


def judge(labels, found=FOUND, ignored=None):
    area = usual_area([labels])
    judged = judge_section(
        "s1", labels=labels, probability=found, ignored=ignored, usual_area_px=area
    )
    return rank_suspects(judged)


def test_what_is_drawn_well_is_not_doubted():
    listed = judge(draw(CENTRES))
    assert {each.id for each in listed} == set(range(1, 8))
    assert max(each.doubt for each in listed) < 0.3
    assert min(each.agreement for each in listed) > 0.95


def test_planted_errors_come_first_and_are_called_what_they_are():
    labels = draw([*CENTRES[1:-1], (182, 44), (170, 170)])  # one gone, one shifted, one made up
    first = judge(labels)[:3]
    assert {each.kind for each in first} == {MISSING_OBJECT, BADLY_DRAWN, EXTRA_OBJECT}
    by_kind = {each.kind: each for each in first}
    assert by_kind[MISSING_OBJECT].id == 0
    assert np.allclose(by_kind[MISSING_OBJECT].centre, CENTRES[0], atol=1)
    assert by_kind[BADLY_DRAWN].id == 6
    assert by_kind[EXTRA_OBJECT].id == 7
    # What models would draw in place of it: all of the true object.
    assert by_kind[BADLY_DRAWN].area_px == pytest.approx(disc(170, 30, 14).sum(), rel=0.1)
    assert first[-1].doubt > 2 * judge(labels)[3].doubt


def test_a_missing_object_that_touches_another_is_one_by_itself():
    found = FOUND.copy()
    found[disc(30, 57, 13)] = 240
    (first, *_) = judge(draw(CENTRES), found)
    assert first.kind == MISSING_OBJECT
    assert first.centre[1] == pytest.approx(57, abs=2)


def test_a_rim_is_no_object():
    listed = judge(draw(CENTRES), np.where(FOUND > 40, 250, 10).astype(np.uint8))
    assert {each.kind for each in listed} == {BADLY_DRAWN}


def test_what_nobody_annotated_is_not_judged():
    ignored = np.zeros((200, 200), bool)
    ignored[:60] = True
    labels = draw(CENTRES)
    labels[:60] = 0
    assert {each.id for each in judge(labels, ignored=ignored)} == {4, 5, 6, 7}


def test_a_network_is_judged_in_squares():
    """Membrane is one object through the section: where a part of it is left out is said."""
    grid = np.zeros((200, 200), bool)
    grid[::40] = grid[:, ::40] = True
    grid[1::40] = grid[:, 1::40] = grid[2::40] = grid[:, 2::40] = True
    found = np.where(grid, 240, 10).astype(np.uint8)
    labels = grid.astype(np.uint8)
    labels[83:119, 118:124] = 0
    listed = judge(labels, found)
    assert len(listed) > 20
    assert {each.id for each in listed} == {0, 1}
    assert listed[0].kind == MISSING_OBJECT
    assert np.allclose(listed[0].centre, (101, 121), atol=3)


def test_nothing_at_all():
    nothing = np.zeros((50, 50), np.uint8)
    assert judge(nothing, nothing) == []
    assert (
        judge(nothing, np.where(disc(20, 20, 9, 50), 250, 0).astype(np.uint8))[0].kind
        == MISSING_OBJECT
    )
