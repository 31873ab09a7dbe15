"""NIfTI: what nibabel writes is read voxel by voxel, and hostile headers cost nothing."""

import gzip
import resource
import struct

import nibabel
import numpy as np
import pytest

from bench.errors import BenchError
from bench.ingest.images.formats import (
    is_image,
    list_pages,
    read_header,
    read_plane,
    stem_of,
)
from bench.ingest.images.planes import list_planes
from bench.ingest.stacks import join_planes

# Voxels along x, y, z, as nibabel has them.
XYZ = np.arange(5 * 4 * 3).reshape(5, 4, 3)


def save(path, voxels=XYZ, *, dtype="int16", sides=(16, 16, 15), unit="micron", axes="RAS", kind=1):
    """Writes voxels (x, y, z) of sides in nm, stated in a unit, whose axes run in directions."""
    per_unit = {"micron": 1e3, "mm": 1e6, "meter": 1e9, "unknown": 1.0}[unit]
    start = nibabel.orientations.axcodes2ornt(axes)
    turned = np.linalg.inv(nibabel.orientations.inv_ornt_aff(start, (1, 1, 1)))
    affine = turned @ np.diag([*np.asarray(sides) / per_unit, 1.0])
    image = {1: nibabel.Nifti1Image, 2: nibabel.Nifti2Image}[kind](voxels.astype(dtype), affine)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    return path


def patch(path, place, layout, *values):
    content = bytearray(path.read_bytes())
    struct.pack_into(layout, content, place, *values)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_sections_are_along_z_rows_along_y(tmp_path, name, dtype):
    path = save(tmp_path / name.lower(), dtype=dtype).rename(tmp_path / name)
    assert is_image(path)
    assert stem_of(path) == name[0]
    header = read_header(path)
    assert (header.shape, header.pages) == ((4, 5), 3)
    for page in (2, 0, 1):
        read = read_plane(path, page)
        assert read.dtype == dtype
        np.testing.assert_array_equal(read, XYZ[:, :, page].T)
    with pytest.raises(BenchError, match="section must be 0 to 2"):
        read_plane(path, 3)


def test_an_array_that_was_read_is_the_callers(tmp_path):
    path = save(tmp_path / "a.nii.gz")
    read_plane(path, 0)[:] = 7
    np.testing.assert_array_equal(read_plane(path, 0), XYZ[:, :, 0].T)
    save(path, XYZ + 1)
    np.testing.assert_array_equal(read_plane(path, 0), XYZ[:, :, 0].T + 1)


@pytest.mark.parametrize("unit", ["micron", "mm", "meter"])
def test_voxel_size_in_any_unit(tmp_path, unit):
    header = read_header(save(tmp_path / "a.nii", unit=unit, sides=(16, 8, 15)))
    assert header.pixel_sides_nm == (8, 16)
    assert header.section_nm == 15
    assert header.notes == ()
    assert header.size_note == ""


def test_a_size_that_no_micrograph_has_is_unknown(tmp_path):
    header = read_header(save(tmp_path / "a.nii", unit="mm", sides=(1e6, 1e6, 1e6)))
    assert header.pixel_sides_nm is None
    assert header.section_nm is None
    assert "states voxels of 1 x 1 x 1 in units of 1e+06 nm" in header.size_note
    header = read_header(save(tmp_path / "a.nii", unit="unknown"))
    assert header.pixel_sides_nm is None
    assert "states voxels of 16 x 16 x 15 without a unit" in header.size_note


def test_mirrored_axes_are_said_and_voxels_stay_as_stored(tmp_path):
    for axes in ("LPS", "RPS", "ASR"):
        path = save(tmp_path / "a.nii", axes=axes)
        (note,) = read_header(path).notes
        assert f"run to {', '.join(axes)} of a body" in note
        assert read_header(path).pixel_sides_nm == (16, 16)
        np.testing.assert_array_equal(read_plane(path, 1), XYZ[:, :, 1].T)
    # Codes of 0 say that the affine means nothing.
    patch(path, 252, "<2h", 0, 0)
    assert read_header(path).notes == ()


def test_version_2_big_endian_and_scaled_values(tmp_path):
    path = save(tmp_path / "a.nii", kind=2)
    np.testing.assert_array_equal(read_plane(path, 1), XYZ[:, :, 1].T)
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype("int16")
    nibabel.save(nibabel.Nifti1Image(XYZ.astype("int16"), np.eye(4), header), path)
    assert path.read_bytes()[:4] == b"\x00\x00\x01\x5c"
    np.testing.assert_array_equal(read_plane(path, 2), XYZ[:, :, 2].T)
    assert read_plane(path, 2).dtype.isnative
    patch(path, 112, ">2f", 0.5, 3)
    assert read_plane(path, 1).dtype == np.float32
    np.testing.assert_array_equal(read_plane(path, 1), XYZ[:, :, 1].T * 0.5 + 3)


