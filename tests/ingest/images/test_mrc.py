import random
import struct
import time
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from bench.errors import BenchError
from bench.ingest.images.mrc import read_geometry, read_header, read_plane

STACK = np.arange(2 * 3 * 4).reshape(2, 3, 4)


def save(
    path: Path, pixels: np.ndarray, angstrom: tuple[float, float, float] | None = None
) -> Path:
    with mrcfile.new(path) as file:
        file.set_data(pixels)
        if angstrom:
            file.voxel_size = angstrom
    return path


def patch(path: Path, place: int, layout: str, *values: object) -> Path:
    content = bytearray(path.read_bytes())
    struct.pack_into(layout, content, place, *values)
    path.write_bytes(content)
    return path


def stamp(path: Path, flags: int) -> Path:
    return patch(path, 152, "<4si", b"IMOD", flags)


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "float32", "float16"])
def test_depth_and_order_of_rows_are_kept(tmp_path, dtype):
    path = save(tmp_path / "a.mrc", STACK.astype(dtype))
    for page in range(2):
        read = read_plane(path, page)
        assert read.dtype == dtype
        np.testing.assert_array_equal(read, STACK[page])


def test_big_endian_whatever_the_machine_stamp_says(tmp_path):
    header = np.frombuffer(save(tmp_path / "a.mrc", STACK.astype("int16")).read_bytes(), "<i4", 256)
    header = header.astype(">i4")
    header[53] = 0x44440000  # little-endian, which is wrong
    (tmp_path / "b.mrc").write_bytes(header.tobytes() + STACK.astype(">i2").tobytes())
    np.testing.assert_array_equal(read_plane(tmp_path / "b.mrc", 1), STACK[1])
    assert read_plane(tmp_path / "b.mrc", 1).dtype.isnative
    # In mode 0 only the size tells one order from the other.
    header[3] = 0
    (tmp_path / "c.mrc").write_bytes(header.tobytes() + STACK.astype("i1").tobytes())
    np.testing.assert_array_equal(read_plane(tmp_path / "c.mrc", 1), STACK[1])


def test_voxels_are_in_angstrom(tmp_path):
    header = read_header(save(tmp_path / "a.mrc", STACK.astype("int16"), (13.5, 13.5, 400)))
    assert (header.shape, header.pages) == ((3, 4), 2)
    assert header.pixel_sides_nm == (1.35, 1.35)
    assert header.section_nm == 40
    assert read_header(save(tmp_path / "b.mrc", STACK.astype("int16"))).pixel_sides_nm is None


@pytest.mark.parametrize("mode", ["int8", "float32"])
def test_voxels_of_exactly_one_angstrom_are_a_default(tmp_path, mode):
    path = save(tmp_path / "a.mrc", STACK.astype(mode), (1, 1, 1))
    header = read_header(path)
    assert (header.pixel_sides_nm, header.section_nm) == (None, None)
    assert header.size_note.startswith("states voxels of exactly 1 Angstrom")
    assert read_geometry(path).spacing == (1, 1, 1)
    other = read_header(save(tmp_path / "b.mrc", STACK.astype(mode), (1.01, 1.01, 1.01)))
    assert (other.pixel_sides_nm, other.size_note) == ((0.101, 0.101), "")


def test_sides_follow_the_axes_of_the_map(tmp_path):
    path = save(tmp_path / "a.map", STACK.astype("int16"), (10, 20, 30))
    # Columns along z, rows along x, sections along y.
    patch(path, 64, "<iii", 3, 1, 2)
    with mrcfile.open(path) as file:
        sides = {name: float(file.header.cella[name]) / file.header["m" + name] for name in "xyz"}
    header = read_header(path)
    assert header.pixel_sides_nm == pytest.approx((sides["x"] / 10, sides["z"] / 10))
    assert header.section_nm == pytest.approx(sides["y"] / 10)


@pytest.mark.parametrize(
    ("flags", "dtype"), [(None, "int8"), (0, "uint8"), (1, "int8"), (4, "uint8"), (5, "int8")]
)
def test_bytes_are_signed_as_imod_says(tmp_path, flags, dtype):
    path = save(tmp_path / "a.st", STACK.astype("int8") - 12)
    if flags is not None:
        stamp(path, flags)
    read = read_plane(path, 0)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, (STACK[0] - 12).astype(dtype))


def test_bytes_whose_range_is_stated_as_unsigned(tmp_path):
    path = patch(save(tmp_path / "a.mrc", STACK.astype("int8")), 76, "<ff", 0, 255)
    assert read_plane(path, 0).dtype == "uint8"


