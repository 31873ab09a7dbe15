import json

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from ome_zarr.format import format_from_version
from ome_zarr.writer import write_label_metadata
from ome_zarr_models import open_ome_zarr

from bench.export.ome_zarr import (
    average_fours,
    take_first,
    write_ome_zarr,
    write_ome_zarr_05,
)
from bench.export.stack import make_stack
from bench.ingest.images import zarr_arrays


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_no_pixel_is_lost(data, label_arrays, tmp_path_factory):
    labels = data.draw(label_arrays)
    folder = tmp_path_factory.mktemp("zarr")
    write_ome_zarr(make_stack({"vesicles": labels}, raw=labels), folder)
    path = folder / "image.ome.zarr"
    assert np.array_equal(zarr.open(path, mode="r")["labels/vesicles/0"][:], labels)
    for page, section in enumerate(labels):
        found = zarr_arrays.read_plane(path, page, "labels/vesicles")
        assert np.array_equal(found, section)
        assert np.array_equal(zarr_arrays.read_plane(path, page), section)


def test_metadata_are_those_of_ome_zarr(tmp_path):
    random = np.random.default_rng(0)
    raw = random.integers(0, 255, (2, 700, 1100), dtype=np.uint8)
    labels = random.integers(0, 9, raw.shape, dtype=np.uint32)
    stack = make_stack(
        {"vesicles": labels, "membrane": labels}, raw=raw, pixel_size_nm=4.0, section_nm=40.0
    )
    write_ome_zarr(stack, tmp_path)
    root = tmp_path / "image.ome.zarr"
    assert json.loads((root / ".zgroup").read_text()) == {"zarr_format": 2}
    assert json.loads((root / "labels/.zattrs").read_text()) == {"labels": ["vesicles", "membrane"]}
    for folder in (root, root / "labels/vesicles", root / "labels/membrane"):
        attributes = json.loads((folder / ".zattrs").read_text())
        (scales,) = attributes["multiscales"]
        assert scales["version"] == "0.4"
        assert [(axis["name"], axis["type"], axis["unit"]) for axis in scales["axes"]] == [
            (axis, "space", "nanometer") for axis in "zyx"
        ]
        levels = [(d["path"], d["coordinateTransformations"]) for d in scales["datasets"]]
        assert levels == [
            ("0", [{"type": "scale", "scale": [40, 4, 4]}]),
            ("1", [{"type": "scale", "scale": [40, 8, 8]}]),
            ("2", [{"type": "scale", "scale": [40, 16, 16]}]),
        ]
        array = json.loads((folder / "2/.zarray").read_text())
        assert array["shape"] == [2, 175, 275]
        assert array["dimension_separator"] == "/"
    label = json.loads((root / "labels/vesicles/.zattrs").read_text())["image-label"]
    assert label == {"version": "0.4", "source": {"image": "../../"}}
    header = zarr_arrays.read_header(root)
    assert (header.shape, header.pages) == ((700, 1100), 2)
    assert (header.pixel_sides_nm, header.section_nm) == ((4, 4), 40)
    assert zarr_arrays.choose_level(root, 8.0, "labels/vesicles").endswith("1")


@pytest.mark.parametrize("pixel_size_nm", [None, 4.0])
@pytest.mark.parametrize(("write", "fmt"), [(write_ome_zarr, "0.4"), (write_ome_zarr_05, "0.5")])
def test_the_specification_holds(tmp_path, write, fmt, pixel_size_nm):
    """As ome-zarr-models checks it: groups, axes, transformations, and types of labels."""
    raw = np.zeros((2, 600, 513), np.uint8)
    stack = make_stack({"vesicles": raw.astype(np.uint32)}, raw=raw, pixel_size_nm=pixel_size_nm)
    write(stack, tmp_path)
    root = zarr.open_group(tmp_path / "image.ome.zarr")
    # Its version 1.6 fails where no label has a colour, which the specification leaves open.
    colour = {"label-value": 1, "rgba": [255, 0, 0, 255]}
    write_label_metadata(root["labels"], "vesicles", colors=[colour], fmt=format_from_version(fmt))
    for part in (root, root["labels"], root["labels/vesicles"]):
        assert open_ome_zarr(part, version=fmt).ome_zarr_version == fmt


def test_levels_of_odd_sizes_reach_the_border():
    pixels = np.arange(15, dtype=np.uint8).reshape(1, 3, 5)
    # Means of (0, 1, 5, 6), (2, 3, 7, 8) and (4, 9), and of the last row; halves go to the even.
    assert average_fours(pixels).tolist() == [[[3, 5, 6], [10, 12, 14]]]
    assert take_first(pixels).tolist() == [[[0, 2, 4], [10, 12, 14]]]


def test_a_mean_keeps_the_type():
    for dtype in (np.uint8, np.uint16, np.float32, np.int16):
        flat = np.full((1, 4, 4), 200 if dtype == np.uint8 else 30000, dtype)
        assert average_fours(flat).dtype == dtype
        assert (average_fours(flat) == flat[0, 0, 0]).all()


def test_labels_alone_have_no_image(ring_labels, tmp_path):
    write_ome_zarr(make_stack({"membrane": ring_labels}), tmp_path)
    root = tmp_path / "image.ome.zarr"
    assert "multiscales" not in zarr.open(root, mode="r").attrs
    assert zarr_arrays.read_header(root, "labels/membrane").pixel_sides_nm is None


def test_version_05_says_it_under_ome(tmp_path):
    """As the specification of 0.5 has it: Zarr version 3, all metadata in the attribute ome."""
    random = np.random.default_rng(0)
    raw = random.integers(0, 255, (2, 600, 520), dtype=np.uint8)
    labels = random.integers(0, 9, raw.shape, dtype=np.uint32)
    stack = make_stack({"vesicles": labels}, raw=raw, pixel_size_nm=4.0, section_nm=40.0)
    write_ome_zarr_05(stack, tmp_path)
    root = tmp_path / "image.ome.zarr"
    said = {
        folder: json.loads((root / folder / "zarr.json").read_text())
        for folder in ("", "labels", "labels/vesicles")
    }
    assert {each["zarr_format"] for each in said.values()} == {3}
    assert {tuple(each["attributes"]) for each in said.values()} == {("ome",)}
    ome = {folder: each["attributes"]["ome"] for folder, each in said.items()}
    assert {each["version"] for each in ome.values()} == {"0.5"}
    assert ome["labels"] == {"version": "0.5", "labels": ["vesicles"]}
    assert ome["labels/vesicles"]["image-label"] == {
        "version": "0.5",
        "source": {"image": "../../"},
    }
    (scales,) = ome[""]["multiscales"]
    assert [level["coordinateTransformations"][0]["scale"] for level in scales["datasets"]] == [
        [40, 4, 4],
        [40, 8, 8],
    ]
    assert json.loads((root / "0/zarr.json").read_text())["dimension_names"] == ["z", "y", "x"]
    header = zarr_arrays.read_header(root)
    assert (header.shape, header.pages, header.section_nm) == ((600, 520), 2, 40)
    assert np.array_equal(zarr_arrays.read_plane(root, 1), raw[1])
    assert np.array_equal(zarr_arrays.read_plane(root, 1, "labels/vesicles"), labels[1])
