import math

import numpy as np

from bench.export.sphere_table import read_spheres, write_spheres
from bench.postprocess.spheres.found import FittedSpheres, RemovedSphere, SphereResult
from bench.postprocess.spheres.rows import list_rows


def test_rows_say_all_that_was_found(tmp_path):
    nan = np.array([np.nan, 2.0])
    spheres = FittedSpheres(
        np.array([1, 2]), np.array([[1.5, 2, 3], [4, 5, 6.25]]), np.array([8.0, 9.5]),
        nan, -nan, np.array([0.5, 0.01]), ("", "refitted"),
    )  # fmt: skip
    removed = RemovedSphere(3, (7.0, 8.0, 9.0), 4.0, 1.0, -2.0, 0.001, "outlier")
    result = SphereResult(np.zeros((2, 2, 2), np.int32), spheres, (removed,), 230, 0, ())
    rows = list_rows(result, "tomo", 2.2)
    assert [(row.id, row.kept, row.status, row.reason) for row in rows] == [
        (2, True, "refitted", ""),
        (1, True, "", ""),
        (3, False, "", "outlier"),
    ]
    assert rows[0].centre == (4, 5, 6.25)
    assert rows[0].radius_nm == 9.5 * 2.2
    assert (rows[0].thickness, rows[0].density, rows[0].p) == (2, -2, 0.01)
    assert math.isnan(rows[1].thickness)
    write_spheres(tmp_path / "spheres.csv", rows)
    assert [row.centre for row in read_spheres(tmp_path / "spheres.csv")] == [
        r.centre for r in rows
    ]
    flat = FittedSpheres(
        np.array([1]), np.array([[2.0, 3]]), np.array([8.0]), nan[:1], nan[:1], nan[:1], ("",)
    )
    circles = SphereResult(np.zeros((2, 2), np.int32), flat, (), 128, 0, ())
    assert list_rows(circles, "s", 1.0)[0].centre == (0, 2, 3)
