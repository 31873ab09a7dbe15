"""Rows of annotation against those stored in the image, as the programs that drew it count them."""

import struct
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from bench.config.data import PrepareConfig
from bench.errors import BenchError
from bench.export.imod import make_imod_model
from bench.export.rois import make_rois
from bench.export.stack import make_stack
from bench.ingest.images.headers import BOTTOM_FIRST, DISPUTED
from bench.ingest.images.mrc import read_geometry, read_header
from bench.ingest.inputs import read_input

SHAPE = (3, 60, 80)


def make_truth() -> tuple[np.ndarray, np.ndarray]:
    """Raw and ids (z, y, x) as they are seen, row 0 on top: objects in the upper part alone."""
    random = np.random.default_rng(0)
    labels = np.zeros(SHAPE, np.uint16)
    for section in range(SHAPE[0]):
        labels[section, 4 + section : 16, 6:20] = 1
        labels[section, 9:22, 40 + 3 * section : 62] = 2
    raw = 120 + 20 * gaussian_filter(random.normal(size=SHAPE), (0, 1, 1)) - 60 * (labels > 0)
    return raw.astype(np.uint8), labels


RAW, LABELS = make_truth()


def write_mrc(path: Path, pixels: np.ndarray, **fields: object) -> Path:
    """Writes an MRC whose first row is the first of the array."""
    with mrcfile.new(path) as file:
        file.set_data(pixels.astype(np.int16))
        file.voxel_size = 50.0
        if extended := fields.pop("extended", b""):
            file.set_extended_header(np.frombuffer(bytes(extended), "V1"))
        for name, value in fields.items():
            file.header[name] = value
    return path


def write_model(path: Path, labels: np.ndarray) -> Path:
    """Writes contours whose y counts from the first row of the labels."""
    make_imod_model(make_stack({"mitochondria": labels})).to_file(path)
    return path


def write_selections(path: Path, labels: np.ndarray) -> Path:
    """Writes selections as ImageJ draws them over an image that it shows with these rows."""
    from zipfile import ZipFile

    with ZipFile(path, "w") as archive:
        for roi in make_rois(make_stack({"mitochondria": labels})):
            archive.writestr(f"{roi.name}.roi", roi.tobytes())
    return path


def read_labels(folder: Path, **settings: object) -> tuple[np.ndarray, np.ndarray, str]:
    """Raw and foreground as prepare reads them, and what it says."""
    given = {"splits": "train=0;val=1;test=2", "structures": "mitochondria", "pixel_size_nm": 5.0}
    tree = read_input(PrepareConfig(input=str(folder), **(given | settings)))
    raw = np.stack([section.raw.read() for section in tree.sections])
    masks = [section.labels["mitochondria"] for section in tree.sections]
    drawn = [mask.drawn().labels if mask.drawn else mask.read() for mask in masks]
    assert all(np.array_equal(a, mask.read()) for a, mask in zip(drawn, masks, strict=True))
    return raw, np.stack(drawn) > 0, "\n".join(tree.warnings)


