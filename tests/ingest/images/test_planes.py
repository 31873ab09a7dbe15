import h5py
import numpy as np
import pytest
import tifffile
import zarr

from bench.errors import BenchError
from bench.export.label_images import write_tiff
from bench.ingest.images.planes import check_readable, hash_planes, list_planes

STACK = np.arange(3 * 40 * 50, dtype=np.uint16).reshape(3, 40, 50)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    write_tiff(folder / "b10.tif", STACK[0], pixel_size_nm=4.0)
    tifffile.imwrite(folder / "b9.tif", STACK, photometric="minisblack")
    return folder


def test_a_folder_is_its_sections_in_natural_order(folder):
    planes = list_planes(str(folder), None)
    assert [plane.name for plane in planes] == ["b9_z0", "b9_z1", "b9_z2", "b10"]
    assert [plane.pixel_size_nm for plane in planes] == [None, None, None, 4.0]
    for plane, pixels in zip(planes, [*STACK, STACK[0]], strict=True):
        assert plane.shape == (40, 50)
        np.testing.assert_array_equal(plane.read(), pixels)


def test_the_pixel_size_given_goes_before_that_of_files(folder):
    assert {plane.pixel_size_nm for plane in list_planes(str(folder), 7.0)} == {7.0}


def test_the_raw_array_of_a_container_is_found(tmp_path):
    path = tmp_path / "volume.h5"
    with h5py.File(path, "w") as file:
        file["raw"], file["labels/mito"] = STACK, np.zeros((3, 40, 50), np.uint8)
        file["other/stain"] = STACK[::-1]
    np.testing.assert_array_equal(list_planes(str(path), None)[0].read(), STACK[0])
    named = list_planes(str(path), None, "other/stain")
    np.testing.assert_array_equal(named[0].read(), STACK[2])


def test_the_hash_is_that_of_content_and_pixel_size(folder):
    one = hash_planes(list_planes(str(folder), None))
    assert hash_planes(list_planes(str(folder), None)) == one
    assert hash_planes(list_planes(str(folder), 4.0)) != one
    write_tiff(folder / "b10.tif", STACK[1], pixel_size_nm=4.0)
    assert hash_planes(list_planes(str(folder), None)) != one


def write_nan(path):
    tifffile.imwrite(path / "nan.tif", np.full((4, 4), np.nan, np.float32))


def write_oblong(path):
    tifffile.imwrite(path / "a.tif", STACK[0], resolution=(2e6, 1e6), resolutionunit="CENTIMETER")


def write_twice(path):
    tifffile.imwrite(path / "a.tif", STACK[:2], photometric="minisblack")
    tifffile.imwrite(path / "a_z1.tif", STACK[0])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "must hold images, received none"),
        (lambda path: (path / "notes.txt").touch(), "received notes.txt"),
        (write_nan, "must hold finite numbers"),
        (write_oblong, "must be square, received 10 x 5 nm"),
        (write_twice, "a name of its own, received a_z1 of a.tif and a_z1.tif"),
    ],
)
def test_what_is_refused(tmp_path, write, message):
    write(tmp_path)
    with pytest.raises(BenchError, match=message):
        check_readable(list_planes(str(tmp_path), None))


def test_neither_image_nor_folder(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(BenchError, match="a file of another kind"):
        list_planes(str(tmp_path / "notes.txt"), None)
    with pytest.raises(BenchError, match="nothing there"):
        list_planes(str(tmp_path / "nowhere"), None)


def test_a_channel_of_a_volume_is_named(tmp_path):
    raw = np.random.default_rng(0).integers(0, 255, (2, 3, 40, 50), dtype=np.uint8)
    array = zarr.create_array(
        tmp_path / "v.zarr", name="raw", shape=raw.shape, dtype="u1", dimension_names=list("czyx")
    )
    array[...] = raw
    with pytest.raises(BenchError, match=r"array raw with the channels 0, 1: .*raw_key=raw:0"):
        list_planes(str(tmp_path / "v.zarr"), None)
    planes = list_planes(str(tmp_path / "v.zarr"), None, "raw:1")
    np.testing.assert_array_equal([plane.read() for plane in planes], raw[1])
