"""Axes by name, as ilastik, netCDF, xarray, Zarr 3 and OME-Zarr write them."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from bench.errors import BenchError
from bench.ingest.images import chunks, hdf5, zarr_arrays
from bench.ingest.images.axes import find_section_axes
from bench.ingest.images.axis_names import known_axes

VOLUME = np.random.default_rng(0).integers(0, 200, (5, 40, 50)).astype("u1")
ORDERS = ["zyx", "xyz", "yxz", "ZXY"]
# Zarr 3 alone has names of dimensions of its own; other programs write them as attributes.
ZARR_WAYS = [(3, "dimension_names")] + [
    (version, way) for version in (2, 3) for way in ("_ARRAY_DIMENSIONS", "axis_names", "axistags")
]


def stored_as(order: str) -> np.ndarray:
    return VOLUME.transpose(["zyx".index(axis) for axis in order.lower()])


def tag_axes(order: str) -> str:
    # As vigra's AxisTags.toJSON writes them.
    axes = [{"key": k, "typeFlags": 2, "resolution": 0, "description": ""} for k in order.lower()]
    return json.dumps({"axes": axes}, indent=1)


def write_tagged(path: Path, order: str) -> None:
    with h5py.File(path, "w") as file:
        pixels = stored_as(order)[..., np.newaxis]
        data = file.create_dataset("exported_data", data=pixels, chunks=(2, 16, 3, 1))
        data.attrs["axistags"] = tag_axes(order + "c")


def write_labelled(path: Path, order: str) -> None:
    with h5py.File(path, "w") as file:
        data = file.create_dataset("raw", data=stored_as(order))
        for axis, name in enumerate(order):
            data.dims[axis].label = name


def write_netcdf(path: Path, order: str) -> None:
    with h5py.File(path, "w") as file:
        data = file.create_dataset("raw", data=stored_as(order), chunks=True)
        for axis, name in enumerate(order):
            file[name] = np.zeros(data.shape[axis])
            file[name].make_scale("This is a netCDF dimension but not a netCDF variable.")
            data.dims[axis].attach_scale(file[name])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("write", [write_tagged, write_labelled, write_netcdf])
def test_hdf5_is_read_by_the_names_of_its_axes(tmp_path, write, order):
    write(tmp_path / "a.h5", order)
    header = hdf5.read_header(tmp_path / "a.h5")
    assert (header.shape, header.pages) == ((40, 50), 5)
    for page in (0, 4, 1):
        np.testing.assert_array_equal(hdf5.read_plane(tmp_path / "a.h5", page), VOLUME[page])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("version", "way"), ZARR_WAYS)
def test_zarr_is_read_by_the_names_of_its_axes(tmp_path, monkeypatch, order, way, version):
    stated = json.loads(tag_axes(order)) if way == "axistags" else list(order)
    named = (
        {"dimension_names": stated} if way == "dimension_names" else {"attributes": {way: stated}}
    )
    pixels = stored_as(order)
    array = zarr.create_array(
        tmp_path / "a.zarr", name="raw", shape=pixels.shape, dtype="u1", chunks=(2, 16, 16),
        zarr_format=version, **named,
    )  # fmt: skip
    array[...] = pixels
    monkeypatch.setattr(zarr_arrays, "FREE_BYTES", 1)  # a band of chunks after the other
    header = zarr_arrays.read_header(tmp_path / "a.zarr", "raw")
    assert (header.shape, header.pages) == ((40, 50), 5)
    for page in (0, 4, 1):
        np.testing.assert_array_equal(
            zarr_arrays.read_plane(tmp_path / "a.zarr", page), VOLUME[page]
        )


@pytest.mark.parametrize("chunked", [True, None])
def test_turned_array_is_read_in_few_passes(tmp_path, monkeypatch, chunked):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("raw", data=stored_as("xyz"), chunks=chunked and (50, 40, 5))
        data.attrs["axistags"] = tag_axes("xyz")
    passes = []
    turn = hdf5.turn
    monkeypatch.setattr(hdf5, "turn", lambda *given: passes.append(1) or turn(*given))
    for page in range(5):
        np.testing.assert_array_equal(hdf5.read_plane(tmp_path / "a.h5", page), VOLUME[page])
    assert len(passes) == 1
    monkeypatch.setattr(chunks, "LARGEST_SLAB", VOLUME[0].nbytes)
    chunks.kept.clear()
    np.testing.assert_array_equal(hdf5.read_plane(tmp_path / "a.h5", 3), VOLUME[3])
    assert not chunks.kept


def test_ome_image_of_another_order_with_two_channels(tmp_path):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    array = root.create_array("0", shape=(50, 40, 5, 2), dtype="u1", chunks=(16, 16, 2, 1))
    array[...] = np.stack([VOLUME.T, 255 - VOLUME.T], axis=-1)
    nm = {"type": "space", "unit": "nanometer"}
    axes = [*({"name": n, **nm} for n in "xyz"), {"name": "c", "type": "channel"}]
    scale = {"type": "scale", "scale": [4, 4, 40, 1]}
    datasets = [{"path": "0", "coordinateTransformations": [scale]}]
    root.attrs["multiscales"] = [{"axes": axes, "datasets": datasets, "version": "0.4"}]
    root.attrs["omero"] = {"channels": [{"label": "SE"}, {"label": "BSE"}]}
    path = tmp_path / "a.zarr"
    for key in ("0:BSE", "0:1", ":1"):
        header = zarr_arrays.read_header(path, key)
        assert (header.shape, header.pages) == ((40, 50), 5)
        assert (header.pixel_sides_nm, header.section_nm) == ((4, 4), 40)
        np.testing.assert_array_equal(zarr_arrays.read_plane(path, 1, key), 255 - VOLUME[1])
    np.testing.assert_array_equal(zarr_arrays.read_plane(path, 1, "0:SE"), VOLUME[1])
    assert zarr_arrays.list_channels(path, "0") == ("SE", "BSE")
    assert zarr_arrays.list_channels(path, "0:SE") == ()
    for key, message in (
        ("0:2", "channel must be 0 to 1 in array 0"),
        ("0:ESB", "a number from 0, or one of SE, BSE, received 'ESB'"),
        ("0", "must be one channel, received 2 channels"),
    ):
        with pytest.raises(BenchError, match=message):
            zarr_arrays.read_plane(path, 0, key)


def test_channel_of_an_hdf5_array(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("raw", data=np.stack([VOLUME, 255 - VOLUME], axis=-1))
        data.attrs["axistags"] = tag_axes("zyxc")
        file["plain:1"] = VOLUME
    assert hdf5.list_channels(tmp_path / "a.h5", "raw") == ("0", "1")
    np.testing.assert_array_equal(hdf5.read_plane(tmp_path / "a.h5", 2, "raw:0"), VOLUME[2])
    np.testing.assert_array_equal(hdf5.read_plane(tmp_path / "a.h5", 2, "raw:1"), 255 - VOLUME[2])
    # A name may have a colon itself.
    np.testing.assert_array_equal(hdf5.read_plane(tmp_path / "a.h5", 2, "plain:1"), VOLUME[2])
    with pytest.raises(BenchError, match="must be one channel, received 2 channels"):
        hdf5.read_plane(tmp_path / "a.h5", 2, "raw")


def test_attributes_are_in_the_order_of_the_axes(tmp_path):
    for order, sides in {"xyz": (4, 4, 40), "zyx": (40, 4, 4)}.items():
        path = tmp_path / f"{order}.h5"
        write_labelled(path, order)
        with h5py.File(path, "a") as file:
            file["raw"].attrs.update(resolution=sides, offset=[10.0 * s for s in sides])
        header = hdf5.read_header(path)
        assert (header.pixel_sides_nm, header.section_nm) == ((4, 4), 40)
        assert hdf5.read_offset(path, "raw") == (400, 40, 40)
        assert len(header.notes) == (order == "xyz")
    with h5py.File(tmp_path / "xyz.h5", "a") as file:
        file["raw"].attrs["resolution"] = (4, 4, 4)
    assert hdf5.read_header(tmp_path / "xyz.h5").notes == ()


@pytest.mark.parametrize(
    ("names", "shape", "expected"),
    [
        (("Slice", "ROW", "Column"), (5, 40, 50), (0, 1, 2)),
        (("width", "height", "depth"), (50, 40, 5), (2, 1, 0)),
        (("x", "y"), (50, 40), (1, 0)),
        (("dim_0", "dim_1", "dim_2"), (5, 40, 50), (0, 1, 2)),
        (("", "y", "x"), (5, 40, 50), (0, 1, 2)),
        (("x", "y", "n"), (50, 40, 5), (2, 1, 0)),
        (("z", "", ""), (5, 40, 50), (0, 1, 2)),
        (("t", "y", "x", "c"), (5, 40, 50, 1), (0, 1, 2)),
        (("t", "z", "y", "x", "c"), (5, 1, 40, 50, 1), (0, 2, 3)),
        (("c", "x", "y", "z"), (1, 50, 40, 5), (3, 2, 1)),
        (("y", "x", "z"), (40, 50, 1), (2, 0, 1)),
        (("x", "", ""), (50, 40, 5), None),
        (("x", "x", "y"), (50, 40, 5), None),
        (("z", "y"), (5, 40), None),
        (("t", "z", "y", "x"), (2, 5, 40, 50), None),
    ],
)
def test_axes_by_whatever_they_are_called(names, shape, expected):
    def find():
        return find_section_axes(Path("a"), "raw", shape, known_axes(names, len(shape)))

    if expected is None:
        with pytest.raises(BenchError, match="must be grey sections"):
            find()
    else:
        assert find().kept == expected


def test_names_that_say_nothing_do_not_disturb():
    assert known_axes(["x", "y"], 3) == ()
    assert known_axes([None, None, None], 3) == ()
    assert find_section_axes(Path("a"), "raw", (5, 40, 50), ()).kept == (0, 1, 2)


@pytest.mark.parametrize(
    ("units", "sides", "section"),
    [
        ({"x": "nm", "y": "nm", "z": "\u03bcm"}, (4, 4), 40),
        ({"x": "nm", "y": "nm", "z": ""}, (4, 4), None),
        ({"x": "pixel", "y": "pixel", "z": "nm"}, None, None),
        ("damaged", None, None),
        ([1], None, None),
    ],
)
def test_sizes_that_ilastik_notes(tmp_path, units, sides, section):
    write_tagged(tmp_path / "a.h5", "xyz")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        attributes = file["exported_data"].attrs
        tags = json.loads(attributes["axistags"])
        for axis in tags["axes"]:
            axis["resolution"] = {"z": 0.04, "c": 0}.get(axis["key"], 4.0)
        attributes["axistags"] = json.dumps(tags)
        attributes["axis_units"] = units if units == "damaged" else json.dumps(units)
    header = hdf5.read_header(tmp_path / "a.h5")
    assert (header.pixel_sides_nm, header.section_nm) == (sides, section)


def test_level_is_chosen_by_the_side_of_x(tmp_path):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    datasets = []
    for key, side in {"0": 4, "1": 8}.items():
        root.create_array(key, shape=(50 // (side // 4), 40, 5), dtype="u1")
        scale = [{"type": "scale", "scale": [side, side, 40 * side]}]
        datasets.append({"path": key, "coordinateTransformations": scale})
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "xyz"]
    root.attrs["multiscales"] = [{"axes": axes, "datasets": datasets, "version": "0.4"}]
    assert zarr_arrays.choose_level(tmp_path / "a.zarr", 4) == "0"
    assert zarr_arrays.choose_level(tmp_path / "a.zarr", 300) == "1"