def test_a_model_over_tiff_counts_from_the_last_row(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", RAW, photometric="minisblack")
    # 3dmod loads the last row of a TIFF as its row 0.
    write_model(tmp_path / "a.mod", LABELS[:, ::-1])
    raw, found, said = read_labels(tmp_path)
    np.testing.assert_array_equal(raw, RAW)
    np.testing.assert_array_equal(found, LABELS > 0)
    assert "rows of IMOD models over images other than MRC are counted from the last" in said
    _, found, said = read_labels(tmp_path, rows="stored")
    np.testing.assert_array_equal(found, LABELS[:, ::-1] > 0)
    assert "rows" not in said


def test_a_model_in_the_folder_of_a_structure(tmp_path):
    for split, section in (("train", 0), ("val", 1)):
        (tmp_path / split / "raw").mkdir(parents=True)
        (tmp_path / split / "mito").mkdir()
        tifffile.imwrite(tmp_path / split / "raw/a.tif", RAW[section], photometric="minisblack")
        write_model(tmp_path / split / "mito/a.mod", LABELS[section : section + 1, ::-1])
    _, found, said = read_labels(tmp_path, splits="auto", structures="all")
    np.testing.assert_array_equal(found, LABELS[:2] > 0)
    assert said.count("rows of IMOD models") == 1


def test_a_model_over_mrc_counts_from_the_first_stored_row(tmp_path):
    write_mrc(tmp_path / "a.mrc", RAW[:, ::-1])
    write_model(tmp_path / "a.mod", LABELS[:, ::-1])
    raw, found, said = read_labels(tmp_path)
    np.testing.assert_array_equal(raw, RAW[:, ::-1])
    np.testing.assert_array_equal(found, LABELS[:, ::-1] > 0)
    assert "rows" not in said


@pytest.mark.parametrize(
    "fields",
    [{"mapr": -2}, {"exttyp": b"FEI1", "nversion": 20140, "extended": bytes(768)}],
    ids=["mapr", "fei"],
)
def test_a_model_over_mrc_that_3dmod_inverts(tmp_path, fields):
    path = write_mrc(tmp_path / "a.mrc", RAW, **fields)
    assert read_geometry(path).inverted is True
    assert read_header(path).rows == DISPUTED
    write_model(tmp_path / "a.mod", LABELS[:, ::-1])
    _, found, said = read_labels(tmp_path)
    np.testing.assert_array_equal(found, LABELS > 0)
    assert "MRC that 3dmod inverts" in said


def test_imod_inverts_no_file_with_its_stamp(tmp_path):
    path = write_mrc(tmp_path / "a.mrc", RAW, mapr=-2)
    content = bytearray(path.read_bytes())
    content[152:160] = b"IMOD" + struct.pack("<i", 0)
    path.write_bytes(content)
    assert read_geometry(path).inverted is False
    assert read_header(path).rows == BOTTOM_FIRST


def test_a_later_file_of_fei_goes_by_the_pixels(tmp_path):
    path = write_mrc(tmp_path / "a.mrc", RAW, exttyp=b"FEI2", nversion=20141, extended=bytes(888))
    assert read_geometry(path).inverted is None
    for labels in (LABELS, LABELS[:, ::-1]):
        write_model(tmp_path / "a.mod", labels)
        _, found, said = read_labels(tmp_path)
        np.testing.assert_array_equal(found, LABELS > 0)
        assert "because they fit it so" in said


@pytest.mark.parametrize("name", ["a.zip", "a.geojson", "a.json"])
def test_what_fiji_and_qupath_draw_over_mrc_counts_from_the_last_stored_row(tmp_path, name):
    write_mrc(tmp_path / "a.mrc", RAW[:1, ::-1])
    if name == "a.zip":
        write_selections(tmp_path / name, LABELS[:1])
    else:
        rings = [[[6, 4], [20, 4], [20, 16], [6, 16], [6, 4]]]
        feature = '{"type": "Feature", "properties": {"name": "mitochondria"}, "geometry": '
        feature += f'{{"type": "Polygon", "coordinates": {rings}}}}}'
        (tmp_path / name).write_text(feature)
    expected = LABELS[:1] > 0 if name == "a.zip" else LABELS[:1] == 1
    settings = {"splits": "train=0;val=1", "structures": "mitochondrion=mitochondria,all"}
    write_mrc(tmp_path / "b.mrc", RAW[1:2, ::-1])
    (tmp_path / "b").with_suffix(Path(name).suffix).write_bytes((tmp_path / name).read_bytes())
    _, found, said = read_labels(tmp_path, **settings)
    np.testing.assert_array_equal(found[:1], expected[:, ::-1])
    assert "rows of what was drawn over MRC are counted from the last stored one" in said


def test_label_images_beside_mrc_are_taken_as_they_fit(tmp_path):
    """mrc2tif writes the last stored row first, napari with mrcfile the first one."""
    write_mrc(tmp_path / "a.mrc", RAW[:, ::-1])
    for labels, word in ((LABELS, "from the other end than"), (LABELS[:, ::-1], "in the order of")):
        tifffile.imwrite(tmp_path / "a_mito.tif", labels, photometric="minisblack")
        _, found, said = read_labels(tmp_path)
        np.testing.assert_array_equal(found, LABELS[:, ::-1] > 0)
        assert f"rows of a_mito.tif are taken {word} those of a.mrc" in said


def test_what_fits_neither_way_is_asked(tmp_path):
    noise = np.random.default_rng(1).integers(90, 150, SHAPE)
    write_mrc(tmp_path / "a.mrc", noise)
    tifffile.imwrite(tmp_path / "a_mito.tif", LABELS, photometric="minisblack")
    with pytest.raises(BenchError, match=r"rows of a_mito.tif must be known .* -P rows=stored if"):
        read_labels(tmp_path)
    _, stored, _ = read_labels(tmp_path, rows="stored")
    np.testing.assert_array_equal(stored, LABELS > 0)
    _, turned, _ = read_labels(tmp_path, rows="reversed")
    np.testing.assert_array_equal(turned, LABELS[:, ::-1] > 0)


def test_labels_in_mrc_beside_mrc_are_taken_as_stored(tmp_path):
    """Both are read alike by every program, whatever the image shows."""
    write_mrc(tmp_path / "a.mrc", np.random.default_rng(1).integers(90, 150, SHAPE))
    write_mrc(tmp_path / "a_mito.rec", LABELS)
    _, found, said = read_labels(tmp_path)
    np.testing.assert_array_equal(found, LABELS > 0)
    assert "rows" not in said


def test_a_model_of_an_image_of_another_size(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", RAW[:, ::2, ::2], photometric="minisblack")
    write_model(tmp_path / "a.mod", LABELS[:, ::-1])
    with pytest.raises(BenchError, match=r"40 x 30 px .* received 80 x 60: .* scale=auto"):
        read_labels(tmp_path)


def test_a_project_places_its_images_itself(tmp_path):
    (tmp_path / "p.xml").write_text("<trakem2/>")
    with pytest.raises(BenchError, match="rows must be auto for a TrakEM2 project"):
        read_labels(tmp_path, rows="reversed")
