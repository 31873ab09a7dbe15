import time

import numpy as np
import pytest

from bench.ingest.annotations.drawing import Disc, DrawnObject
from bench.ingest.annotations.trakem2.placing import Layer
from bench.ingest.annotations.trakem2.project import TrakEM2Project
from bench.ingest.annotations.trakem2.regions import Region, find_regions

PROJECT = TrakEM2Project(None, (), (1000, 2000), (), (), None, None, ())


def disc(x, y, radius, *layers):
    return DrawnObject("disc", "vesicle", {layer: (Disc(x, y, radius),) for layer in layers})


def merge_slowly(boxes):
    """Joins any two boxes that share a pixel until there are none."""
    boxes = set(boxes)
    while True:
        for one in boxes:
            for two in boxes - {one}:
                if one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]:
                    break
            else:
                continue
            break
        else:
            return boxes
        low, high = np.minimum(one[:2], two[:2]), np.maximum(one[2:4], two[2:4])
        layers = min(one[4], two[4]), max(one[5], two[5])
        boxes = (boxes - {one, two}) | {(*low.tolist(), *high.tolist(), *layers)}


@pytest.mark.parametrize("seed", range(20))
def test_regions_are_those_of_a_slow_search(seed):
    random = np.random.default_rng(seed)
    count = int(random.integers(2, 60))
    x, y = random.integers(20, 1900, count), random.integers(20, 900, count)
    radius, layer = random.integers(2, 90, count), random.integers(0, 9, count)
    items = [disc(*row) for row in np.column_stack([x, y, radius, layer]).tolist()]
    boxes = [
        (max(x - r, 0), max(y - r, 0), min(x + r, 2000), min(y + r, 1000), z, z)
        for x, y, r, z in np.column_stack([x, y, radius, layer]).tolist()
    ]
    regions = find_regions(PROJECT, items, 0)
    found = {
        (r.left, r.top, r.left + r.width, r.top + r.height, r.layers[0], r.layers[-1])
        for r in regions
    }
    assert found == merge_slowly(boxes)
    assert [(r.top, r.left) for r in regions] == sorted((r.top, r.left) for r in regions)


def test_a_region_is_grown_clipped_and_has_the_layers_that_are_annotated():
    """A layer without any object is not annotated, rather than empty."""
    regions = find_regions(PROJECT, [disc(30, 500, 10, 2, 5)], 25)
    assert regions == [Region(0, 465, 65, 70, (2, 5))]


def test_an_object_across_a_gap_joins_what_lies_on_both_sides():
    layers = tuple(Layer(n, z, 1.0, (), "") for n, z in enumerate((0.0, 1.0, 8.0, 9.0)))
    project = TrakEM2Project(None, (), (1000, 2000), layers, (), None, None, ())
    apart = [disc(50, 50, 9, 0, 1), disc(52, 50, 9, 2, 3)]
    assert [region.layers for region in find_regions(project, apart, 0)] == [(0, 1), (2, 3)]
    (joined,) = find_regions(project, [*apart, disc(45, 50, 9, 1, 2)], 0)
    assert joined.layers == (0, 1, 2, 3)


def test_touching_boxes_are_apart_and_an_outsider_has_none():
    items = [disc(100, 100, 10, 0), disc(120, 100, 10, 0), disc(5000, 100, 10, 0)]
    assert [region.left for region in find_regions(PROJECT, items, 0)] == [90, 110]


def test_no_objects_no_regions():
    assert find_regions(PROJECT, [], 10) == []


def test_thousands_of_objects_take_no_time():
    places = np.random.default_rng(0).uniform(0, 2000, (5000, 2))
    items = [disc(x, y / 2, 1, 0) for x, y in places]
    start = time.process_time()
    assert len(find_regions(PROJECT, items, 0)) > 1000
    assert time.process_time() - start < 5
