"""Reads TIFF: sections and stacks, alone or one file of an OME-TIFF set."""

import logging
import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import tifffile

from bench.errors import BenchError
from bench.ingest.images.headers import ImageHeader, may_be_pixel
from bench.ingest.images.limits import check_decoded_size
from bench.ingest.images.tiff.label_values import check_label_values, check_lossless
from bench.ingest.images.tiff.ome_xml import OmePages, read_ome_pages
from bench.ingest.images.units import unit_by_word

# TIFF ResolutionUnit: 2 is the inch, 3 the centimetre; 1 says that there is no unit.
_RESOLUTION_UNIT_NM = {2: 2.54e7, 3: 1e7}
# Programs round resolution tags.
_SAME_SIZE = 1e-3
# A microscope has no more detectors, and some programs call the sections of any stack channels.
_MOST_DETECTORS = 4
_ORIENTATION = 274
_WHITE_IS_ZERO = 0
# What tifffile notices ends in an error or a note of ours; its lines are about other files too.
_CHATTY = logging.getLogger("tifffile")
_CHATTY.addHandler(logging.NullHandler())
_CHATTY.propagate = False


def read_tiff_header(path: Path, *, labels: bool = False) -> ImageHeader:
    """Reads what the tags of a TIFF say of its sections.

    Sections are the file's own pages: of an OME-TIFF set it is one file.

    Args:
        path: The file.
        labels: Whether it is a label image, whose values must be what was painted.

    Raises:
        BenchError: If its pages are no sections of one kind, are turned by a tag, or are labels
            that compression has changed.
    """
    with _open(path) as file:
        first = file.pages.first
        _check_orientation(path, first)
        if labels:
            check_lossless(path, first)
        ome = _find_ome_pages(path, _stamp_of(path))
        notes = _notes_of(first, labels=labels)
        return _describe_ome(path, file, ome, notes) if ome else _describe(path, file, notes)


def read_tiff_page(path: Path, page: int, *, labels: bool = False) -> np.ndarray:
    """Reads one section of a TIFF: (y, x), or (y, x, colour).

    Args:
        path: The file.
        page: Which section, from 0.
        labels: Whether it is a label image, whose ids are kept where white is zero.

    Raises:
        BenchError: If it is turned by a tag, or if what is foreground in labels is not known.
    """
    ome = _find_ome_pages(path, _stamp_of(path))
    with _open(path) as file:
        first = file.pages.first
        _check_orientation(path, first)
        pixels = _read_page(path, file, page) if ome is None else _read_ome(path, file, ome, page)
    if first.photometric != _WHITE_IS_ZERO:
        return pixels
    if pixels.dtype == np.bool_:
        return pixels if _is_of_numpy(first) else np.invert(pixels)
    if labels:
        check_label_values(path, first, pixels)
        return pixels
    return _invert(pixels, int(first.bitspersample))


def _is_of_numpy(page: tifffile.TiffPage) -> bool:
    """Whether one bit is true or false: tifffile marks all of them as white is zero."""
    return bool(page.is_shaped) or str(page.software).startswith("tifffile")


def _open(path: Path) -> tifffile.TiffFile:
    """Opens a file for itself: tifffile joins the files of a set otherwise."""
    return tifffile.TiffFile(path, is_ome=False, is_mmstack=False, is_ndtiff=False)


def _stamp_of(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=8)
def _find_ome_pages(path: Path, stamp: tuple[int, int]) -> OmePages | None:
    """Finds the planes of an OME-TIFF, which every section asks for; None in any other file."""
    with _open(path) as file:
        first = file.pages.first
        if not first.is_ome:
            return None
        pages = [_page_of(file, number) for number in range(len(file.pages))]
        full = [
            number
            for number, page in enumerate(pages)
            if not page.is_reduced
            and not page.is_mask
            and (page.shape, page.dtype) == (first.shape, first.dtype)
        ]
        return read_ome_pages(path, first.description, full, _read_description)


def _page_of(file: tifffile.TiffFile, number: int) -> tifffile.TiffPage:
    page = file.pages[number]
    assert isinstance(page, tifffile.TiffPage), "frames stand for pages only where asked for"
    return page


