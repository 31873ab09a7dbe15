import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from bench.errors import BenchError
from bench.ingest.images.headers import ImageHeader
from bench.ingest.images.images import read_header, read_section

GREY = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    if path.suffix == ".png":
        path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels)))
    else:
        tifffile.imwrite(path, pixels, **options)
    return path


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("a.png", "uint8"),
        ("a.png", "uint16"),
        ("a.tif", "uint16"),
        ("a.tiff", "int16"),
        ("a.TIF", "uint32"),
        ("a.tif", "float32"),
        ("a.tif", "bool"),
        ("a.tif", ">u2"),
    ],
)
def test_depth_and_values_are_kept(tmp_path, name, dtype):
    pixels = (GREY.astype(np.float64) * 271).astype(dtype)
    options = {"byteorder": ">"} if dtype == ">u2" else {}
    path = save(tmp_path / name, pixels, **options)
    read = read_section(path)
    assert read.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(read, pixels)
    assert read_header(path).shape == (4, 6)
    assert read_header(path).pages == 1


def test_one_bit_png_is_black_and_white(tmp_path):
    Image.fromarray(GREY > 100).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_section(tmp_path / "a.png"), (GREY > 100) * np.uint8(255))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_colour_whose_channels_agree_is_grey(tmp_path, name, dtype):
    grey = GREY.astype(dtype) * 1
    rgba = np.stack([grey, grey, grey, np.full_like(grey, 77)], axis=-1)
    options = {"photometric": "rgb", "extrasamples": ["unassalpha"]} if name == "a.tif" else {}
    path = save(tmp_path / name, rgba, **options)
    np.testing.assert_array_equal(read_section(path), grey)
    assert read_section(path).dtype == dtype


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_colour_whose_channels_differ_is_an_error(tmp_path, name):
    rgb = np.stack([GREY] * 3, axis=-1)
    rgb[1, 2, 1] += 1
    path = save(tmp_path / name, rgb, **({"photometric": "rgb"} if name == "a.tif" else {}))
    with pytest.raises(BenchError, match=r"a\.\w+ must be grey, received 3 .* differ: save it as"):
        read_section(path)


def test_grey_with_alpha(tmp_path):
    Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(GREY // 2)]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_section(tmp_path / "a.png"), GREY)


def palette_image(path: Path, colours: list[int]) -> Path:
    image = Image.fromarray((GREY > 100).astype(np.uint8), mode="P")
    image.putpalette(colours)
    image.save(path)
    return path


def test_palette_gives_its_values(tmp_path):
    path = palette_image(tmp_path / "a.png", [9, 9, 9, 200, 200, 200])
    np.testing.assert_array_equal(read_section(path), np.where(GREY > 100, 200, 9))
    with pytest.raises(BenchError, match="channels that differ"):
        read_section(palette_image(tmp_path / "b.png", [0, 0, 0, 255, 0, 0]))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib"},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"imagej": True},
        {"metadata": None},
        {"truncate": True},  # one page of tags for all, as ImageJ writes beyond 4 GB
    ],
)
def test_pages_of_a_stack(tmp_path, options):
    stack = np.random.default_rng(0).integers(0, 60000, (3, 5, 7), dtype=np.uint16)
    path = save(tmp_path / "a.tif", stack, photometric="minisblack", **options)
    assert read_header(path).pages == 3
    assert read_header(path).shape == (5, 7)
    for page in range(3):
        np.testing.assert_array_equal(read_section(path, page), stack[page])


def test_stack_of_three_that_tifffile_stored_as_colour_planes(tmp_path):
    stack = np.random.default_rng(0).integers(0, 60000, (3, 5, 7), dtype=np.uint16)
    path = save(tmp_path / "a.tif", stack, photometric="rgb", planarconfig="separate")
    assert read_header(path).pages == 3
    assert read_header(path).shape == (5, 7)
    for page in range(3):
        np.testing.assert_array_equal(read_section(path, page), stack[page])


