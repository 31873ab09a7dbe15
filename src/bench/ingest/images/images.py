"""Reads one image file: PNG or TIFF, a section or a stack, at the depth it was saved in."""

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import imagecodecs
import numpy as np
import PIL.Image
import tifffile

from bench.errors import BenchError
from bench.ingest.images.limits import check_decoded_size

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

JPEG_SUFFIXES = (".jpg", ".jpeg")

# By the colour type of the header: colour, grey with alpha, colour with alpha; else one.
_PNG_CHANNELS = {2: 3, 4: 2, 6: 4}

# TIFF ResolutionUnit: 2 is the inch, 3 the centimetre; 1 says that there is no unit.
_RESOLUTION_UNIT_NM = {2: 2.54e7, 3: 1e7}
IMAGEJ_UNIT_NM = {
    "nm": 1.0,
    "nanometer": 1.0,
    "um": 1e3,
    "\u00b5m": 1e3,
    "\u03bcm": 1e3,
    "\\u00b5m": 1e3,  # ImageJ's spelling in the ASCII description
    "micron": 1e3,
    "microns": 1e3,
    "micrometer": 1e3,
}
# 72, 96, 300 or 1200 dpi speak of print and screen: 21 um or more. No electron micrograph has
# such pixels, so a size outside these bounds says nothing.
SMALLEST_PIXEL_NM, LARGEST_PIXEL_NM = 0.01, 1000.0

# Some decoders repeat the file in their message.
_LONGEST_REASON = 200

_T = TypeVar("_T")


@dataclass(frozen=True)
class ImageHeader:
    """What a file says about its image, read without its pixels.

    Attributes:
        shape: Height and width in px.
        pages: Sections in the file; more than one makes it a stack.
        pixel_sides_nm: Height and width of a pixel in nm; None where the file does not say it.
        section_nm: Distance of two sections of a stack in nm; None where it does not say it.
        notes: What its user should know of it, each a sentence without its subject, the file.
        turned: Whether z, y, x are stored in another order; None where an array of several axes
            does not say what they are.
    """

    shape: tuple[int, int]
    pages: int
    pixel_sides_nm: tuple[float, float] | None
    section_nm: float | None = None
    notes: tuple[str, ...] = ()
    turned: bool | None = False


def read_header(path: Path) -> ImageHeader:
    """Reads size, number of sections and pixel size of a PNG or TIFF file.

    The pixel size comes from the resolution of a TIFF (per centimetre or inch) or from ImageJ's
    calibration in nm or um. PNG's is not trusted: programs write the screen's.

    Raises:
        BenchError: If the file is missing, unreadable, damaged or of another format, or if
            its pages differ in size.
    """
    if path.suffix.lower() == ".png":
        return decode(path, _read_png_header)
    if path.suffix.lower() in JPEG_SUFFIXES:
        return decode(path, _read_jpeg_header, "JPEG file")
    return decode(path, _read_tiff_header)


def read_section(path: Path, page: int = 0) -> np.ndarray:
    """Reads a section (y, x) of a PNG, TIFF or JPEG file.

    Values are those stored, at their depth. Colour is taken as grey where all channels agree,
    and an alpha channel is left out. A PNG's palette is applied; that of a TIFF is a look-up
    table for display and is not, and neither is its white-is-zero flag. Grey of 1, 2 or 4 bits
    in a PNG is spread over 0 to 255.

    Args:
        path: The file.
        page: Which section of a stack, from 0.

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
        pixels = decode(path, lambda file: _read_tiff_page(file, page))
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


def decode(path: Path, read: Callable[[Path], _T], kind: str = "PNG or TIFF file") -> _T:
    """Calls a reader and turns whatever a decoder raises on a bad file into a BenchError.

    Args:
        path: The file.
        read: The reader.
        kind: What the file must be, for the message.
    """
    try:
        return read(path)
    except (BenchError, MemoryError):
        raise
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        # h5py repeats the path in strerror, and others leave it out.
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise BenchError(
            f"{path} must be readable, received {reason!r}: check its path and permissions"
        ) from error
    except Exception as error:  # the decoders' own exceptions have no common class
        reason = " ".join(str(error)[:_LONGEST_REASON].split()) or type(error).__name__
        raise BenchError(
            f"{path} must be a whole {kind}, received one that does not decode ({reason}): "
            "save or copy it again"
        ) from error


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


def _read_tiff_header(path: Path) -> ImageHeader:
    with tifffile.TiffFile(path) as file:
        if len(file.series) != 1:
            raise BenchError(
                f"pages of {path} must be alike, received {len(file.series)} kinds of page: "
                "save each kind as a file of its own"
            )
        series = file.series[0]
        sides = dict(zip(series.axes, series.shape, strict=True))
        others = [axis for axis in series.axes if axis not in "YX"]
        imagej = file.imagej_metadata or {}
        if len(others) > 1 or _is_composite(imagej):
            raise BenchError(
                f"{path} must be a section or a stack of grey sections, received axes "
                f"{series.axes} of {series.shape}: save a single channel as (z, y, x)"
            )
        in_colour = "S" in others and not _is_stack_in_planes(series)
        pages = 1 if in_colour or not others else sides[others[0]]
        _check_tiff_size(path, series)
        pixel_sides = _read_pixel_sides(file.pages.first, imagej)
        return ImageHeader((sides["Y"], sides["X"]), pages, pixel_sides)


def _check_tiff_size(path: Path, series: tifffile.TiffPageSeries) -> None:
    together = series.size if "S" in series.axes else series.keyframe.size
    check_decoded_size(path, together * series.dtype.itemsize, path.stat().st_size)


def _is_composite(imagej: dict[str, object]) -> bool:
    return imagej.get("mode") in ("color", "composite") and imagej.get("channels", 1) != 1


def _is_stack_in_planes(series: tifffile.TiffPageSeries) -> bool:
    """Whether a file is a stack that tifffile stored as colour, in planes one after the other.

    It does so with arrays of three or four sections unless told otherwise.
    """
    return bool(series.kind == "shaped" and series.axes == "SYX")


def _read_tiff_page(path: Path, page: int) -> np.ndarray:
    """Reads one section of a TIFF; a long ImageJ stack has one tag page for all its sections."""
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        _check_tiff_size(path, series)
        if _is_stack_in_planes(series):
            return np.array(file.asarray(series=0)[page])
        if "S" in series.axes:
            return np.moveaxis(file.asarray(series=0), series.axes.index("S"), -1)
        if series.ndim == 2 or len(file.pages) == series.shape[0]:
            return np.asarray(file.asarray(key=page, series=0))
    return np.array(tifffile.memmap(path, mode="r")[page])


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


def _read_pixel_sides(
    page: tifffile.TiffPage, imagej: dict[str, object]
) -> tuple[float, float] | None:
    """Returns the pixel's height and width in nm by a TIFF's tags; None for a mere default."""
    unit_nm = _RESOLUTION_UNIT_NM.get(int(page.resolutionunit))
    if "unit" in imagej:
        unit_nm = IMAGEJ_UNIT_NM.get(str(imagej["unit"]).strip().lower())
    x_resolution, y_resolution = page.resolution
    if unit_nm is None or min(x_resolution, y_resolution) <= 0:
        return None
    # Resolution is stored as a fraction, so its inverse is off in the sixth digit.
    sides = (float(f"{unit_nm / y_resolution:.5g}"), float(f"{unit_nm / x_resolution:.5g}"))
    return sides if all(SMALLEST_PIXEL_NM <= side < LARGEST_PIXEL_NM for side in sides) else None