def _read_description(path: Path) -> str:
    with _open(path) as file:
        return str(file.pages.first.description)


def _check_orientation(path: Path, page: tifffile.TiffPage) -> None:
    tag = page.tags.get(_ORIENTATION)
    if tag is not None and tag.value in range(2, 9):
        raise BenchError(
            f"rows and columns of {path} must be stored as they are shown, received a TIFF "
            f"orientation of {tag.value}, by which some programs turn the image and others (Fiji, "
            "napari) do not: save it without, from the program in which it was annotated"
        )


def _notes_of(page: tifffile.TiffPage, *, labels: bool) -> tuple[str, ...]:
    if page.photometric != _WHITE_IS_ZERO or page.dtype == np.bool_:
        return ()
    if labels:
        return ("is a label image whose white is zero: its values are kept, and 0 is background",)
    if page.dtype is not None and page.dtype.kind == "f":
        return (
            "holds real numbers whose white is zero: they are kept, and their contrast is "
            "opposite to that on screen",
        )
    return ()


def _describe_ome(
    path: Path, file: tifffile.TiffFile, ome: OmePages, notes: tuple[str, ...]
) -> ImageHeader:
    first = _page_of(file, ome.pages[0])
    _check_page_size(path, first)
    numbers = (ome.channels, ome.sections, ome.times)
    pages = len(ome.pages)
    if sum(number > 1 for number in numbers) > 1 or (pages > 1 and first.samplesperpixel > 1):
        axes = f"{first.samplesperpixel} colours, " if first.samplesperpixel > 1 else ""
        raise BenchError(
            f"{path} must be a section or a stack of grey sections, received {axes}{ome.channels} "
            f"channels, {ome.sections} sections and {ome.times} time points: save a single channel "
            "as (z, y, x)"
        )
    sides, size_note = _measure(file.pages.first, {}, ome)
    channels = ome.channels if ome.channels <= _MOST_DETECTORS else 1
    notes = (*notes, *filter(None, [ome.note]), *_notes_of_channels(channels))
    shape = (first.imagelength, first.imagewidth)
    section_nm = ome.section_nm if sides and ome.channels == ome.times == 1 else None
    return ImageHeader(shape, pages, sides, section_nm, channels, notes, size_note)


def _describe(path: Path, file: tifffile.TiffFile, notes: tuple[str, ...]) -> ImageHeader:
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
        told = f", {sides['C']} channels" if sides.get("C", 1) > 1 else ""
        raise BenchError(
            f"{path} must be a section or a stack of grey sections, received axes "
            f"{series.axes} of {series.shape}{told}: save a single channel as (z, y, x)"
        )
    in_colour = "S" in others and not _is_stack_in_planes(series)
    pages = 1 if in_colour or not others else sides[others[0]]
    _check_size(path, series)
    channels = sides.get("C", 1) if sides.get("C", 1) <= _MOST_DETECTORS else 1
    sides_nm, size_note = _measure(file.pages.first, imagej, None)
    return ImageHeader(
        shape=(sides["Y"], sides["X"]),
        pages=pages,
        pixel_sides_nm=sides_nm,
        section_nm=_measure_spacing(imagej) if sides_nm and "Z" in others else None,
        channels=channels,
        notes=(*notes, *_notes_of_channels(channels)),
        size_note=size_note,
    )


def _notes_of_channels(channels: int) -> tuple[str, ...]:
    if channels == 1:
        return ()
    return (
        f"calls its {channels} pages channels, and they are taken as {channels} sections: if they "
        "are detectors of one section, save one of them as a file of its own",
    )


def _check_size(path: Path, series: tifffile.TiffPageSeries) -> None:
    together = series.size if "S" in series.axes else series.keyframe.size
    check_decoded_size(path, together * series.dtype.itemsize, path.stat().st_size)


def _check_page_size(path: Path, page: tifffile.TiffPage) -> None:
    itemsize = page.dtype.itemsize if page.dtype is not None else 1
    check_decoded_size(path, page.size * itemsize, path.stat().st_size)


def _is_composite(imagej: dict[str, object]) -> bool:
    return imagej.get("mode") in ("color", "composite") and imagej.get("channels", 1) != 1


