"""What a TIFF says of its pixels: white is zero, orientation, compression, ImageJ's words."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from bench.errors import BenchError
from bench.ingest.images.images import read_header, read_section

GREY = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
MASK = GREY > 100


@pytest.mark.parametrize("compression", ["group4", "group3", "tiff_ccitt", "raw"])
@pytest.mark.parametrize("labels", [True, False])
def test_one_bit_is_as_on_screen(tmp_path, compression, labels):
    """As fax and scanners store it; Pillow, Fiji and Bio-Formats show zero white."""
    Image.fromarray(MASK).save(tmp_path / "a.tif", compression=compression, tiffinfo={262: 0})
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages.first.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    np.testing.assert_array_equal(read_section(tmp_path / "a.tif", labels=labels), MASK)


@pytest.mark.parametrize("metadata", [{}, None])
def test_booleans_of_numpy_are_what_they_were(tmp_path, metadata):
    """tifffile calls them white is zero, and means true by one."""
    tifffile.imwrite(tmp_path / "a.tif", MASK, metadata=metadata)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages.first.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    for labels in (True, False):
        np.testing.assert_array_equal(read_section(tmp_path / "a.tif", labels=labels), MASK)


@pytest.mark.parametrize(
    ("dtype", "shown"),
    [("uint8", 255 - GREY), ("uint16", 65535 - GREY.astype("uint16")), ("int8", ~GREY.view("i1"))],
)
def test_raw_has_the_contrast_of_the_screen(tmp_path, dtype, shown):
    pixels = GREY.view("i1") if dtype == "int8" else GREY.astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="miniswhite")
    read = read_section(tmp_path / "a.tif")
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, shown)
    if dtype == "uint8":
        np.testing.assert_array_equal(read, np.asarray(Image.open(tmp_path / "a.tif")))
    assert read_header(tmp_path / "a.tif").notes == ()


def test_raw_of_real_numbers_is_kept_and_told(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY.astype("f4"), photometric="miniswhite")
    np.testing.assert_array_equal(read_section(tmp_path / "a.tif"), GREY)
    assert "contrast is opposite" in read_header(tmp_path / "a.tif").notes[0]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_ids_are_kept_where_white_is_zero(tmp_path, dtype):
    ids = (GREY // 50).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", ids, photometric="miniswhite")
    np.testing.assert_array_equal(read_section(tmp_path / "a.tif", labels=True), ids)
    (note,) = read_header(tmp_path / "a.tif", labels=True).notes
    assert "its values are kept, and 0 is background" in note


def test_a_mask_where_white_is_zero_is_imagejs_or_a_question(tmp_path):
    mask = MASK * np.uint8(255)
    # Image > Lookup Tables > Invert LUT: objects are 255, and black on screen.
    tifffile.imwrite(
        tmp_path / "a.tif",
        mask,
        photometric="miniswhite",
        description="ImageJ=1.54f\n",
        metadata=None,
    )
    np.testing.assert_array_equal(read_section(tmp_path / "a.tif", labels=True), mask)
    tifffile.imwrite(tmp_path / "b.tif", mask, photometric="miniswhite")
    with pytest.raises(BenchError, match=r"b.tif must say .* a mask of 0 and 255 whose white"):
        read_section(tmp_path / "b.tif", labels=True)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_turned_by_a_tag_is_refused(tmp_path, orientation):
    path = tmp_path / "a.tif"
    tag = (274, "H", 1, orientation, True)
    tifffile.imwrite(path, GREY, extratags=[tag], metadata=None)
    if orientation == 1:
        np.testing.assert_array_equal(read_section(path), GREY)
        assert read_header(path).shape == GREY.shape
        return
    for read in (read_header, read_section):
        with pytest.raises(BenchError, match=f"a.tif .* a TIFF orientation of {orientation}, by"):
            read(path)


SMOOTH = np.add.outer(np.arange(64), np.arange(96)).astype(np.uint8)


@pytest.mark.parametrize(
    ("compression", "arguments", "lossy"),
    [
        ("jpeg", {"level": 90}, "JPEG"),
        ("jpeg2000", {"level": 40, "reversible": False}, "JPEG2000"),
        ("jpeg2000", {"reversible": True}, ""),
        ("jpegxl", {"distance": 2.0}, "JPEGXL"),
        ("webp", {"level": 50, "lossless": False}, "WEBP"),
        ("webp", {"lossless": True}, ""),
        ("png", {}, ""),
        ("lzw", {}, ""),
        ("zstd", {}, ""),
        ("packbits", {}, ""),
    ],
)
@pytest.mark.parametrize("tile", [None, (32, 48)])
def test_labels_are_compressed_without_loss(tmp_path, compression, arguments, lossy, tile):
    pixels = np.repeat(SMOOTH[..., None], 3, axis=-1) if compression == "webp" else SMOOTH
    options = {"compression": compression, "compressionargs": arguments, "tile": tile}
    photometric = "rgb" if compression == "webp" else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric=photometric, **options)
    assert read_header(tmp_path / "a.tif").shape == SMOOTH.shape
    if lossy:
        message = f"must keep their values, received a.tif with pixels in {lossy} compression"
        with pytest.raises(BenchError, match=message):
            read_header(tmp_path / "a.tif", labels=True)
    else:
        assert read_header(tmp_path / "a.tif", labels=True).shape == SMOOTH.shape
        np.testing.assert_array_equal(read_section(tmp_path / "a.tif", labels=True), SMOOTH)


def test_raw_may_be_jpeg(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", SMOOTH, compression="jpeg")
    np.testing.assert_allclose(read_section(tmp_path / "a.tif").astype(int), SMOOTH, atol=8)


def write_imagej(path, words: str, resolution: float, pixels=None):
    """As ImageJ's TiffEncoder: words in the description, the resolution per unit."""
    pixels = np.stack([GREY] * 3) if pixels is None else pixels
    text = f"ImageJ=1.54f\nimages={len(pixels)}\n{words}loop=false\n"
    options = {"metadata": None, "photometric": "minisblack", "resolutionunit": "NONE"}
    tifffile.imwrite(path, pixels, description=text, resolution=(resolution,) * 2, **options)
    return read_header(path)


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("nm", 1),
        ("nanometers", 1),
        ("um", 1e3),
        ("micron", 1e3),
        ("microns", 1e3),
        ("\\u00B5m", 1e3),
        ("\\u03BCm", 1e3),
        ("pm", 1e-3),
        ("A", 0.1),
        ("\\u00C5", 0.1),
        ("\\u212B", 0.1),
        ("Angstrom", 0.1),
        ("mm", 1e6),
        ("cm", 1e7),
        ("m", 1e9),
        ("inch", 2.54e7),
    ],
)
def test_units_of_imagej(tmp_path, unit, factor):
    words = f"slices=3\nunit={unit}\nspacing={50 / factor}\n"
    header = write_imagej(tmp_path / "a.tif", words, factor / 5)
    assert header.pages == 3
    assert header.pixel_sides_nm == (5, 5)
    assert header.section_nm == pytest.approx(50)