def test_a_single_section_and_axes_of_one(tmp_path):
    flat = save(tmp_path / "a.nii", XYZ[:, :, 0])
    assert (read_header(flat).shape, read_header(flat).pages) == ((4, 5), 1)
    assert read_header(flat).section_nm is None
    np.testing.assert_array_equal(read_plane(flat, 0), XYZ[:, :, 0].T)
    np.testing.assert_array_equal(
        read_plane(save(tmp_path / "b.nii", XYZ[..., None]), 1), XYZ[:, :, 1].T
    )


def colour(path):
    rgb = np.zeros((5, 4, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(rgb, np.eye(4)), path)


BAD = {
    "several times": (lambda p: save(p, np.stack([XYZ, XYZ], -1)), r"one volume, received 2 \("),
    "complex": (lambda p: save(p, dtype="complex64"), "up to 64 bits, received complex64"),
    "colour": (colour, "received colour: convert it"),
    "no NIfTI": (lambda p: p.write_bytes(b"x" * 900), "must begin with a header of NIfTI"),
    "empty": (lambda p: p.write_bytes(b""), "must begin with a header of NIfTI"),
    "half of a pair": (lambda p: patch(save(p), 344, "4s", b"ni1\0"), "save pairs of .hdr and"),
    "truncated": (lambda p: p.write_bytes(save(p).read_bytes()[:400]), r"48 bytes of 120: copy"),
    "no voxels": (lambda p: patch(save(p), 42, "<h", 0), "received 0 x 4 x 3"),
    "negative": (lambda p: patch(save(p), 44, "<h", -4), "received 5 x -4 x 3"),
    "no axes": (lambda p: patch(save(p), 40, "<h", 0), "received none"),
    "far too large": (lambda p: patch(save(p), 42, "<3h", 32767, 32767, 32767), "bytes of 7036"),
    "voxels after the end": (lambda p: patch(save(p), 108, "<f", 1e18), "received 0 bytes of 120"),
    "voxels nowhere": (lambda p: patch(save(p), 108, "<f", float("nan")), "does not decode"),
    "unknown type": (lambda p: patch(save(p), 70, "<h", 77), "does not decode"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_one_line(tmp_path, case):
    make, message = BAD[case]
    make(tmp_path / "a.nii")
    for read in (read_header, lambda path: read_plane(path, 0)):
        with pytest.raises(BenchError, match=message) as caught:
            read(tmp_path / "a.nii")
        assert "\n" not in str(caught.value)
    with pytest.raises(BenchError, match="holds a single array, received key 'x'"):
        read_header(tmp_path / "a.nii", "x")


def test_a_packed_file_is_bounded(tmp_path):
    header = bytearray(save(tmp_path / "a.nii").read_bytes()[:352])
    struct.pack_into("<3h", header, 42, 2000, 2000, 2000)
    bomb = tmp_path / "bomb.nii.gz"
    with gzip.open(bomb, "wb") as file:
        file.write(bytes(header))
        for _ in range(64):
            file.write(bytes(2**20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for read in (read_header, lambda path: read_plane(path, 0)):
        with pytest.raises(BenchError, match="must not decode to more than 512 MB or 100 times"):
            read(bomb)
    # A file that ends before its voxels do.
    struct.pack_into("<3h", header, 42, 500, 500, 500)
    bomb.write_bytes(gzip.compress(bytes(header) + bytes(1000)))
    assert read_header(bomb).pages == 500
    with pytest.raises(BenchError, match=r"does not decode \(1000 bytes of"):
        read_plane(bomb, 0)
    bomb.write_bytes(gzip.compress(bytes(header))[:60])
    with pytest.raises(BenchError, match="does not decode"):
        read_header(bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 2**10


def test_pages_of_a_stack_are_listed(tmp_path):
    path = save(tmp_path / "a.nii.gz", dtype="uint8")
    pages = list_pages(tmp_path, path, labels=True)
    assert [page.page for page in pages] == [0, 1, 2]
    assert pages[0].file == "a.nii.gz"
    np.testing.assert_array_equal(pages[2].read(), XYZ[:, :, 2].T)


def test_a_volume_to_segment_has_its_voxel_size(tmp_path):
    path = save(tmp_path / "tomo.nii.gz", unit="mm", axes="LPS")
    (volume,) = join_planes(list_planes(str(tmp_path), None), None)
    assert (volume.name, volume.shape, volume.voxel_size_nm) == ("tomo", (3, 4, 5), (15, 16, 16))
    np.testing.assert_array_equal(volume.read_planes(1, 3), XYZ.T[1:3])
    assert volume.path == path
