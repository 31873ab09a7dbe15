import math

import numpy as np
import pytest

from bench.correction.changes import EditCounts
from bench.correction.sphere_edits import SphereEdits
from bench.errors import BenchError
from bench.export.sphere_table import SphereRow

SHAPE = (24, 30, 36)


def ball(center, radius, shape=SHAPE):
    z, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]]
    return (z - center[0]) ** 2 + (y - center[1]) ** 2 + (x - center[2]) ** 2 <= radius**2


@pytest.fixture
def rows():
    return [
        SphereRow("t", 1, 6, 8, 8, 5.0, p=0.5),
        SphereRow("t", 2, 6, 8, 25, 4.0, p=0.01),
        SphereRow("t", 7, 15, 20, 10, 4.5, p=math.nan),
        SphereRow("t", 2, 18, 5, 5, 3.0, p=0.002, kept=False, reason="outlier"),
        SphereRow("t", 12, 18, 25, 30, 3.0, p=0.003, kept=False, reason="too small"),
    ]


@pytest.fixture
def edits(rows):
    labels = np.zeros(SHAPE, np.uint16)
    for row in rows[:3]:
        labels[ball(row.centre, row.radius)] = row.id
    # One that is no ball: nobody touches it.
    labels[15, 20, 16:22] = 7
    return SphereEdits(labels, rows, pixel_size_nm=2.0, volume="t")


def test_the_most_doubtful_come_first(edits):
    assert [row.id for row in edits.list_by_doubt()] == [2, 1, 7]
    # Of what was left out the most likely; the id of a kept one is not taken twice.
    assert [row.p for _, row in edits.list_removed()] == [0.003, 0.002]
    keys = [key for key, _ in edits.list_removed()]
    assert keys[0] == 12
    assert keys[1] not in (1, 2, 7, 12)


def test_without_p_a_radius_that_is_off_is_doubtful():
    rows = [SphereRow("t", n, 5, 5, 5, radius) for n, radius in enumerate((8, 8.2, 7.9, 4, 8.1), 1)]
    edits = SphereEdits(np.zeros((9, 9, 9), np.uint16), rows)
    first, *others = edits.list_by_doubt()
    assert first.id == 4
    assert edits.doubt(first) < 1e-6
    assert all(edits.doubt(row) > 0.05 for row in others)
    # The table stays without a p that nobody measured.
    assert all(math.isnan(row.p) for row in edits.table())


def test_one_is_removed_and_comes_back(edits):
    before = edits.labels.copy()
    edits.remove(7)
    assert not (edits.labels == 7).any()
    np.testing.assert_array_equal(edits.labels[before != 7], before[before != 7])
    assert edits.count() == EditCounts(removed=1)
    assert 7 not in edits.rows
    assert edits.undo() == 7
    # With the voxels that were no ball.
    np.testing.assert_array_equal(edits.labels, before)
    assert edits.count() == EditCounts()
    assert edits.redo() == 7
    assert not (edits.labels == 7).any()
    edits.restore(7)
    np.testing.assert_array_equal(edits.labels == 7, ball((15, 20, 10), 4.5))


def test_one_is_resized_where_no_other_lies(edits):
    before = edits.labels.copy()
    for _ in range(16):
        edits.resize(1, 1.0)
    assert edits.rows[1].radius == 21
    assert edits.rows[1].radius_nm == 42
    assert edits.rows[1].status == "resized"
    others = np.isin(before, (2, 7))
    np.testing.assert_array_equal(edits.labels[others], before[others])
    np.testing.assert_array_equal(edits.labels == 1, ball((6, 8, 8), 21) & ~others)
    assert edits.count() == EditCounts(changed=1)
    edits.resize(1, -100)
    assert edits.rows[1].radius == 1
    np.testing.assert_array_equal(edits.labels == 1, ball((6, 8, 8), 1))
    for _ in range(17):
        edits.undo()
    np.testing.assert_array_equal(edits.labels, before)
    assert edits.undo() is None


def test_a_size_that_is_the_old_one_again_is_no_change(edits):
    edits.resize(2, 0.5)
    edits.resize(2, -0.5)
    assert edits.count() == EditCounts()
    assert edits.unsaved


