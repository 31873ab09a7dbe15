import logging

import mrcfile
import numpy as np
import pytest

from bench.config.data import PrepareConfig
from bench.errors import BenchError
from bench.export.pyto import make_pyto_labels, write_pyto
from bench.export.sphere_table import SphereRow, read_spheres
from bench.export.stack import make_stack
from bench.ingest.inputs import read_input

SHAPE = (6, 10, 12)
RANDOM = np.random.default_rng(3)


@pytest.fixture
def structures():
    """Two vesicles, one of them over the end of an active zone, in a region."""
    vesicles = np.zeros(SHAPE, np.uint16)
    vesicles[1:4, 2:5, 2:5] = 1
    vesicles[2:5, 6:8, 6:9] = 70
    zone = np.zeros(SHAPE, np.uint8)
    zone[:, 8, 1:9] = 1
    region = np.zeros(SHAPE, np.uint8)
    region[:, 1:9, 1:10] = 1
    return {"vesicles": vesicles, "active_zone": zone, "segmentation_region": region}


def stack_of(labels, **more):
    raw = RANDOM.normal(0, 1, SHAPE).astype(np.float32)
    return make_stack(labels, raw=raw, pixel_size_nm=2.2, section_nm=2.2, volume="tomo", **more)


def test_values_are_those_of_pyto(structures):
    values = make_pyto_labels(stack_of(structures))
    vesicles, zone, region = structures.values()
    assert values.dtype == np.uint16
    np.testing.assert_array_equal(values == 0, (region == 0))
    np.testing.assert_array_equal(values == 2, (zone == 1) & (vesicles == 0))
    np.testing.assert_array_equal(values == 10, vesicles == 1)
    np.testing.assert_array_equal(values == 79, vesicles == 70)
    assert set(np.unique(values)) == {0, 1, 2, 10, 79}


def test_without_a_region_all_of_the_image_is(structures):
    values = make_pyto_labels(stack_of({"vesicles": structures["vesicles"]}))
    assert set(np.unique(values)) == {1, 10, 79}


def test_a_volume_comes_back_without_loss(structures, tmp_path):
    stack = stack_of(structures, origin_nm=(-30.5, 12.25, 7.0))
    write_pyto(stack, tmp_path / "out")
    for name in ("labels", "raw"):
        with mrcfile.open(tmp_path / f"out/{name}.mrc") as file:
            assert file.voxel_size.tolist() == pytest.approx((22, 22, 22), rel=1e-6)
            origin = [float(file.header.origin[axis]) for axis in "xyz"]
            assert origin == pytest.approx([70, 122.5, -305], abs=1e-4)
            assert file.is_volume()
    tree = read_input(PrepareConfig(input=str(tmp_path / "out"), splits="train=0-3;val=4;test=5"))
    assert tree.pixel_size_nm == pytest.approx(2.2)
    assert tree.section_nm == pytest.approx(2.2)
    assert set(tree.structures) == set(structures)
    for name, truth in structures.items():
        found = np.stack([section.labels[name].read() for section in tree.sections])
        np.testing.assert_array_equal(found, truth)
    raw = np.stack([section.raw.read() for section in tree.sections])
    np.testing.assert_array_equal(raw, stack.raw)
    assert tree.sections[0].raw.header.origin_nm == pytest.approx((-30.5, 12.25, 7.0))


def test_what_the_labels_lack_is_no_structure(structures, tmp_path):
    write_pyto(stack_of({"vesicles": structures["vesicles"]}), tmp_path / "out")
    given = {"input": str(tmp_path / "out"), "splits": "train=0-3;val=4;test=5"}
    assert read_input(PrepareConfig(**given)).structures == ("vesicles",)
    write_pyto(stack_of(structures), tmp_path / "all")
    given |= {"input": str(tmp_path / "all"), "structures": "vesicles"}
    assert read_input(PrepareConfig(**given)).structures == ("vesicles",)


def test_spheres_lie_beside_the_labels(structures, tmp_path):
    """As the table has them, where the label is that ball; measured where it is not."""
    labels = np.zeros((16, 20, 20), np.uint16)
    z, y, x = np.mgrid[:16, :20, :20]
    labels[(z - 7.25) ** 2 + (y - 8.5) ** 2 + (x - 9.125) ** 2 <= 5.3**2] = 4
    labels[1:3, 1:3, 1:3] = 9
    known = [
        SphereRow("tomo", 4, 7.25, 8.5, 9.125, 5.3, thickness=2.5, p=0.125, status="refitted"),
        SphereRow("tomo", 9, 7.0, 8.0, 9.0, 6.0),
        SphereRow("tomo", 11, 3.0, 3.0, 3.0, 4.0, kept=False, reason="outlier"),
    ]
    stack = make_stack({"vesicles": labels}, volume="tomo", spheres={"vesicles": known})
    write_pyto(stack, tmp_path)
    first, second = read_spheres(tmp_path / "spheres.csv")
    assert (first.centre, first.radius, first.p) == ((7.25, 8.5, 9.125), 5.3, 0.125)
    assert (first.thickness, first.status) == (2.5, "refitted")
    assert second.centre == (1.5, 1.5, 1.5)
    assert second.radius == pytest.approx((3 * 8 / (4 * np.pi)) ** (1 / 3))


def test_ids_that_do_not_fit_are_numbered_anew(caplog):
    labels = np.zeros((1, 2, 3), np.uint32)
    labels[0, 0] = (70000, 5, 65530)
    values = make_pyto_labels(make_stack({"vesicles": labels}))
    assert values.ravel().tolist() == [12, 10, 11, 1, 1, 1]
    assert "numbered from 1 on" in caplog.text
    labels[0, 0] = (65526, 1, 0)
    assert make_pyto_labels(make_stack({"vesicles": labels})).max() == 65535
    many = np.arange(256 * 257, dtype=np.uint32).reshape(1, 256, 257)
    with pytest.raises(BenchError, match="no more than 65526 vesicles, received 65791: choose"):
        make_pyto_labels(make_stack({"vesicles": many}))


def test_what_has_no_value_is_named(structures, caplog):
    labels = structures | {"mitochondria": np.zeros(SHAPE, np.uint8)}
    with caplog.at_level(logging.WARNING):
        make_pyto_labels(stack_of(labels))
    assert "no value for mitochondria: left out" in caplog.text
    labels["vesicles"][:, 8, 1] = 3
    make_pyto_labels(stack_of(labels))
    assert f"{SHAPE[0]} voxels of active_zone lie below vesicles and are lost" in caplog.text
    del labels["vesicles"]
    with pytest.raises(BenchError, match="must have vesicles, received active_zone, segmentation"):
        make_pyto_labels(stack_of(labels))
