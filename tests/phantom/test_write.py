import hashlib
import json
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import tifffile

from bench.config.data import PhantomConfig
from bench.errors import BenchError
from bench.phantom.write import write_phantom

STRUCTURES = ("vesicles", "mitochondria", "membrane")
SETTINGS = {"regions": 3, "sections": 3, "size_px": 160, "montage_px": 200, "seed": 4}


def configure(output, **settings):
    return PhantomConfig(output=str(output), **{**SETTINGS, **settings})


def hash_files(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return write_phantom(configure(tmp_path_factory.mktemp("phantom") / "data"))


def test_regions_are_split_whole(phantom):
    found = {}
    for split in ("train", "val", "test"):
        names = {kind: sorted(p.name for p in (phantom / split / kind).iterdir())
                 for kind in ("raw", *STRUCTURES)}  # fmt: skip
        assert len(set(map(tuple, names.values()))) == 1
        found[split] = names["raw"]
    assert {split: {name.split("_")[0] for name in names} for split, names in found.items()} == {
        "train": {"region0"}, "val": {"region1"}, "test": {"region2"},
    }  # fmt: skip
    assert [len(names) for names in found.values()] == [3, 3, 3]
    numbers = [int(re.findall(r"\d+", name)[-1]) for names in found.values() for name in names]
    assert len(set(numbers)) == 9


def test_sections_of_few_regions_are_split(tmp_path):
    folder = write_phantom(configure(tmp_path / "data", regions=1, sections=4, size_px=128))
    names = {s: sorted(p.name for p in (folder / s / "raw").iterdir()) for s in ("train", "val")}
    assert names["train"] == ["region0_section000.tif", "region0_section001.tif"]
    assert names["val"] == ["region0_section002.tif"]
    assert (folder / "test" / "raw" / "region0_section003.tif").is_file()


def test_images_carry_their_type_and_pixel_size(phantom):
    for path in phantom.rglob("*.tif"):
        raw = path.parent.name in ("raw", "montages")
        edge = 200 if path.parent.name == "montages" else 160
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages[0]
            assert page.dtype == (np.uint8 if raw else np.uint16)
            assert page.shape == (edge, edge)
            assert page.tags["ResolutionUnit"].value == 3  # centimetre
            for tag in ("XResolution", "YResolution"):
                per_cm = page.tags[tag].value[0] / page.tags[tag].value[1]
                assert 1e7 / per_cm == pytest.approx(5.0)


def test_regions_are_crops_of_their_montages(phantom):
    paths = list(phantom.glob("*/raw/*.tif"))
    assert len(paths) == 9
    for path in paths:
        montage = tifffile.imread(phantom / "montages" / path.name)
        assert np.array_equal(montage[20:180, 20:180], tifffile.imread(path))


def crossings(points, shape):
    """Which pixel centres have an odd number of a polygon's edges to their left."""
    y, x = np.arange(shape[0]) + 0.5, np.arange(shape[1]) + 0.5
    odd = np.zeros(shape, bool)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        rows = (np.minimum(y0, y1) <= y) & (y < np.maximum(y0, y1))
        if rows.any():
            at = x0 + (y[rows] - y0) * (x1 - x0) / (y1 - y0)
            odd[rows] ^= at[:, None] < x
    return odd


def rasterise(root, edge):
    """Instances per class and montage: lists of masks."""
    files = {
        layer.get("oid"): layer.find("t2_patch").get("file_path")
        for layer in root.iter("t2_layer")
    }  # fmt: skip
    classes = {
        leaf.get("oid"): thing.tag
        for region in root.iter("region")
        for thing in region
        for leaf in thing
    }
    found = {}
    for item in root.iter("t2_area_list"):
        matrix = [float(v) for v in item.get("transform")[7:-1].split(",")]
        assert matrix[:4] == [1, 0, 0, 1]
        for area in item.iter("t2_area"):
            mask = np.zeros((edge, edge), bool)
            for path in area.iter("t2_path"):
                text = path.get("d")
                assert text.endswith("z")
                numbers = np.array(re.findall(r"[-\d.]+", text), float).reshape(-1, 2)
                mask ^= crossings(numbers + matrix[4:], mask.shape)
            key = classes[item.get("oid")], files[area.get("layer_id")]
            found.setdefault(key, []).append(mask)
    return found


def test_the_project_fills_to_the_labels(phantom):
    root = ElementTree.parse(phantom / "project.xml").getroot()
    found = rasterise(root, 200)
    tags = {"vesicles": "vesicle", "mitochondria": "mitochondria", "membrane": "membrane"}
    for path in phantom.glob("*/raw/*.tif"):
        for structure, tag in tags.items():
            ids = tifffile.imread(path.parent.parent / structure / path.name)
            masks = found[tag, f"montages/{path.name}"]
            expected = {(np.pad(ids, 20) == i).tobytes() for i in np.unique(ids[ids > 0])}
            assert len(masks) == len(expected)
            assert {mask.tobytes() for mask in masks} == expected


def test_the_project_has_calibration_and_order(phantom):
    text = (phantom / "project.xml").read_text("latin-1")
    assert "<!DOCTYPE" in text
    layers = ElementTree.fromstring(text.encode("latin-1")).find("t2_layer_set")
    tags = [child.tag for child in layers]
    assert tags == ["t2_calibration", *["t2_area_list"] * tags.count("t2_area_list"),
                    *["t2_layer"] * 9]  # fmt: skip
    calibration = layers[0].attrib
    assert (calibration["pixelWidth"], calibration["pixelDepth"]) == ("5.0", "50.0")
    assert calibration["unit"] == "nm"
    ids = re.findall(r'\b(?:oid|id)="(\d+)"', text.split("<t2_layer_set")[1])
    assert len(ids) == len(set(ids))
    for patch in layers.iter("t2_patch"):
        assert (phantom / patch.get("file_path")).is_file()


def test_the_same_settings_give_the_same_files_and_are_reused(phantom, tmp_path):
    again = write_phantom(configure(tmp_path / "again"))
    assert hash_files(again) == hash_files(phantom)
    times = {path: path.stat().st_mtime_ns for path in again.rglob("*")}
    calls = []
    assert write_phantom(configure(again), progress=lambda *done: calls.append(done)) == again
    assert times == {path: path.stat().st_mtime_ns for path in again.rglob("*")}
    assert calls == []
    assert json.loads((again / "phantom.json").read_text())["settings"]["seed"] == 4


def test_other_settings_and_foreign_folders_are_refused(phantom, tmp_path):
    before = hash_files(phantom)
    with pytest.raises(BenchError, match="choose another output or delete it"):
        write_phantom(configure(phantom, seed=5))
    assert hash_files(phantom) == before
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(BenchError, match="choose another output"):
        write_phantom(configure(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(BenchError, match="choose another output"):
        write_phantom(configure(tmp_path / "mine.txt"))


def test_an_interrupted_writer_leaves_nothing(tmp_path):
    def interrupt(done, total):
        assert total == 9
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_phantom(configure(tmp_path / "data"), progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_region_larger_than_its_montage_is_refused(tmp_path):
    with pytest.raises(BenchError, match="montage_px must be at least size_px"):
        write_phantom(configure(tmp_path / "data", size_px=256))
    assert list(tmp_path.iterdir()) == []
