import logging

import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imodmodel import ImodModel
from matplotlib.path import Path as Polygon

from bench.errors import BenchError
from bench.export.imod import make_imod_model, write_imod, write_imod_spheres
from bench.export.sphere_table import SphereRow
from bench.export.stack import make_stack
from bench.ingest.annotations.imod import read_model
from bench.ingest.images.mrc import read_geometry, read_plane


def fill_model(model: ImodModel, shape: tuple[int, int, int]) -> np.ndarray:
    """Ids of the first object's surfaces, by even-odd tests of points."""
    labels = np.zeros(shape, np.uint32)
    y, x = np.mgrid[: shape[1], : shape[2]] + 0.5
    centres = np.column_stack([x.ravel(), y.ravel()])
    for contour in model.objects[0].contours:
        (depth,) = np.unique(contour.points[:, 2])
        closed = np.vstack([contour.points, contour.points[:1]])[:, :2]
        inside = Polygon(closed, closed=True).contains_points(centres).reshape(shape[1:])
        # Rings of one instance cancel out; another instance's would leave a wrong number.
        labels[int(depth)] ^= np.where(inside, contour.header.surf, 0).astype(np.uint32)
    return labels


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_pixel_is_lost(data, label_arrays, same_instances, draw_objects, tmp_path_factory):
    labels = data.draw(label_arrays)
    folder = tmp_path_factory.mktemp("model")
    write_imod(make_stack({"vesicles": labels}), folder)
    found = fill_model(ImodModel.from_file(folder / "labels.mod"), labels.shape)
    assert np.array_equal(found, labels)
    read = read_model(folder / "labels.mod")
    assert read.warnings == ()
    assert same_instances(labels, draw_objects(read.objects, labels.shape))


def test_a_model_says_what_it_holds(ring_labels, same_instances, draw_objects, tmp_path):
    raw = np.random.default_rng(0).integers(0, 900, ring_labels.shape).astype(np.uint16)
    stack = make_stack(
        {"vesicles": ring_labels, "membrane": 0 * ring_labels},
        raw=raw,
        pixel_size_nm=1.5,
        section_nm=45.0,
    )
    write_imod(stack, tmp_path)
    model = ImodModel.from_file(tmp_path / "labels.mod")
    header = model.header
    assert (header.xmax, header.ymax, header.zmax) == (14, 12, 2)
    assert (header.pixelsize, header.units, header.zscale) == (1.5, -9, 30)
    assert model.minx.cscale == (15, 15, 450)
    assert model.minx.otrans == model.minx.ctrans == (0, 0, 0)
    vesicles, membrane = model.objects
    assert [vesicles.header.name.strip("\0"), vesicles.color] == ["vesicles", (0, 1, 0)]
    assert not vesicles.header.flags.open
    assert not vesicles.header.flags.scattered
    assert {contour.header.surf for contour in vesicles.contours} == {3, 8, 300}
    assert vesicles.header.surfsize == 300
    assert membrane.contours == []
    with mrcfile.open(tmp_path / "raw.mrc") as file:
        assert np.array_equal(file.data, raw)
        assert file.voxel_size.tolist() == (15, 15, 450)
    # The model lies on the image as it is: nothing is scaled or moved.
    read = read_model(tmp_path / "labels.mod", read_geometry(tmp_path / "raw.mrc"))
    assert read.warnings == ()
    assert read.pixel_size_nm == 1.5
    assert [item.kind for item in read.objects] == ["vesicles"] * 3
    assert same_instances(ring_labels, draw_objects(read.objects, ring_labels.shape))
    assert np.array_equal(read_plane(tmp_path / "raw.mrc", 1), raw[1])


def test_a_scale_that_is_not_known_stays_unknown(ring_labels, tmp_path):
    write_imod(make_stack({"vesicles": ring_labels}, raw=ring_labels), tmp_path)
    model = ImodModel.from_file(tmp_path / "labels.mod")
    assert model.minx is None
    assert (model.header.pixelsize, model.header.units) == (1, 0)
    with mrcfile.open(tmp_path / "raw.mrc") as file:
        assert file.voxel_size.tolist() == (0, 0, 0)


def test_spheres_have_the_area_of_their_instance(tmp_path, caplog):
    labels = np.zeros((3, 40, 50), np.uint8)
    y, x = np.mgrid[:40, :50] + 0.5
    for section, radius in enumerate((6, 9, 4)):
        labels[section][(y - 20) ** 2 + (x - 15.5) ** 2 <= radius**2] = 7
    labels[2, 30:34, 30:34] = 9
    stack = make_stack({"vesicles": labels})
    with caplog.at_level(logging.WARNING):
        write_imod_spheres(stack, tmp_path)
    assert "not its outline" in caplog.text
    (item,) = ImodModel.from_file(tmp_path / "labels.mod").objects
    assert item.header.flags.scattered
    (contour,) = item.contours
    # A square of 16 px has the area of a disc of radius 4 / sqrt(pi).
    assert contour.points == pytest.approx(np.array([[15.5, 20, 1], [32, 32, 2]]))
    assert contour.point_sizes[0] == pytest.approx(9, rel=0.01)
    assert contour.point_sizes[1] == pytest.approx(2.2568, abs=1e-4)


