import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.export.instances import list_instances
from bench.export.sphere_table import SphereRow, read_spheres, write_spheres
from bench.export.spheres import ball_in_box, find_balls, measure_ball

NUMBERS = st.floats(allow_infinity=False, allow_nan=False)


@settings(deadline=None, max_examples=50)
@given(
    row=st.builds(
        SphereRow,
        volume=st.sampled_from(["tomo", 'a "b", c', "ü"]),
        id=st.integers(1, 2**32),
        z=NUMBERS,
        y=NUMBERS,
        x=NUMBERS,
        radius=st.floats(0, allow_infinity=False, exclude_min=True),
        p=st.floats(0, 1),
        kept=st.booleans(),
        status=st.sampled_from(["", "shrunk"]),
    )
)
def test_numbers_come_back_as_they_were(row, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "spheres.csv"
    write_spheres(path, [row])
    (found,) = read_spheres(path)
    assert found.centre == row.centre
    assert (found.volume, found.id, found.radius, found.p) == (
        row.volume,
        row.id,
        row.radius,
        row.p,
    )
    assert (found.kept, found.status) == (row.kept, row.status)
    assert math.isnan(found.thickness)
    header = path.read_text().splitlines()[0]
    assert header == "volume,id,z,y,x,radius,radius_nm,thickness,density,p,status,kept,reason"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,z,y,x\n", r"must have the columns .* received none of volume, radius: add"),
        ("volume,id,z,y,x,radius\nt,1,2,3,four,5\n", r"must be numbers, received .*four.* line 2"),
        ("volume,id,z,y,x,radius\nt,1,2,3,4,0\n", r"a radius above 0, received .* in line 2"),
        ("volume,id,z,y,x,radius\nt,1,2,3,,5\n", r"must have a centre and .* in line 2"),
    ],
)
def test_a_table_that_is_none(text, message, tmp_path):
    (tmp_path / "spheres.csv").write_text(text)
    with pytest.raises(BenchError, match=message):
        read_spheres(tmp_path / "spheres.csv")
    with pytest.raises(BenchError, match="must be a readable table"):
        read_spheres(tmp_path / "nothing.csv")


@pytest.mark.parametrize("section_px", [1.0, 2.5])
def test_a_ball_is_measured_and_painted(section_px):
    """Half a voxel of radius and centre, whatever the distance of sections."""
    z, y, x = np.mgrid[:24, :40, :40]
    row = SphereRow("", 1, 11.5, 18.25, 20.75, 12.0)
    distance = (section_px * (z - row.z)) ** 2 + (y - row.y) ** 2 + (x - row.x) ** 2
    ball = distance <= row.radius**2
    box, inside = ball_in_box(row, ball.shape, section_px)
    painted = np.zeros(ball.shape, bool)
    painted[box] = inside
    np.testing.assert_array_equal(painted, ball)
    (instance,) = list_instances(ball.astype(np.uint8))
    found = measure_ball(instance, section_px=section_px)
    assert found.radius == pytest.approx(row.radius, abs=0.1)
    assert found.centre == pytest.approx(row.centre, abs=0.1)


def test_balls_that_lie_outside_cover_nothing():
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[0, 0, 0] = 1
    row = SphereRow("", 1, 50.0, 50.0, -90.0, 3.0)
    box, inside = ball_in_box(row, labels.shape, 1.0)
    assert labels[box].size == inside.size == 0
    (found,) = find_balls(labels, [row], section_px=1.0)
    assert found.centre == (0, 0, 0)


def test_a_ball_cut_by_the_border_keeps_its_centre():
    row = SphereRow("t", 3, -1.0, 9.0, 9.0, 6.0)
    labels = np.zeros((12, 20, 20), np.uint8)
    box, inside = ball_in_box(row, labels.shape, 1.0)
    labels[box][inside] = 3
    assert find_balls(labels, [row], section_px=1.0) == [row]