def test_extended_header_is_passed_over(tmp_path):
    path = save(tmp_path / "a.rec", STACK.astype("int16"))
    content = path.read_bytes()
    path.write_bytes(content[:1024] + b"x" * 40 + content[1024:])
    patch(path, 92, "<i", 40)
    np.testing.assert_array_equal(read_plane(path, 1), STACK[1])


def test_origin_has_the_sign_of_imod(tmp_path):
    path = save(tmp_path / "a.mrc", STACK.astype("int16"), (10, 10, 10))
    patch(path, 196, "<fff", 1, 2, 3)
    patch(path, 108, "<i", 0)
    assert read_geometry(path).origin == (1, 2, 3)
    assert read_geometry(path).size == (4, 3, 2)
    assert read_geometry(path).spacing == (10, 10, 10)
    assert read_geometry(stamp(path, 4)).origin == (-1, -2, -3)
    assert read_geometry(patch(path, 108, "<i", 20141)).origin == (-1, -2, -3)


@pytest.mark.parametrize(
    ("place", "values", "message"),
    [
        (12, (3,), r"must hold real numbers .* received complex pixels \(mode 3\)"),
        (12, (4,), "complex"),
        (12, (16,), "colour"),
        (12, (101,), "4-bit"),
        (12, (77,), "must be a whole MRC file"),
        (0, (5,), "must hold the pixels of 5 x 3 x 2 that its header states, received 48 bytes of"),
        (0, (0,), "must be a whole MRC file"),
        (4, (-3,), "must have 1 to 100000 sections with pixels"),
        (0, (10**9, 10**9), "must hold the pixels of 1000000000 x 1000000000 x 2"),
        (8, (10**9,), "must have 1 to 100000 sections"),
        (92, (2**31 - 1,), "must hold the pixels"),
    ],
)
def test_what_cannot_be_read(tmp_path, place, values, message):
    path = patch(
        save(tmp_path / "a.mrc", STACK.astype("int16")), place, f"<{len(values)}i", *values
    )
    for read in (read_header, lambda path: read_plane(path, 0)):
        with pytest.raises(BenchError, match=message):
            read(path)


def test_half_bytes_of_imod_are_refused(tmp_path):
    with pytest.raises(BenchError, match="received 4-bit pixels"):
        read_header(stamp(save(tmp_path / "a.mrc", STACK.astype("int8")), 16))


def test_no_such_file_section_or_key(tmp_path):
    path = save(tmp_path / "a.mrc", STACK.astype("int16"))
    with pytest.raises(BenchError, match=r"section must be 0 to 1 in .*, received 2"):
        read_plane(path, 2)
    with pytest.raises(BenchError, match="received key 'x': leave the key out"):
        read_header(path, "x")
    with pytest.raises(BenchError, match=r"must be readable, received .No such file"):
        read_header(tmp_path / "b.mrc")


def test_real_map(shared):
    path = shared / "formats" / "mrcfile_EMD-3197.map"
    header = read_header(path)
    assert (header.shape, header.pages) == ((20, 20), 20)
    assert (header.pixel_sides_nm, header.section_nm) == ((1.14, 1.14), 1.14)
    with mrcfile.open(path) as file:
        np.testing.assert_array_equal([read_plane(path, page) for page in range(20)], file.data)


def test_real_file_without_pixels(shared):
    with pytest.raises(BenchError, match=r"pixels of 512 x 512 x 1 .* received 0 bytes of 524288"):
        read_header(shared / "formats" / "imod_headerTest.st")


def test_damaged_files_are_read_or_refused_in_time(tmp_path):
    whole = save(tmp_path / "a.mrc", STACK.astype("int16"), (10, 10, 40)).read_bytes()
    generator, refused, start = random.Random(0), [], time.process_time()
    for _ in range(100):
        content = bytearray(
            whole[: generator.choice([len(whole), generator.randrange(len(whole))])]
        )
        for _ in range(generator.randrange(6)):
            if content:
                content[generator.randrange(min(len(content), 224))] = generator.choice(
                    [0, 127, 255]
                )
        (tmp_path / "b.mrc").write_bytes(content)
        try:
            header = read_header(tmp_path / "b.mrc")
            assert read_plane(tmp_path / "b.mrc", header.pages - 1).shape == header.shape
        except BenchError as error:
            refused.append(str(error))
    assert 20 < len(refused) < 100
    assert not [message for message in refused if "\n" in message]
    assert time.process_time() - start < 6
