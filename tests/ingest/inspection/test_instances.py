import numpy as np
import pytest
from skimage.measure import regionprops

from bench.errors import BenchError
from bench.ingest.inspection import measures
from bench.ingest.inspection.measures import inspect_instances
from bench.postprocess.label_runs import find_label_runs


@pytest.fixture
def labels() -> np.ndarray:
    """Ids with gaps between them, in pieces, at edges, and touching each other."""
    random = np.random.default_rng(1)
    blocks = random.choice([0, 0, 0, 3, 4, 900, 70_000], (13, 11))
    return np.kron(blocks, np.ones((3, 5), int)).astype(np.uint32)


def inspect(labels: np.ndarray, file: str = "mask.tif"):
    return inspect_instances(find_label_runs(labels), file)


def test_instances_are_those_of_regionprops(labels):
    found = inspect(labels)
    expected = regionprops(labels)
    assert found.ids.tolist() == [region.label for region in expected] == [3, 4, 900, 70_000]
    assert found.areas.tolist() == [region.area for region in expected]
    centres = np.stack([found.y, found.x], axis=1)
    assert np.allclose(centres, [region.centroid for region in expected])


def test_only_what_touches_the_edge_is_at_the_edge():
    labels = np.zeros((9, 9), np.uint8)
    labels[1:8, 1:8] = 1
    labels[4, 4] = 2
    for number, place in enumerate([(0, 4), (8, 4), (4, 0), (4, 8)], start=3):
        labels[place] = number
    assert inspect(labels).at_edge.tolist() == [False, False, True, True, True, True]


def test_no_instance_at_all():
    found = inspect(np.zeros((5, 4), np.uint8))
    assert found.areas.size == 0
    assert found.marks(np.zeros(0, bool)) == ()


def test_a_mark_is_a_circle_of_the_instances_area():
    labels = np.zeros((20, 20), np.uint8)
    labels[4:14, 6:16] = 5
    ((y, x, radius),) = inspect(labels).marks(np.array([True]))
    assert (y, x) == (8.5, 10.5)
    assert np.pi * radius**2 == pytest.approx(100)


def test_more_instances_than_any_annotation_has(monkeypatch):
    monkeypatch.setattr(measures, "MOST_INSTANCES", 99)
    labels = np.arange(1, 101, dtype=np.uint32).reshape(10, 10)
    with pytest.raises(BenchError, match=r"mask m\.tif must hold at most 99 instances.*\?$"):
        inspect(labels, "m.tif")
    assert inspect(labels.clip(max=99)).ids.size == 99
