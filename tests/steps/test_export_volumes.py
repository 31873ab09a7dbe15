"""Volumes written by export for Pyto and 3dmod, and read back without loss."""

import mrcfile
import numpy as np
import pytest
import tifffile
from imodmodel import ImodModel

from bench.config.data import ExportConfig, PrepareConfig
from bench.core.files import write_json
from bench.dataset.prepared import PreparedDataset
from bench.dataset.volumes import find_volumes, read_volume_labels
from bench.errors import BenchError
from bench.export.sphere_table import SphereRow, read_spheres, write_spheres
from bench.steps.export import export
from bench.steps.prepare import prepare

SHAPE = (16, 32, 40)
BALLS = (
    SphereRow("", 1, 8.0, 10.25, 10.5, 5.2, thickness=2.0, p=0.4),
    SphereRow("", 2, 7.0, 21.0, 29.0, 4.5, p=0.002, status="refitted"),
)
ORIGIN = {"x": 120.5, "y": 0.0, "z": -44.0}


def paint(balls):
    z, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    labels = np.zeros(SHAPE, np.uint16)
    for ball in balls:
        labels[(z - ball.z) ** 2 + (y - ball.y) ** 2 + (x - ball.x) ** 2 <= ball.radius**2] = (
            ball.id
        )
    return labels


def zone():
    pixels = np.zeros(SHAPE, np.uint8)
    pixels[:, 30, 3:30] = 1
    return pixels


def draw(seed):
    return np.random.default_rng(seed).normal(0, 1, SHAPE).astype(np.float32)


@pytest.fixture
def tomograms(store, tmp_path):
    """A dataset of volumes from MRC: two to train on, one to validate on."""
    for number, (split, name) in enumerate((("train", "a"), ("train", "b"), ("val", "c"))):
        images = {"raw": draw(number), "vesicles": paint(BALLS), "active_zone": zone()}
        for kind, pixels in images.items():
            folder = tmp_path / "tree" / split / kind
            folder.mkdir(parents=True, exist_ok=True)
            with mrcfile.new(folder / f"{name}.mrc") as file:
                file.set_data(pixels)
                file.set_volume()
                file.voxel_size = (21.8, 21.8, 22.4)
                for axis, value in ORIGIN.items():
                    file.header.origin[axis] = value
    prepare(PrepareConfig(input=str(tmp_path / "tree"), output=str(tmp_path / "data")))
    return PreparedDataset.open(tmp_path / "data")


def test_labels_of_a_tomogram_are_those_of_pyto(tomograms, tmp_path):
    """Of its voxel size and origin, with rows as its own file has them; and prepare reads them."""
    export(ExportConfig(dataset=str(tomograms.root), format="pyto", output=str(tmp_path / "out")))
    with (
        mrcfile.open(tmp_path / "out/labels.mrc") as labels,
        mrcfile.open(tmp_path / "tree/val/raw/c.mrc") as tomogram,
        mrcfile.open(tmp_path / "out/raw.mrc") as raw,
    ):
        assert labels.data.dtype == np.uint16
        truth = paint(BALLS)
        np.testing.assert_array_equal(labels.data >= 10, truth > 0)
        np.testing.assert_array_equal(labels.data[truth > 0], truth[truth > 0] + 9)
        np.testing.assert_array_equal(labels.data == 2, zone() == 1)
        assert set(np.unique(labels.data)) == {1, 2, 10, 11}
        np.testing.assert_array_equal(raw.data, tomogram.data)
        for written in (labels, raw):
            for axis, value in ORIGIN.items():
                assert float(written.header.origin[axis]) == value
            sizes = written.voxel_size.tolist()
            assert sizes == pytest.approx(tomogram.voxel_size.tolist(), rel=1e-6)
    rows = read_spheres(tmp_path / "out/spheres.csv")
    for row, ball in zip(rows, BALLS, strict=True):
        assert row.centre == pytest.approx(ball.centre, abs=0.15)
        assert row.radius == pytest.approx(ball.radius, abs=0.15)
    given = {"input": str(tmp_path / "out"), "splits": "train=0-7;val=8-15"}
    prepare(PrepareConfig(output=str(tmp_path / "again"), **given))
    again = PreparedDataset.open(tmp_path / "again")
    (known,) = find_volumes(tomograms, "val")
    for structure in ("vesicles", "active_zone"):
        parts = [find_volumes(again, split)[0] for split in ("train", "val")]
        found = np.concatenate([read_volume_labels(again, part, structure) for part in parts])
        expected = read_volume_labels(tomograms, known, structure)
        np.testing.assert_array_equal(found > 0, expected > 0)
        if structure == "vesicles":
            np.testing.assert_array_equal(found, expected)


