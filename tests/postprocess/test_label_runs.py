"""Runs of ids, against counting pixel by pixel."""

import numpy as np
import pytest
from scipy import ndimage

from bench.postprocess.label_runs import count_neighbours, find_label_runs, join_runs

IMAGES = {
    "sparse": (0.02, (300, 290), 1),
    "dense": (0.95, (31, 40), 1),
    "pieces": (0.4, (36, 280), 4),
    "a row": (0.5, (1, 300), 1),
    "a column": (0.5, (300, 1), 1),
    "empty": (0.0, (9, 140), 1),
}


@pytest.fixture(params=IMAGES.values(), ids=IMAGES)
def labels(request) -> np.ndarray:
    share, shape, side = request.param
    random = np.random.default_rng(3)
    small = tuple(-(-length // side) for length in shape)
    ids = random.choice([3, 4, 900], small) * (random.random(small) < share)
    ids = np.kron(ids, np.ones((side, side), int))
    return ids[: shape[0], : shape[1]].astype(np.uint16)


def test_runs_are_the_image(labels):
    runs = find_label_runs(labels)
    drawn = np.zeros_like(labels)
    for row, (start, stop), number in zip(runs.rows, runs.spans, runs.ids, strict=True):
        drawn[row, start:stop] = number
    np.testing.assert_array_equal(drawn, labels)
    # Each is as long as it can be.
    changes = np.diff(np.pad(labels.astype(int), ((0, 0), (1, 1))), axis=1) != 0
    left, right = labels[:, :-1].astype(int), labels[:, 1:].astype(int)
    meeting = np.count_nonzero((left != right) & (left * right > 0))
    assert 2 * len(runs.ids) == np.count_nonzero(changes) + meeting
    ids, areas = np.unique(labels[labels > 0], return_counts=True)
    for found, expected in zip(runs.areas(), (ids, areas), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_neighbours_are_those_of_every_pixel(labels):
    runs = find_label_runs(labels)
    ids = np.unique(runs.ids)
    found = count_neighbours(runs)
    padded = np.pad(labels.astype(int), 1, constant_values=-1)
    sides = np.stack([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
    other = (sides != labels) & (sides >= 0)
    for number, same_below, touching in zip(ids, found.same_below, found.touching, strict=True):
        inside = labels == number
        assert same_below == np.count_nonzero(sides[1][inside] == number)
        assert touching == np.count_nonzero((other & (sides > 0))[:, inside])
    assert found.outlines == np.count_nonzero(other.any(axis=0) & (labels > 0))
    alone = other.all(axis=0) & (sides > 0).any(axis=0) & (labels > 0)
    assert found.specks == np.count_nonzero(alone)


def test_joined_runs_are_components(labels):
    runs = find_label_runs(labels)
    components, count = ndimage.label(labels > 0)
    named = components[runs.rows, runs.spans[:, 0]]
    pairs = np.unique(np.stack([named, join_runs(runs)]), axis=1)
    assert pairs.shape[1] == count
