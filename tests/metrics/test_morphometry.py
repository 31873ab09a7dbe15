import math

import numpy as np
import pandas as pd
import pytest
from skimage.measure import regionprops_table

from bench.metrics.morphometry import count_instances, find_places, measure_instances

# A square of 4 x 4 px, and a line of 1 x 3 px.
LABELS = np.zeros((10, 20), np.int32)
LABELS[2:6, 3:7] = 1
LABELS[8, 10:13] = 2


def test_a_square_and_a_line_by_hand():
    """A square of 4 px has a line of 3 px along each side through its outermost pixels."""
    table = pd.DataFrame(measure_instances(LABELS, None))
    assert list(table.id) == [1, 2]
    assert list(table.area_px) == [16, 3]
    assert table.equivalent_diameter_px[0] == pytest.approx(math.sqrt(4 * 16 / math.pi))
    assert list(table.centroid_y_px) == [3.5, 8]
    assert list(table.centroid_x_px) == [4.5, 11]
    assert table.perimeter_px[0] == 12


def test_lengths_are_in_nm_where_the_pixel_size_is_known():
    px, nm = measure_instances(LABELS, None), measure_instances(LABELS, 5.0)
    assert list(nm["area_nm2"]) == [400, 75]
    for name in ("equivalent_diameter", "centroid_y", "centroid_x", "perimeter"):
        np.testing.assert_allclose(nm[f"{name}_nm"], 5 * px[f"{name}_px"])


def test_counts_by_hand():
    assert count_instances(LABELS, None) == {"instances": 2, "foreground_fraction": 19 / 200}
    # 200 px of 50 x 50 nm are half a square micrometre.
    counts = count_instances(LABELS, 50.0)
    assert counts["area_um2"] == pytest.approx(0.5)
    assert counts["density_per_um2"] == pytest.approx(4)


def test_nothing_is_no_rows_and_a_count_of_0():
    empty = np.zeros((5, 5), np.int32)
    table = pd.DataFrame(measure_instances(empty, 2.0))
    assert len(table) == 0
    assert "area_nm2" in table
    assert count_instances(empty, 2.0)["instances"] == 0


def test_a_volume_by_hand():
    labels = np.zeros((6, 7, 8), np.uint16)
    labels[1:3, 2:5, 3:7] = 4
    labels[5, 6, 7] = 9
    table = pd.DataFrame(measure_instances(labels, None))
    assert list(table.id) == [4, 9]
    assert list(table.volume_voxels) == [24, 1]
    assert list(table.centroid_z_px) == [1.5, 5]
    assert list(table.centroid_y_px) == [3, 6]
    assert list(table.centroid_x_px) == [4.5, 7]
    assert table.equivalent_diameter_px[0] == pytest.approx((6 * 24 / math.pi) ** (1 / 3))
    nm = measure_instances(labels, (50.0, 5.0, 4.0))
    assert list(nm["volume_nm3"]) == [24000, 1000]
    assert nm["equivalent_diameter_nm"][1] == pytest.approx((6000 / math.pi) ** (1 / 3))
    assert [nm[f"centroid_{axis}_nm"][0] for axis in "zyx"] == [75, 15, 18]
    assert count_instances(labels, None) == {"instances": 2, "foreground_fraction": 25 / 336}
    counts = count_instances(labels, (50.0, 5.0, 4.0))
    assert counts["volume_um3"] == pytest.approx(336e3 / 1e9)
    assert counts["density_per_um3"] == pytest.approx(2 / 336e-6)
    assert measure_instances(labels, 5)["volume_nm3"][1] == 125


@pytest.mark.parametrize("largest", [9, 2**32 - 1])
def test_volumes_are_measured_as_by_skimage(largest):
    rng = np.random.default_rng(0)
    ids = rng.choice([0, 0, 2, 5, largest], (9, 11, 13)).astype(np.uint32)
    few = np.searchsorted(np.unique(ids), ids)
    properties = ["area", "equivalent_diameter_area", "centroid"]
    expected = regionprops_table(few, properties=properties)
    found = measure_instances(ids, None)
    assert found["id"].tolist() == [2, 5, largest]
    np.testing.assert_array_equal(found["volume_voxels"], expected["area"])
    diameters = expected["equivalent_diameter_area"]
    np.testing.assert_allclose(found["equivalent_diameter_px"], diameters, rtol=1e-14)
    for place, axis in enumerate("zyx"):
        np.testing.assert_allclose(found[f"centroid_{axis}_px"], expected[f"centroid-{place}"])
    # Without background the first id is not 0.
    full = np.where(ids == 0, 7, ids)
    places = find_places(full)
    assert places.ids.tolist() == sorted([2, 5, 7, largest])
    assert places.voxels.sum() == ids.size
    for each, start, stop in zip(places.ids, places.starts, places.stops, strict=True):
        inside = np.argwhere(full == each)
        assert start.tolist() == inside.min(axis=0).tolist()
        assert stop.tolist() == (inside.max(axis=0) + 1).tolist()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.uint32, np.int64, ">i4"])
def test_ids_of_every_type_and_order_of_memory(kind):
    labels = np.random.default_rng(1).choice([0, 1, 9], (4, 6, 5)).astype(np.uint8)
    expected = measure_instances(labels, None)
    other = labels.astype(kind)
    for turned in (other, np.asfortranarray(other), np.repeat(other, 2, axis=2)[:, :, ::2]):
        for name, column in measure_instances(turned, None).items():
            np.testing.assert_array_equal(column, expected[name])


def test_an_empty_volume_has_no_rows():
    empty = np.zeros((3, 4, 5), np.uint8)
    table = pd.DataFrame(measure_instances(empty, (2.0, 2.0, 2.0)))
    assert len(table) == 0
    assert "volume_nm3" in table
    assert count_instances(empty, (2.0, 2.0, 2.0))["density_per_um3"] == 0
