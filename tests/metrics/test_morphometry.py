import math

import numpy as np
import pandas as pd
import pytest

from bench.metrics.instances import count_instances, measure_instances

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