def test_each_volume_has_a_folder(tomograms, tmp_path):
    export(
        ExportConfig(
            dataset=str(tomograms.root),
            split="train",
            structure="vesicles",
            format="imod_spheres",
            output=str(tmp_path / "out"),
        )
    )
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"train-a", "train-b"}
    for number, name in enumerate("ab"):
        (item,) = ImodModel.from_file(tmp_path / f"out/train-{name}/labels.mod").objects
        (contour,) = item.contours
        # y as 3dmod counts it over the MRC, whose first stored row is at the bottom.
        expected = [(ball.x + 0.5, ball.y + 0.5, ball.z) for ball in BALLS]
        assert contour.points == pytest.approx(np.array(expected), abs=0.15)
        with mrcfile.open(tmp_path / f"out/train-{name}/raw.mrc") as file:
            np.testing.assert_array_equal(file.data, draw(number))


def test_the_spheres_of_a_segmentation_are_handed_on(store, tmp_path):
    """Beside labels that are stacks, counted in their rows; and turned with them for IMOD."""
    folder = tmp_path / "segmented"
    sizes = {"imagej": True, "resolution": (1 / 2.2, 1 / 2.2)}
    metadata = {"unit": "nm", "spacing": 2.2, "axes": "ZYX"}
    for kind, pixels in (("raw", draw(0)), ("vesicles", paint(BALLS))):
        (folder / kind).mkdir(parents=True)
        tifffile.imwrite(folder / kind / "tomo.tif", pixels, metadata=metadata, **sizes)
    rows = [SphereRow(**vars(ball) | {"volume": "tomo"}) for ball in BALLS]
    write_spheres(folder / "spheres.csv", rows)
    said = {"structure": "vesicles", "section_nm": 2.2, "origins_nm": {"tomo": [1.0, -2.5, 3.0]}}
    write_json(folder / "segmentation.json", said)
    runs = [
        export(ExportConfig(input=str(folder), format=kind, output=str(tmp_path / kind)))
        for kind in ("imod_spheres", "pyto")
    ]
    assert runs[0] != runs[1]
    (item,) = ImodModel.from_file(tmp_path / "imod_spheres/labels.mod").objects
    (contour,) = item.contours
    expected = [(ball.x + 0.5, SHAPE[1] - 1 - ball.y + 0.5, ball.z) for ball in BALLS]
    np.testing.assert_allclose(contour.points, np.array(expected), rtol=2**-23)
    np.testing.assert_allclose(contour.point_sizes, [5.2, 4.5], rtol=2**-23)
    with mrcfile.open(tmp_path / "pyto/labels.mrc") as file:
        np.testing.assert_array_equal(file.data[:, ::-1] >= 10, paint(BALLS) > 0)
        assert [float(file.header.origin[axis]) for axis in "zyx"] == pytest.approx([10, -25, 30])
    first, second = read_spheres(tmp_path / "pyto/spheres.csv")
    assert (first.y, first.p, first.thickness) == (SHAPE[1] - 1 - BALLS[0].y, 0.4, 2.0)
    assert second.status == "refitted"
    # Another table is another export.
    write_spheres(folder / "spheres.csv", rows[:1])
    third = export(ExportConfig(input=str(folder), format="pyto", output=str(tmp_path / "b")))
    assert third != runs[1]
    (folder / "spheres.csv").write_text("nothing\n")
    with pytest.raises(BenchError, match="must have the columns volume, id"):
        export(ExportConfig(input=str(folder), format="pyto", output=str(tmp_path / "c")))