def test_spheres_come_back_in_the_section_they_were_written_for(tmp_path, draw_objects):
    y, x = np.mgrid[:40, :50] + 0.5
    labels = np.zeros((40, 50), np.uint8)
    labels[(y - 20) ** 2 + (x - 15) ** 2 <= 81] = 1
    labels[(y - 10) ** 2 + (x - 40.5) ** 2 <= 30] = 2
    write_imod_spheres(make_stack({"vesicles": labels}, raw=labels), tmp_path)
    for image in (None, read_geometry(tmp_path / "raw.mrc")):
        read = read_model(tmp_path / "labels.mod", image)
        assert [set(item.shapes) for item in read.objects] == [{0}, {0}]
        assert np.array_equal(draw_objects(read.objects, (1, 40, 50))[0], labels)
    stack = np.stack([0 * labels, labels, 0 * labels])
    write_imod_spheres(make_stack({"vesicles": stack}), tmp_path)
    read = read_model(tmp_path / "labels.mod")
    assert [set(item.shapes) for item in read.objects] == [{1}, {1}]


def volume_of_balls(balls, shape, section_px=1.0):
    z, y, x = (np.arange(side) for side in shape)
    labels = np.zeros(shape, np.uint16)
    for ball in balls:
        steps = np.ix_(section_px * (z - ball.z), y - ball.y, x - ball.x)
        labels[sum(step**2 for step in steps) <= ball.radius**2] = ball.id
    return labels


@pytest.mark.parametrize("section_px", [1.0, 2.0])
def test_vesicles_of_a_volume_are_points_with_radii(section_px, draw_objects, tmp_path):
    """One a vesicle, as the table has it; the active zone has contours, which lose no voxel."""
    shape = (20, 40, 50)
    balls = [
        SphereRow("tomo", 2, 8.3, 12.7, 14.1, 7.65),
        SphereRow("tomo", 5, 12.0, 30.25, 33.0, 5.5),
    ]
    labels = {"vesicles": volume_of_balls(balls, shape, section_px)}
    labels["active_zone"] = np.zeros(shape, np.uint8)
    labels["active_zone"][:, 36, 5:40] = 1
    stack = make_stack(
        labels,
        raw=labels["vesicles"],
        pixel_size_nm=2.2,
        section_nm=2.2 * section_px,
        volume="tomo",
        spheres={"vesicles": balls},
        origin_nm=(-3.0, 5.0, 11.0),
    )
    write_imod_spheres(stack, tmp_path)
    vesicles, zone = ImodModel.from_file(tmp_path / "labels.mod").objects
    (contour,) = vesicles.contours
    # Within single precision, voxel centres half a pixel from the corner of the image.
    expected = np.array([(14.6, 13.2, 8.3), (33.5, 30.75, 12)])
    np.testing.assert_allclose(contour.points, expected, rtol=2**-23)
    np.testing.assert_allclose(contour.point_sizes, [7.65, 5.5], rtol=2**-23)
    assert vesicles.header.flags.scattered
    assert not zone.header.flags.scattered
    read = read_model(tmp_path / "labels.mod", read_geometry(tmp_path / "raw.mrc"))
    assert read.warnings == ()
    for kind, truth in labels.items():
        found = draw_objects([item for item in read.objects if item.kind == kind], shape)
        assert np.array_equal(found > 0, truth > 0)
        assert len(np.unique(found)) == len(np.unique(truth))


def test_balls_that_nobody_knows_are_measured(tmp_path):
    ball = SphereRow("tomo", 1, 9.0, 20.0, 21.0, 6.0)
    labels = volume_of_balls([ball], (19, 40, 50))
    write_imod_spheres(make_stack({"vesicles": labels}, volume="tomo"), tmp_path)
    (contour,) = ImodModel.from_file(tmp_path / "labels.mod").objects[0].contours
    assert contour.points == pytest.approx(np.array([[21.5, 20.5, 9]]))
    assert contour.point_sizes == pytest.approx([6], abs=0.1)


def test_spheres_of_nothing(tmp_path):
    write_imod_spheres(make_stack({"vesicles": np.zeros((4, 5), np.uint8)}), tmp_path)
    (item,) = ImodModel.from_file(tmp_path / "labels.mod").objects
    assert item.contours == []


def test_an_id_beyond_a_surface_number():
    labels = np.full((2, 2), 2**31, np.uint32)
    with pytest.raises(BenchError, match="at most 2147483647 for IMOD, received 2147483648"):
        make_imod_model(make_stack({"vesicles": labels}))
