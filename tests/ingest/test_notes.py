"""What images say of themselves reaches the one who prepares them, a line for each kind."""

import json
import zipfile

import mrcfile
import numpy as np
import pytest
import roifile
import tifffile
from PIL import Image

from bench.config.data import PrepareConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.ingest.images.planes import list_planes
from bench.ingest.inputs import read_input
from bench.ingest.sources import describe_notes
from bench.ingest.writing import write_prepared

SHAPE = (40, 50)
SPLITS = "train=0;val=1;test=2"
RAW = np.random.default_rng(0).integers(0, 255, (3, *SHAPE), dtype=np.uint8)
IDS = np.zeros(SHAPE, np.uint8)
IDS[2:12, 3:13], IDS[20:30, 20:40] = 1, 2
OPTIONS = {"photometric": "minisblack"}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "input"
    folder.mkdir()
    return folder


def read(folder, **settings):
    settings = {"splits": SPLITS, "structures": "mitochondria"} | settings
    return read_input(PrepareConfig(input=str(folder), **settings))


def found_in(tree, words):
    return [warning for warning in tree.warnings if words in warning]


def write_labels(folder, stem="s", dtype=np.uint8):
    for number in range(3):
        path = folder / f"{stem}{number}_mitochondria.tif"
        tifffile.imwrite(path, IDS.astype(dtype), **OPTIONS)


def write_ome_set(folder):
    pixels = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{}"><Image>'
        '<Pixels DimensionOrder="XYZCT" SizeZ="3" SizeC="1" SizeT="1" PhysicalSizeX="0.005" '
        'PhysicalSizeY="0.005" PhysicalSizeZ="0.05">'
    )
    blocks = "".join(
        f'<TiffData FirstZ="{n}"><UUID FileName="s{n}.ome.tif">urn:uuid:{n}</UUID></TiffData>'
        for n in range(3)
    )
    for number in range(3):
        text = pixels.format(number) + blocks + "</Pixels></Image></OME>"
        path = folder / f"s{number}.ome.tif"
        tifffile.imwrite(path, RAW[number], description=text, metadata=None, **OPTIONS)


def test_a_set_of_ome_tiff_is_prepared_file_by_file(folder, tmp_path):
    write_ome_set(folder)
    write_labels(folder)
    (folder / "set.companion.ome").write_text("<OME/>")
    (folder / "s_metadata.txt").write_text("{}")
    tree = read(folder)
    assert (tree.pixel_size_nm, tree.section_nm) == (5, 50)
    assert len(found_in(tree, "2 pairs of sections in different splits are closer than")) == 1
    write_prepared(tree, tmp_path / "prepared")
    dataset = PreparedDataset.open(tmp_path / "prepared")
    for number, name in enumerate(("train-s0", "val-s1", "test-s2")):
        np.testing.assert_array_equal(dataset.read_raw(name), RAW[number])
        np.testing.assert_array_equal(dataset.read_labels(name, "mitochondria"), IDS)


def test_an_mrc_of_one_angstrom_is_of_unknown_size(folder):
    with mrcfile.new(folder / "s.mrc") as file:
        file.set_data(RAW.astype(np.int16))
        file.voxel_size = 1.0
    tifffile.imwrite(folder / "s_mitochondria.tif", np.stack([IDS] * 3), **OPTIONS)
    tree = read(folder, rows="stored")
    assert (tree.pixel_size_nm, tree.section_nm) == (None, None)
    (line,) = found_in(tree, "exactly 1 Angstrom")
    assert line.startswith("s.mrc: states voxels")
    given = read(folder, pixel_size_nm=5.0, rows="stored")
    assert given.pixel_size_nm == 5.0
    assert not [warning for warning in given.warnings if "state" in warning]
    images = [plane.image for plane in list_planes(str(folder / "s.mrc"), None)]
    assert describe_notes(images, sizes=True) == [line]
    assert describe_notes(images, sizes=False) == []


@pytest.mark.parametrize("size_nm", [0.02, 5000.0])
def test_an_implausible_size_is_told(folder, size_nm):
    for number in range(3):
        tifffile.imwrite(folder / f"s{number}.tif", RAW[number])
    write_labels(folder)
    assert len(found_in(read(folder, pixel_size_nm=size_nm), "not plausible in electron")) == 1
    assert found_in(read(folder, pixel_size_nm=5.0), "not plausible") == []