def _is_stack_in_planes(series: tifffile.TiffPageSeries) -> bool:
    """Whether a file is a stack that tifffile stored as colour, in planes one after the other.

    It does so with arrays of three or four sections unless told otherwise.
    """
    return bool(series.kind == "shaped" and series.axes == "SYX")


def _read_ome(path: Path, file: tifffile.TiffFile, ome: OmePages, page: int) -> np.ndarray:
    stored = _page_of(file, ome.pages[page])
    _check_page_size(path, stored)
    pixels = np.asarray(stored.asarray())
    return np.moveaxis(pixels, stored.axes.index("S"), -1) if "S" in stored.axes else pixels


def _read_page(path: Path, file: tifffile.TiffFile, page: int) -> np.ndarray:
    """Reads one section of no set; a long ImageJ stack has one tag page for all its sections."""
    series = file.series[0]
    _check_size(path, series)
    if _is_stack_in_planes(series):
        return np.array(file.asarray(series=0)[page])
    if "S" in series.axes:
        return np.moveaxis(file.asarray(series=0), series.axes.index("S"), -1)
    if series.ndim == 2 or len(file.pages) == series.shape[0]:
        return np.asarray(file.asarray(key=page, series=0))
    return np.array(tifffile.memmap(path, mode="r")[page])


def _invert(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Returns what is shown bright as large values, where white is stored as zero."""
    if pixels.dtype.kind == "u":
        shown: np.ndarray = np.subtract(2**bits - 1, pixels, dtype=pixels.dtype)
        return shown
    return np.invert(pixels) if pixels.dtype.kind == "i" else pixels


def _measure(
    page: tifffile.TiffPage, imagej: dict[str, object], ome: OmePages | None
) -> tuple[tuple[float, float] | None, str]:
    """Returns a pixel's height and width in nm, None for a mere default; and what to know of it.

    OME-XML goes before the tags, which its writers leave at their defaults or in another unit.
    """
    tags = _measure_tags(page, imagej)
    usual = tags if tags and may_be_pixel(tags) else None
    stated = ome.pixel_sides_nm if ome else None
    if stated and may_be_pixel(stated):
        if usual is None or np.allclose(stated, usual, rtol=_SAME_SIZE, atol=0):
            return stated, ""
        return stated, (
            f"states {stated[1]:g} nm per pixel in its OME-XML and {usual[1]:g} nm in its "
            "resolution tag: the OME-XML is taken, which other programs read first"
        )
    in_words = tags is not None and "unit" in imagej and imagej["unit"] != "inch"
    beyond = stated or (tags if in_words and usual is None else None)
    if beyond:
        return None, (
            f"states {beyond[1]:g} nm per pixel, which no electron micrograph has: it is taken as "
            "unknown"
        )
    return usual, ""


def _measure_tags(page: tifffile.TiffPage, imagej: dict[str, object]) -> tuple[float, float] | None:
    """A pixel's height and width in nm by the resolution tags, whose unit ImageJ may name."""
    x_unit_nm = y_unit_nm = _RESOLUTION_UNIT_NM.get(int(page.resolutionunit))
    if "unit" in imagej:
        x_unit_nm = unit_by_word(str(imagej["unit"]))
        y_unit_nm = unit_by_word(str(imagej.get("yunit", imagej["unit"])))
    x_resolution, y_resolution = page.resolution
    if x_unit_nm is None or y_unit_nm is None or min(x_resolution, y_resolution) <= 0:
        return None
    # Resolution is stored as a fraction, so its inverse is off in the sixth digit.
    return float(f"{y_unit_nm / y_resolution:.5g}"), float(f"{x_unit_nm / x_resolution:.5g}")


def _measure_spacing(imagej: dict[str, object]) -> float | None:
    """Distance of two sections in nm by ImageJ, which leaves out a distance of one unit."""
    unit_nm = unit_by_word(str(imagej.get("zunit", imagej.get("unit", ""))))
    spacing = imagej.get("spacing")
    if unit_nm is None or not isinstance(spacing, int | float):
        return None
    distance = abs(spacing) * unit_nm
    return float(f"{distance:.5g}") if 0 < distance < math.inf else None