def test_pages_that_differ_or_are_channels_are_errors(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(np.zeros((5, 7), np.uint8), metadata=None)
        file.write(np.zeros((5, 6), np.uint8), metadata=None)
    with pytest.raises(BenchError, match="received 2 kinds of page"):
        read_header(tmp_path / "a.tif")
    composite = save(
        tmp_path / "b.tif",
        np.zeros((3, 5, 7), np.uint8),
        imagej=True,
        photometric="minisblack",
        metadata={"axes": "CYX", "mode": "composite"},
    )
    with pytest.raises(BenchError, match="received axes CYX"):
        read_header(composite)
    movie = save(tmp_path / "c.tif", np.zeros((2, 3, 5, 7), np.uint8), photometric="minisblack")
    with pytest.raises(BenchError, match="single channel"):
        read_header(movie)


@pytest.mark.parametrize(
    ("options", "sides"),
    [
        ({}, None),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({"resolution": (96, 96), "resolutionunit": "INCH"}, None),
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, None),
        ({"resolution": (1200, 1200), "resolutionunit": "INCH"}, None),
        ({"resolution": (1, 1), "resolutionunit": "NONE"}, None),
        ({"resolution": (2e6, 2e6), "resolutionunit": "NONE"}, None),
        ({"resolution": (2e6, 2e6), "resolutionunit": "CENTIMETER"}, (5.0, 5.0)),
        ({"resolution": (1e7 / 1.35, 1e7 / 1.35), "resolutionunit": "CENTIMETER"}, (1.35, 1.35)),
        ({"resolution": (2.54e6, 5.08e6), "resolutionunit": "INCH"}, (5.0, 10.0)),
        ({"imagej": True, "resolution": (0.25, 0.25), "metadata": {"unit": "nm"}}, (4.0, 4.0)),
        ({"imagej": True, "resolution": (200, 200), "metadata": {"unit": "um"}}, (5.0, 5.0)),
        ({"imagej": True, "resolution": (200, 200), "metadata": {"unit": "\\u00B5m"}}, (5.0, 5.0)),
        ({"imagej": True, "resolution": (200, 200), "metadata": {"unit": "pixel"}}, None),
        ({"imagej": True, "resolution": (1, 1), "metadata": {"unit": "um"}}, None),
        ({"imagej": True, "resolution": (1, 1)}, None),
    ],
)
def test_pixel_size_of_a_tiff(tmp_path, options, sides):
    # tifffile takes the resolution as (x, y); the sides are (y, x).
    path = save(tmp_path / "a.tif", GREY, **options)
    assert read_header(path).pixel_sides_nm == sides


def test_pixel_size_of_a_png_is_not_trusted(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png", dpi=(5.08e6, 5.08e6))
    assert read_header(tmp_path / "a.png").pixel_sides_nm is None


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.01, 0.3, 0.99])
@pytest.mark.parametrize(
    ("name", "options"), [("a.png", {}), ("a.tif", {}), ("a.tif", {"compression": "zlib"})]
)
def test_truncated_file_is_an_error(tmp_path, name, options, keep):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200), dtype=np.uint8)
    path = save(tmp_path / name, noise, **options)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(BenchError, match=r"a\.\w+ must be a whole PNG or TIFF file.*again$"):
        read_header(path) and read_section(path)


def test_changed_byte_and_wrong_format_are_errors(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200), dtype=np.uint8)
    path = save(tmp_path / "a.png", noise)
    content = bytearray(path.read_bytes())
    content[5000] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(BenchError, match="does not decode"):
        read_section(path)
    Image.fromarray(GREY).save(tmp_path / "b.png", format="JPEG")
    with pytest.raises(BenchError, match="no PNG header"):
        read_header(tmp_path / "b.png")


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_unreadable_file_is_an_error(public_folder, as_ordinary_user, name):
    path = save(public_folder / name, GREY)
    path.chmod(0)
    with as_ordinary_user():
        for read in (read_header, read_section):
            with pytest.raises(BenchError, match="readable, received 'Permission denied'"):
                read(path)


def test_complex_pixels_are_an_error(tmp_path):
    path = save(tmp_path / "a.tif", GREY.astype(np.complex64))
    with pytest.raises(BenchError, match="received complex64"):
        read_section(path)


def test_an_image_that_would_fill_the_memory_is_refused_before_it_is_decoded(tmp_path):
    """Both files are small, and claim to hold gigabytes."""
    png = imagecodecs.png_encode(GREY)
    width_height = struct.pack(">II", 60000, 60000)
    (tmp_path / "bomb.png").write_bytes(png[:16] + width_height + png[24:])
    tifffile.imwrite(
        tmp_path / "bomb.tif", np.zeros((1 << 15, 1 << 15), np.uint8), compression="zlib"
    )
    for name in ("bomb.png", "bomb.tif"):
        for read in (read_header, read_section):
            with pytest.raises(BenchError, match="must not decode to more than 512 MB"):
                read(tmp_path / name)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_is_read_as_grey(tmp_path, channels):
    smooth = np.tile(np.linspace(20, 230, 64), (48, 1)).astype(np.uint8)
    pixels = smooth if channels == 1 else np.repeat(smooth[..., None], 3, axis=-1)
    (tmp_path / "a.jpg").write_bytes(imagecodecs.jpeg8_encode(pixels, level=95))
    assert read_header(tmp_path / "a.jpg") == ImageHeader((48, 64), 1, None)
    section = read_section(tmp_path / "a.jpg")
    assert section.dtype == np.uint8
    np.testing.assert_allclose(section, smooth, atol=3)
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:100])
    with pytest.raises(BenchError, match="must be a whole JPEG file"):
        read_section(tmp_path / "b.jpg")
