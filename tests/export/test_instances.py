import numpy as np
import pytest

from bench.export.instances import list_instances


def test_instances_are_those_of_the_labels(ring_labels):
    found = list(list_instances(ring_labels))
    assert [(item.id, item.corner, item.mask.shape) for item in found] == [
        (3, (0, 2, 3), (2, 7, 8)),
        (8, (1, 0, 12), (1, 2, 2)),
        (300, (0, 5, 6), (1, 1, 1)),
    ]
    pixels = [np.count_nonzero(ring_labels == item.id) for item in found]
    assert [np.count_nonzero(item.mask) for item in found] == pixels


@pytest.mark.parametrize("factor", [1, 10**6, 4 * 10**8])
def test_ids_may_be_any_32_bit_number(ring_labels, factor):
    labels = np.minimum(ring_labels.astype(np.uint64) * factor, 2**32 - 1).astype(np.uint32)
    assert [item.id for item in list_instances(labels)] == np.unique(labels)[1:].tolist()
    boxes = [item.corner for item in list_instances(labels)]
    assert sorted(boxes) == sorted(item.corner for item in list_instances(ring_labels))


def test_background_has_none():
    assert list(list_instances(np.zeros((2, 3, 4), np.uint8))) == []


def test_rings_lie_where_the_instance_does(ring_labels):
    ring = next(list_instances(ring_labels))
    for expected, (number, rings) in enumerate(ring.rings()):
        assert number == expected
        corners = sorted(map(tuple, np.concatenate(rings).tolist()))
        outer, inner = [(3, 2), (3, 9), (11, 2), (11, 9)], [(5, 4), (5, 7), (9, 4), (9, 7)]
        assert corners == sorted(outer + inner)
