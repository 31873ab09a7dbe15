"""Reads one image file: PNG, JPEG or TIFF, at the depth it was saved in."""

import struct
from pathlib import Path

import imagecodecs
import numpy as np
import PIL.Image

from bench.errors import BenchError
from bench.ingest.images.headers import ImageHeader, decode
from bench.ingest.images.limits import check_decoded_size
from bench.ingest.images.tiff.sections import read_tiff_header, read_tiff_page

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

JPEG_SUFFIXES = (".jpg", ".jpeg")

# By the colour type of the header: colour, grey with alpha, colour with alpha; else one.
_PNG_CHANNELS = {2: 3, 4: 2, 6: 4}


def read_header(path: Path, *, labels: bool = False) -> ImageHeader:
    """Reads size, number of sections and pixel size of a PNG, TIFF or JPEG file.

    The pixel size of a TIFF comes from its OME-XML, from ImageJ's calibration, or from its
    resolution per centimetre or inch. PNG's is not trusted: programs write the screen's.

    Args:
        path: The file.
        labels: Whether it is a label image, whose values must be what was painted.

    Raises:
        BenchError: If the file is missing, unreadable, damaged or of another format, if its
            pages differ in size, or if labels are compressed with loss.
    """
    if path.suffix.lower() == ".png":
        return decode(path, _read_png_header)
    if path.suffix.lower() not in JPEG_SUFFIXES:
        return decode(path, lambda file: read_tiff_header(file, labels=labels))
    if labels:
        raise BenchError(
            f"labels must keep their values, received {path.name}, and JPEG changes them: save it "
            "as PNG or TIFF"
        )
    return decode(path, _read_jpeg_header, "JPEG file")


def read_section(path: Path, page: int = 0, *, labels: bool = False) -> np.ndarray:
    """Reads a section (y, x) of a PNG, TIFF or JPEG file.

    Values are those stored, at their depth. Colour is taken as grey where all channels agree,
    and an alpha channel is left out. A PNG's palette is applied; that of a TIFF is a look-up
    table for display and is not. Grey of 1, 2 or 4 bits in a PNG is spread over 0 to 255. A TIFF
    whose white is zero is inverted, so that it has the contrast of the screen; of label images
    with ids the values are kept.

    Args:
        path: The file.
        page: Which section of a stack, from 0.
        labels: Whether it is a label image.

    Raises:
        BenchError: If the file is unreadable, damaged, or in colour.
    """
    if path.suffix.lower() == ".png":
        decode(path, _read_png_header)
        pixels = decode(path, lambda file: imagecodecs.png_decode(file.read_bytes()))
    elif path.suffix.lower() in JPEG_SUFFIXES:
        decode(path, _read_jpeg_header, "JPEG file")
        pixels = decode(path, lambda file: imagecodecs.jpeg8_decode(file.read_bytes()), "JPEG file")
    else:
        pixels = decode(path, lambda file: read_tiff_page(file, page, labels=labels))
    if pixels.ndim == 3:
        pixels = _grey_of_colour(path, pixels)
    if pixels.ndim != 2:
        raise BenchError(
            f"{path} must hold grey sections, received axes of {pixels.shape} px: save a single "
            "channel as (y, x) or (z, y, x)"
        )
    if pixels.dtype.kind not in "buif":
        raise BenchError(
            f"{path} must hold integers or real numbers, received {pixels.dtype}: convert it"
        )
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _read_png_header(path: Path) -> ImageHeader:
    """Reads the header chunk of a PNG, which always comes first."""
    with path.open("rb") as file:
        start = file.read(26)
    if not start.startswith(_PNG_SIGNATURE) or start[12:16] != b"IHDR" or len(start) < 26:
        raise ValueError("no PNG header")
    width, height, depth, colour = struct.unpack(">IIBB", start[16:26])
    decoded = width * height * _PNG_CHANNELS.get(colour, 1) * max(depth // 8, 1)
    check_decoded_size(path, decoded, path.stat().st_size)
    return ImageHeader((height, width), 1, None)


def _read_jpeg_header(path: Path) -> ImageHeader:
    """Reads the size that a JPEG states; its pixels are bounded as those of a PNG."""
    with PIL.Image.open(path, formats=["JPEG"]) as image:
        width, height = image.size
        channels = len(image.getbands())
    check_decoded_size(path, width * height * channels, path.stat().st_size)
    return ImageHeader((height, width), 1, None)


def _grey_of_colour(path: Path, pixels: np.ndarray) -> np.ndarray:
    channels = pixels.shape[-1]
    # Two channels are grey and alpha, four are red, green, blue and alpha.
    colours = pixels[..., : channels - 1] if channels in (2, 4) else pixels
    if (colours != colours[..., :1]).any():
        raise BenchError(
            f"{path} must be grey, received {colours.shape[-1]} colour channels that differ: "
            "save it as greyscale (label images as ids, without a palette)"
        )
    return np.ascontiguousarray(colours[..., 0])
