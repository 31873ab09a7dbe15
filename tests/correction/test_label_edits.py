import numpy as np
import pytest

from bench.correction.changes import EditCounts
from bench.correction.label_edits import LabelEdits
from bench.errors import BenchError


@pytest.fixture
def labels():
    labels = np.zeros((3, 20, 24), np.uint16)
    labels[0:2, 2:6, 2:6] = 1
    labels[1, 10, 10] = 40
    labels[2, 12:18, 8:20] = 7
    return labels


def test_specks_come_first(labels):
    found = LabelEdits(labels).list_objects()
    assert [(item.id, item.size, item.place[0]) for item in found] == [
        (40, 1, 1),
        (1, 32, 0),
        (7, 72, 2),
    ]
    for item in found:
        assert labels[item.place] == item.id
    assert LabelEdits(0 * labels).list_objects() == []


def test_what_was_painted_is_known(labels):
    edits = LabelEdits(labels)
    assert not edits.unsaved
    labels[edits.find_pixels(40)] = 0
    labels[2, 12, 8] = 0
    labels[0, 15:18, 15:18] = 99
    changes = {change.id: change.kind for change in edits.list_changes()}
    assert changes == {7: "changed", 40: "removed", 99: "added"}
    assert edits.count() == EditCounts(added=1, removed=1, changed=1)
    assert edits.unsaved
    edits.mark_saved()
    assert not edits.unsaved
    # Since the beginning, not since it was saved.
    assert edits.count() == EditCounts(added=1, removed=1, changed=1)


def test_one_that_moves_is_changed(labels):
    edits = LabelEdits(labels)
    labels[1, 10, 10] = 0
    labels[1, 10, 11] = 40
    assert edits.count() == EditCounts(changed=1)


def test_what_is_not_there_cannot_be_removed(labels):
    for number in (0, 5):
        with pytest.raises(BenchError, match=f"must be there, received id {number}"):
            LabelEdits(labels).find_pixels(number)