def test_one_is_added_where_none_is(edits):
    before = edits.labels.copy()
    number = edits.add((16, 22, 28))
    assert number > 12
    row = edits.rows[number]
    assert (row.centre, row.status) == ((16, 22, 28), "added, not fitted")
    # As large as the others are.
    assert row.radius == 4.5
    np.testing.assert_array_equal(edits.labels == number, ball((16, 22, 28), 4.5) & (before == 0))
    with pytest.raises(BenchError, match=rf"received a place in vesicle {number}: click else"):
        edits.add((16, 22, 29))
    with pytest.raises(BenchError, match="received a place in the outside of the volume"):
        edits.add((16, 22, 40))
    assert edits.count() == EditCounts(added=1)
    edits.undo()
    np.testing.assert_array_equal(edits.labels, before)
    # What was never saved is not kept as removed.
    assert number not in dict(edits.list_removed())
    edits.redo()
    edits.resize(number, 1)
    assert edits.count() == EditCounts(added=1)
    edits.remove(number)
    assert edits.count() == EditCounts()


def test_it_is_fitted_at_once(rows):
    asked = []

    def fit(place, radius):
        asked.append((place, radius))
        return SphereRow("", 0, 4.0, 5.0, 6.0, 2.5, density=-1.5) if len(asked) == 1 else None

    edits = SphereEdits(np.zeros(SHAPE, np.uint16), rows, fit=fit)
    row = edits.rows[edits.add((3.0, 5.0, 6.0))]
    assert (row.centre, row.radius, row.status) == ((4.0, 5.0, 6.0), 2.5, "added")
    assert (row.volume, row.density) == ("", -1.5)
    assert asked == [((3.0, 5.0, 6.0), 4.5)]
    assert edits.rows[edits.add((20.0, 25.0, 20.0))].status == "added, not fitted"


def test_what_a_program_left_out_is_put_back(edits):
    (key, row), *_ = edits.list_removed()
    edits.restore(key)
    assert edits.rows[key].status == "restored"
    assert edits.count() == EditCounts(added=1)
    np.testing.assert_array_equal(edits.labels == key, ball(row.centre, row.radius))
    edits.undo()
    assert dict(edits.list_removed())[key].reason == "too small"
    with pytest.raises(BenchError, match="must have been removed, received id 1:"):
        edits.restore(1)
    with pytest.raises(BenchError, match="must be there, received id 99:"):
        edits.remove(99)


def test_the_table_keeps_what_was_removed_with_its_reason(edits):
    edits.remove(1)
    edits.remove(edits.add((16, 22, 28)))
    table = {row.id: row for row in edits.table()}
    assert [row.id for row in table.values() if row.kept] == [2, 7]
    assert table[1].reason == "removed by hand"
    assert table[12].reason == "too small"
    assert len(table) == 5


def test_what_is_unsaved_is_known_through_undo_and_redo(edits):
    assert not edits.unsaved
    edits.remove(1)
    edits.mark_saved()
    assert not edits.unsaved
    edits.undo()
    assert edits.unsaved
    edits.redo()
    assert not edits.unsaved
    edits.undo()
    edits.remove(2)
    assert edits.unsaved
    edits.undo()
    assert edits.redo() == 2
    assert edits.redo() is None


@pytest.mark.parametrize("seed", range(6))
def test_all_edits_can_be_undone_and_done_again(edits, seed):
    random = np.random.default_rng(seed)
    states = [(edits.labels.copy(), dict(edits.rows), dict(edits.removed))]
    while len(states) < 25:
        kind = random.choice(["add", "remove", "resize", "restore"])
        try:
            if kind == "add":
                edits.add(tuple(random.uniform(0, np.array(SHAPE) - 1)))
            elif kind == "restore":
                edits.restore(int(random.choice(list(edits.removed))))
            else:
                chosen = int(random.choice(list(edits.rows)))
                edits.remove(chosen) if kind == "remove" else edits.resize(
                    chosen, random.normal(0, 2)
                )
        except (BenchError, ValueError):
            continue
        states.append((edits.labels.copy(), dict(edits.rows), dict(edits.removed)))
    for labels, rows, removed in states[-2::-1]:
        edits.undo()
        np.testing.assert_array_equal(edits.labels, labels)
        assert (edits.rows, edits.removed) == (rows, removed)
    for labels, rows, _ in states[1:]:
        edits.redo()
        np.testing.assert_array_equal(edits.labels, labels)
        assert edits.rows == rows
        assert set(np.unique(labels)) - {0} <= set(rows)
