"""Formats that are not read are named, with what makes them readable."""

import json
import zipfile

import h5py
import imagecodecs
import numpy as np
import pytest

from bench.errors import BenchError
from bench.ingest.annotations.zips import read_zip
from bench.ingest.foreign import find_foreign
from bench.ingest.images.planes import list_planes

RAW = np.random.default_rng(0).integers(0, 255, (24, 32), dtype=np.uint8)
FEATURE = {
    "type": "Feature",
    "geometry": {"type": "Polygon", "coordinates": [[[2, 2], [9, 2], [9, 9], [2, 9], [2, 2]]]},
    "properties": {"objectType": "annotation", "classification": {"name": "mito"}},
}
GEOJSON = json.dumps({"type": "FeatureCollection", "features": [FEATURE]})


def pack(path, entries: dict[str, str], method: int = zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def make(folder, files: dict[str, str]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


N5_ARRAY = '{"dimensions": [32, 24, 6], "blockSize": [8, 8, 8], "dataType": "uint8"}'
INFO = '{"data_type": "uint8", "num_channels": 1, "scales": [], "type": "image"}'
XML = '<?xml version="1.0"?>\n<!-- <trakem2> no -->\n'
FOREIGN = {
    "N5 by its name": ({"vol.n5/raw/x": ""}, "vol.n5 must .* received N5: open it in Fiji"),
    "N5 by its attributes": ({"em/attributes.json": '{"n5": "2.5.1"}'}, "em must .* N5"),
    "an array of N5": ({"em/attributes.json": N5_ARRAY}, "em must .* N5"),
    "precomputed": ({"em/info": INFO}, "em must .* received Neuroglancer precomputed: read it"),
    "Zarr of another name": ({"em/.zgroup": "{}"}, "em must .* Zarr: let the name .* end in .zarr"),
    "WEBKNOSSOS": ({"em/datasource-properties.json": "{}"}, "em must .* received WEBKNOSSOS"),
    "NRRD": ({"a.nrrd": "x"}, "a.nrrd must .* received NRRD or MetaImage: open it in Fiji"),
    "CZI": ({"a.CZI": "x"}, "a.CZI must .* Zeiss CZI: open it in Fiji and save it as TIFF"),
    "Gatan": ({"a.dm4": "x"}, "Gatan Digital Micrograph"),
    "drawing": ({"a.svg": "<svg/>"}, "vector drawing: export areas as GeoJSON, COCO"),
    "CVAT": ({"a.xml": XML + "<annotations/>"}, "a.xml must .* CVAT XML: export it as COCO"),
    "BigDataViewer": ({"a.xml": XML + '<SpimData version="0.2"/>'}, "BigDataViewer"),
    "OME": ({"a.ome.xml": XML + '<OME xmlns="http://x"/>'}, "OME-XML: give the TIFF files"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_an_input_of_another_format_is_named(tmp_path, read_tree, case):
    files, message = FOREIGN[case]
    make(tmp_path, files)
    top = tmp_path / next(iter(files)).split("/")[0]
    for given in (tmp_path, top):
        with pytest.raises(BenchError, match=message) as caught:
            read_tree(given)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd", "a.lif"])
def test_other_formats_among_images_are_named(make_tree, read_tree, tmp_path, name):
    root = make_tree()
    (root / "val/raw" / name).touch()
    with pytest.raises(BenchError, match=rf"received {name} \("):
        read_tree(root)
    with pytest.raises(BenchError, match=rf"received {name} \("):
        list_planes(str(root / "val/raw"), None)
    with pytest.raises(BenchError, match="must be of a format that is read"):
        list_planes(str(root / "val/raw" / name), None)
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat/s0.png").write_bytes(imagecodecs.png_encode(RAW))
    (tmp_path / "flat" / name).touch()
    with pytest.raises(BenchError, match="must be of a format that is read"):
        read_tree(tmp_path / "flat")


def test_what_is_read_is_not_foreign(tmp_path, make_tree):
    root = make_tree()
    make(tmp_path, {"p.xml": XML + "<trakem2/>", "v.zarr/.zgroup": "{}", "info": "text", "a": "b"})
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = RAW
    pack(tmp_path / "s0.zip", {"a.roi": "x"})
    make(tmp_path, {"images/attributes.json": '{"author": "x"}', "images/info": "[1]"})
    for path in (root, *tmp_path.iterdir()):
        assert find_foreign(path) is None


def test_zipped_geojson_of_qupath(tmp_path, read_tree):
    for number in range(2):
        (tmp_path / f"s{number}.png").write_bytes(imagecodecs.png_encode(RAW))
        pack(tmp_path / f"s{number}.zip", {f"s{number}.geojson": GEOJSON, "__MACOSX/._s": "x"})
    tree = read_tree(tmp_path, splits="train=0;val=1")
    assert tree.structures == ("mitochondria",)
    expected = np.zeros(RAW.shape, int)
    expected[2:9, 2:9] = 1
    np.testing.assert_array_equal(tree.sections[1].labels["mitochondria"].read(), expected)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"a.nml": "<things/>", "data_0_Volume.zip": "x"}, r"WEBKNOSSOS \(.*: export the volume"),
        ({"1/z0/y0/x0.wkw": "x", "1/header.wkw": "x"}, "WEBKNOSSOS"),
        ({"v.zarr/.zgroup": "{}"}, r"zipped Zarr \(v.zarr/.zgroup\): unpack it"),
        ({"a.tif": "x", "b.tif": "x"}, r"zipped images \(a.tif, b.tif\): unpack it"),
        ({"annotations/instances_default.json": "{}"}, "zipped JSON"),
        ({"a.geojson": GEOJSON, "b.geojson": GEOJSON}, "one GeoJSON file, received a.geojson, b"),
        ({"notes.txt": "x"}, r"received notes.txt: unpack it"),
        ({}, "received nothing"),
        ({"a.geojson": "{"}, "must be a whole GeoJSON in a ZIP file"),
        ({"a.geojson": '{"type": "x"}'}, "must be a FeatureCollection"),
    ],
)
def test_zips_of_something_else_are_named(tmp_path, entries, message):
    with pytest.raises(BenchError, match=message) as caught:
        read_zip(pack(tmp_path / "a.zip", entries))
    assert "\n" not in str(caught.value)


def test_zipped_geojson_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.ingest.annotations.zips._FREE_BYTES", 2**16)
    bomb = pack(tmp_path / "a.zip", {"a.geojson": " " * 2**24})
    with pytest.raises(BenchError, match="unpacks to far too much"):
        read_zip(bomb)
    with pytest.raises(BenchError, match="packed otherwise"):
        read_zip(pack(tmp_path / "b.zip", {"a.geojson": GEOJSON}, zipfile.ZIP_LZMA))
    (tmp_path / "c.zip").write_bytes(bomb.read_bytes()[:100])
    with pytest.raises(BenchError, match="must be a whole ZIP file"):
        read_zip(tmp_path / "c.zip")