def write_detectors(folder, label_pages):
    words = "ImageJ=1.54f\nimages=2\nchannels=2\nhyperstack=true\nmode=grayscale\n"
    for number in range(3):
        both = np.stack([RAW[number], 255 - RAW[number]])
        path = folder / f"s{number}.tif"
        tifffile.imwrite(path, both, description=words, metadata=None, **OPTIONS)
        if label_pages:
            labels = np.stack([IDS] * label_pages)
            tifffile.imwrite(folder / f"s{number}_mitochondria.tif", labels, **OPTIONS)


def test_two_detectors_are_no_two_sections_unseen(folder):
    write_detectors(folder, 2)
    tree = read(folder, splits="regions:train=0;val=1;test=2")
    (line,) = found_in(tree, "channels")
    assert line.startswith("s0.tif, s1.tif, s2.tif: calls its 2 pages channels, and they are taken")
    write_detectors(folder, 1)
    with pytest.raises(BenchError, match=r"s0.tif must hold one channel.*received 2 channels and"):
        read(folder)


def write_rois(path):
    with zipfile.ZipFile(path, "w") as archive:
        roi = roifile.ImagejRoi.frompoints(np.array([[2, 2], [9, 2], [9, 9]], float), name="mito")
        archive.writestr("mito.roi", roi.tobytes())


def write_geojson(path):
    ring = [[2, 2], [9, 2], [9, 9], [2, 2]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"classification": {"name": "mito"}},
    }
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))


@pytest.mark.parametrize(("ending", "write"), [("zip", write_rois), ("geojson", write_geojson)])
def test_drawings_over_two_detectors_are_refused(folder, ending, write):
    write_detectors(folder, 0)
    for number in range(3):
        write(folder / f"s{number}.{ending}")
    with pytest.raises(BenchError, match=r"s0.tif must hold one channel, .* received 2 channels"):
        read(folder)


@pytest.mark.parametrize("which", ["raw", "labels"])
def test_an_image_turned_by_its_tag_ends_prepare(folder, which):
    turned = {"extratags": [(274, "H", 1, 4, True)]}
    for number in range(3):
        options = turned if which == "raw" else {}
        tifffile.imwrite(folder / f"s{number}.tif", RAW[number], **options)
    write_labels(folder)
    if which == "labels":
        tifffile.imwrite(folder / "s1_mitochondria.tif", IDS, **turned)
    with pytest.raises(BenchError, match=r"s\d\w*.tif must be stored as .* TIFF orientation of 4"):
        read(folder)


def test_labels_in_jpeg_are_refused_and_raw_is_not(folder):
    for number in range(3):
        tifffile.imwrite(folder / f"s{number}.tif", RAW[number], compression="jpeg")
    write_labels(folder)
    assert len(read(folder).sections) == 3
    tifffile.imwrite(folder / "s1_mitochondria.tif", 100 * IDS, compression="jpeg")
    with pytest.raises(BenchError, match=r"received s1_mitochondria.tif with pixels in JPEG"):
        read(folder)


def test_white_is_foreground_in_one_bit(folder, tmp_path):
    for number in range(3):
        tifffile.imwrite(folder / f"s{number}.tif", 255 - RAW[number], photometric="miniswhite")
        path = folder / f"s{number}_mitochondria.tif"
        Image.fromarray(IDS > 0).save(path, compression="group4", tiffinfo={262: 0})
    write_prepared(read(folder), tmp_path / "prepared")
    dataset = PreparedDataset.open(tmp_path / "prepared")
    np.testing.assert_array_equal(dataset.read_raw("val-s1"), RAW[1])
    np.testing.assert_array_equal(dataset.read_labels("val-s1", "mitochondria"), IDS)


def test_ids_where_white_is_zero_are_kept_and_told(folder, tmp_path):
    for number in range(3):
        tifffile.imwrite(folder / f"s{number}.tif", RAW[number])
        path = folder / f"s{number}_mitochondria.tif"
        tifffile.imwrite(path, IDS, photometric="miniswhite")
    tree = read(folder)
    assert len(found_in(tree, "is a label image whose white is zero")) == 1
    write_prepared(tree, tmp_path / "prepared")
    labels = PreparedDataset.open(tmp_path / "prepared").read_labels("val-s1", "mitochondria")
    np.testing.assert_array_equal(labels, IDS)