@pytest.mark.parametrize(
    ("words", "section_nm"),
    [
        ("slices=3\nunit=um\nspacing=-0.05\n", 50),
        ("slices=3\nunit=um\nzunit=nm\nspacing=50.0\n", 50),
        # ImageJ leaves out a spacing of one, and one is what it takes where it knows none.
        ("slices=3\nunit=um\n", None),
        ("frames=3\nunit=um\nspacing=0.05\n", None),
        ("slices=3\nspacing=0.05\n", None),
        ("slices=3\nunit=pixel\nspacing=0.05\n", None),
    ],
)
def test_spacing_of_imagej(tmp_path, words, section_nm):
    assert write_imagej(tmp_path / "a.tif", words, 200).section_nm == section_nm


def test_a_size_of_imagej_that_no_micrograph_has_is_told(tmp_path):
    header = write_imagej(tmp_path / "a.tif", "slices=3\nunit=mm\n", 200)
    assert header.pixel_sides_nm is None
    assert "states 5000 nm per pixel, which no electron micrograph has" in header.size_note
    screen = write_imagej(tmp_path / "a.tif", "slices=3\nunit=inch\n", 72)
    assert (screen.pixel_sides_nm, screen.size_note) == (None, "")


def test_channels_of_imagej(tmp_path):
    """Up to four may be detectors; more are a stack that a program called channels."""
    words = "channels={}\nhyperstack=true\nmode=grayscale\n"
    for count, channels in ((2, 2), (4, 4), (5, 1)):
        pixels = np.stack([GREY] * count)
        header = write_imagej(tmp_path / "a.tif", words.format(count), 1, pixels)
        assert (header.pages, header.channels) == (count, channels)
        assert bool(header.notes) == (channels > 1)
    mixed = "channels=2\nslices=3\nhyperstack=true\nmode=grayscale\n"
    with pytest.raises(BenchError, match=r"received axes ZCYX of \(3, 2, 4, 6\), 2 channels"):
        write_imagej(tmp_path / "a.tif", mixed, 1, np.stack([GREY] * 6))
