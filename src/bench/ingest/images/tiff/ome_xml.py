"""What OME-XML says of the pages of one file, which may be one of a set.

An OME-TIFF's description tells of the whole set: of each plane (channel, section, time point) the
file, by UUID and name, and the page in it. A page is taken from the file that was asked for and
from no other, so that a set is as many images as files, whatever became of their names.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from bench.errors import BenchError
from bench.ingest.images.limits import ANNOTATION_BYTES
from bench.ingest.images.units import unit_by_symbol

_SUFFIXES = (".tif", ".tiff")
# Lengths without a unit, and all lengths before the schema of 2015, are in micrometres.
_DEFAULT_UNIT = "\u00b5m"
_DIGITS = 5
# That a page is named; more is no slip.
_MOST_TIMES = 100


@dataclass(frozen=True)
class OmePages:
    """What is said of the pages of one file.

    Attributes:
        pages: The pages that are its planes, in the order of time point and section, or channel.
        channels: Channels among them.
        sections: Sections among them.
        times: Time points among them.
        pixel_sides_nm: Height and width of a pixel; None where the unit or the size is unknown.
        section_nm: Distance of two sections; None the same, or where the set has a single one.
        note: What its user should know, or nothing.
    """

    pages: tuple[int, ...]
    channels: int
    sections: int
    times: int
    pixel_sides_nm: tuple[float, float] | None
    section_nm: float | None
    note: str = ""


@dataclass(frozen=True)
class _Plane:
    page: int
    channel: int
    section: int
    time: int


def read_ome_pages(
    path: Path, text: str, full: Sequence[int], read_description: Callable[[Path], str]
) -> OmePages | None:
    """Reads what OME-XML says of the pages of a file.

    Args:
        path: The file.
        text: Its description.
        full: The pages in it that may be planes; others are reduced copies.
        read_description: Reads that of the first page of another TIFF.

    Returns:
        It; None where the text is no OME-XML.

    Raises:
        BenchError: If the file holds planes of several images.
    """
    root = _parse(text)
    if root is None:
        return None
    uuid = root.get("UUID", "")
    master = _find_master(path, root, read_description)
    root = root if master is None else master
    is_own = _find_own(root, path, uuid)
    images = list(_descend(root, "Image", "Pixels"))
    own = [(image, planes) for image in images if (planes := _own_planes(image, is_own, len(full)))]
    if len(own) > 1:
        raise BenchError(
            f"pages of {path} must be of one image, received {len(own)} images in its OME-XML: "
            "save each as a file of its own"
        )
    if own:
        return _describe(*own[0], full)
    # It only points to a companion that is not there, or nothing names it.
    sizes = images[0] if len(images) == 1 else Element("Pixels")
    return _describe(sizes, [], full)


def _parse(text: str) -> Element | None:
    try:
        root: Element = fromstring(text.strip())
    except (ParseError, DefusedXmlException, ValueError):
        return None
    return root if _name(root) == "OME" else None


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _descend(element: Element, *names: str) -> Iterator[Element]:
    if not names:
        yield element
        return
    for child in element:
        if _name(child) == names[0]:
            yield from _descend(child, *names[1:])


def _find_master(
    path: Path, root: Element, read_description: Callable[[Path], str]
) -> Element | None:
    """The metadata that a file without its own points to, if they lie beside it."""
    for pointer in _descend(root, "BinaryOnly"):
        name = pointer.get("MetadataFile", "").replace("\\", "/").rpartition("/")[2]
        file = path.parent / name
        if not name or file == path or not file.is_file():
            return None
        if file.suffix.lower() in _SUFFIXES:
            return _parse(read_description(file))
        if file.stat().st_size <= ANNOTATION_BYTES:
            return _parse(file.read_text(encoding="utf-8", errors="replace"))
    return None


def _find_own(root: Element, path: Path, uuid: str) -> Callable[[Element], bool]:
    """Returns what tells whether planes lie in this file, by the mark of its UUID."""
    marks = _descend(root, "Image", "Pixels", "TiffData", "UUID")
    named = {(mark.text or "").strip() for mark in marks}

    def is_own(mark: Element) -> bool:
        if len(named) == 1:  # the only file, whatever it is called by now
            return True
        if uuid in named:
            return (mark.text or "").strip() == uuid
        return mark.get("FileName", "").lower() == path.name.lower()

    return is_own


def _own_planes(pixels: Element, is_own: Callable[[Element], bool], pages: int) -> list[_Plane]:
    """The planes of an image that lie in this file."""
    planes: list[_Plane] = []
    # Without a word on where planes lie, all are there in order.
    for block in list(_descend(pixels, "TiffData")) or [Element("TiffData")]:
        if all(is_own(mark) for mark in _descend(block, "UUID")):
            planes += _planes_of(pixels, block, pages)
        if len(planes) > _MOST_TIMES * pages:
            raise ValueError("OME-XML that names pages many times over")
    return planes


def _sizes(pixels: Element) -> dict[str, int]:
    """How many channels, sections and time points an image has; its samples are no channels."""
    sizes = {axis: max(1, _whole(pixels.get(f"Size{axis}"), 1)) for axis in "ZCT"}
    samples = [_whole(each.get("SamplesPerPixel"), 1) for each in _descend(pixels, "Channel")]
    sizes["C"] = max(1, sizes["C"] // max(1, *samples[:1], 1))
    return sizes


def _planes_of(pixels: Element, block: Element, pages: int) -> Iterator[_Plane]:
    """The planes of a block, which follow each other in the order of dimensions."""
    order, sizes = pixels.get("DimensionOrder", "XYZCT")[2:], _sizes(pixels)
    start, step = 0, 1
    for axis in order:
        start += step * _whole(block.get(f"First{axis}"), 0)
        step *= sizes[axis]
    first = _whole(block.get("IFD"), 0)
    # Without a count it is one plane where a page is named, else all.
    count = block.get("PlaneCount") or block.get("NumPlanes")
    for number in range(min(pages, _whole(count, pages if block.get("IFD") is None else 1))):
        place, index = start + number, {}
        for axis in order:
            place, index[axis] = divmod(place, sizes[axis])
        if place:  # beyond what the sizes say, as in images that were cropped
            return
        yield _Plane(first + number, index["C"], index["Z"], index["T"])


def _whole(text: str | None, default: int) -> int:
    return int(text) if text and text.isdecimal() else default


def _describe(pixels: Element, planes: list[_Plane], full: Sequence[int]) -> OmePages:
    sizes = _sizes(pixels)
    # What an edited file has more than once is taken where it is said first.
    stored = set(full)
    first = {plane.page: plane for plane in reversed(planes) if plane.page in stored}
    planes = list(first.values())
    note = _find_note(pixels, planes, len(full), sizes)
    if len(planes) < len(full):
        planes = [_Plane(page, 0, page, 0) for page in full]
    planes = sorted(planes, key=lambda plane: (plane.time, plane.section, plane.channel))
    y_nm, x_nm, z_nm = (_length_nm(pixels, axis) for axis in "YXZ")
    return OmePages(
        pages=tuple(plane.page for plane in planes),
        channels=len({plane.channel for plane in planes}),
        sections=len({plane.section for plane in planes}),
        times=len({plane.time for plane in planes}),
        pixel_sides_nm=(y_nm, x_nm) if y_nm and x_nm else None,
        section_nm=z_nm if sizes["Z"] > 1 else None,
        note=note,
    )


def _find_note(pixels: Element, planes: list[_Plane], pages: int, sizes: dict[str, int]) -> str:
    channels = {plane.channel for plane in planes}
    if planes and len(planes) < pages:
        return (
            f"its OME-XML tells of {len(planes)} of its {pages} pages: all are taken, in the "
            "order stored"
        )
    files = {(mark.text, mark.get("FileName")) for mark in _descend(pixels, "TiffData", "UUID")}
    declared = sizes["Z"] * sizes["C"] * sizes["T"]
    if planes and len(files) < 2 and len(planes) < declared:
        return (
            f"its OME-XML tells of {declared} planes and it holds {len(planes)}: copy it again if "
            "it should be whole"
        )
    if len(channels) == 1 and sizes["C"] > 1:
        return f"is channel {min(channels) + 1} of the {sizes['C']} of its OME-XML"
    return ""


def _length_nm(pixels: Element, axis: str) -> float | None:
    """A physical size; None where it is none, or its unit is no length."""
    unit_nm = unit_by_symbol(pixels.get(f"PhysicalSize{axis}Unit", _DEFAULT_UNIT))
    try:
        size = float(pixels.get(f"PhysicalSize{axis}", "nan"))
    except ValueError:
        return None
    known = unit_nm is not None and 0 < size < math.inf
    return float(f"{size * unit_nm:.{_DIGITS}g}") if known and unit_nm else None
