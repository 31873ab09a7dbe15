"""TrakEM2 projects of instance labels (the format: TrakEM2, Cardona et al. 2012)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from itertools import count
from pathlib import Path

import numpy as np

from bench.core.files import write_text
from bench.export.instances import Instance, list_instances
from bench.export.label_images import viewable, write_sections
from bench.export.stack import LabelStack, colour_of, object_name
from bench.words import UNKNOWN_DISTANCE

_ENCODING = "ISO-8859-1"
_LAYER_SET_ID = 3
_FIRST_ID = 10
# Elements of a project that a structure may be called like; those of layers begin with t2_.
_OWN_TAGS = ("region", "project", "trakem2", "export", "phantom", "area_list")
# A patch's type by the image's: gray8, gray16, gray32.
_PATCH_TYPES = {"uint8": 0, "uint16": 1, "float32": 2}


@dataclass(frozen=True)
class Patch:
    """The image of a layer.

    Attributes:
        file: Its path from the project file.
        kind: Its type, of _PATCH_TYPES.
        low: Grey value shown as black.
        high: Grey value shown as white.
    """

    file: str
    kind: int = 0
    low: float = 0.0
    high: float = 255.0


@dataclass(frozen=True)
class ExportRegion:
    """Sections with annotation.

    Attributes:
        title: Its name.
        labels: Instance ids (z, y, x) by structure.
        corner_px: Row and column of the labels' corner in the images.
        size_px: Height and width of the images.
        patches: The images, one per section; None where there is none.
        numbers: Positions of its sections in the series.
    """

    title: str
    labels: Mapping[str, np.ndarray]
    corner_px: tuple[int, int]
    size_px: tuple[int, int]
    patches: list[Patch | None]
    numbers: list[int]


def write_trakem2(stack: LabelStack, folder: Path) -> None:
    """Writes ``project.xml``, and the image below it as ``images/<name>.tif`` per section."""
    stack.warn_of_distance("TrakEM2")
    patches: list[Patch | None] = [None] * len(stack.names)
    if stack.raw is not None:
        raw = viewable(stack.raw)
        write_sections(stack, raw, folder / "images")
        patches = [_make_patch(name, s) for name, s in zip(stack.names, raw, strict=True)]
    region = ExportRegion(
        title="region",
        labels=stack.labels,
        corner_px=(0, 0),
        size_px=stack.shape[1:],
        patches=patches,
        numbers=list(range(stack.shape[0])),
    )
    text = format_project(
        [region], kind="export", pixel_size_nm=stack.pixel_size_nm, section_nm=stack.section_nm
    )
    # ASCII is the same in every encoding.
    write_text(folder / "project.xml", text.encode("ascii", "xmlcharrefreplace").decode())


def _make_patch(name: str, section: np.ndarray) -> Patch:
    narrow = section.dtype == np.uint8
    low, high = (0.0, 255.0) if narrow else (float(section.min()), float(section.max()))
    return Patch(f"images/{name}.tif", _PATCH_TYPES[str(section.dtype)], low, high)


def format_project(
    regions: list[ExportRegion], *, kind: str, pixel_size_nm: float | None, section_nm: float | None
) -> str:
    """Writes the text of a project: one layer per section and one area list per instance.

    Args:
        regions: The regions.
        kind: Tag of the project's root.
        pixel_size_nm: Pixel size in nm; None leaves the project in px.
        section_nm: Distance of sections in nm; where it is not known they are one px apart.
    """
    thickness = section_nm / pixel_size_nm if section_nm and pixel_size_nm else 1.0
    structures = list(dict.fromkeys(name for region in regions for name in region.labels))
    tree, areas, layers = _format_regions(regions, thickness)
    height, width = (max(region.size_px[axis] for region in regions) for axis in (0, 1))
    lines = [
        f'<?xml version="1.0" encoding="{_ENCODING}"?>',
        *_format_dtd(kind, [tag_of(structure) for structure in structures]),
        "<trakem2>",
        f'<project id="0" title="{kind}" unuid="0" mipmaps_folder="" storage_folder="">',
        f'<{kind} id="1" title="{kind}" expanded="true">',
        *tree,
        f"</{kind}>",
        "</project>",
        f'<t2_layer_set oid="{_LAYER_SET_ID}" width="20.0" height="20.0" '
        f'transform="{_format_matrix(0, 0)}" title="Top Level" links="" '
        f'layer_width="{width}.0" layer_height="{height}.0">',
        _format_calibration(pixel_size_nm, section_nm),
        *areas,
        *layers,
        "</t2_layer_set>",
        "</trakem2>",
    ]
    return "\n".join(lines) + "\n"


def _format_regions(
    regions: list[ExportRegion], thickness: float
) -> tuple[list[str], list[str], list[str]]:
    """Project tree, area lists and layers; every object has an id of its own."""
    tree, areas, layers = [], [], []
    ids = count(_FIRST_ID)
    for region in regions:
        layer_ids = [next(ids) for _ in region.patches]
        for oid, patch, number in zip(layer_ids, region.patches, region.numbers, strict=True):
            image = "" if patch is None else _format_patch(patch, next(ids), region.size_px)
            layers.append(
                f'<t2_layer oid="{oid}" thickness="{thickness}" z="{number * thickness}" '
                f'title="">\n{image}</t2_layer>'
            )
        tree.append(f'<region id="{next(ids)}" title="{escape(region.title)}" expanded="true">')
        for structure, labels in region.labels.items():
            tag = tag_of(structure)
            for instance in list_instances(labels):
                oid, title = next(ids), f"{tag} {instance.id}"
                areas += _format_area_list(instance, oid, title, structure, region, layer_ids)
                tree.append(
                    f'<{tag} id="{next(ids)}" title="{title}" expanded="false">'
                    f'<area_list id="{next(ids)}" oid="{oid}"/></{tag}>'
                )
        tree.append("</region>")
    return tree, areas, layers


def _format_dtd(kind: str, tags: list[str]) -> list[str]:
    """The inline document type, from which TrakEM2 makes the template of the project's tree."""
    lines = [f"<!DOCTYPE trakem2_{kind} ["]
    for name, content, attributes in _list_elements(kind, tags):
        lines.append(f"\t<!ELEMENT {name} {content}>")
        lines += [f"\t<!ATTLIST {name} {item} NMTOKEN #REQUIRED>" for item in attributes.split()]
    return [*lines, "] >", ""]


def _list_elements(kind: str, tags: list[str]) -> Iterator[tuple[str, str, str]]:
    """Yields the project's elements: name, what they contain, and their attributes."""
    yield kind, "(region)", "id title expanded"
    yield "region", f"({','.join(tags)})", "id title expanded"
    for tag in tags:
        yield tag, "(area_list)", "id title expanded"
    yield "area_list", "EMPTY", "id oid expanded"
    yield "trakem2", "(project,t2_layer_set,t2_display)", ""
    yield "project", f"({kind})", "id unuid title mipmaps_folder storage_folder"
    drawn = "oid width height transform title links"
    set_content = "(t2_calibration,t2_area_list,t2_layer)"
    yield "t2_layer_set", set_content, f"{drawn} layer_width layer_height"
    yield (
        "t2_calibration",
        "EMPTY",
        "pixelWidth pixelHeight pixelDepth xOrigin yOrigin zOrigin info valueUnit timeUnit unit",
    )
    yield "t2_area_list", "(t2_area)", f"{drawn} layer_set_id visible style"
    yield "t2_area", "(t2_path)", "layer_id"
    yield "t2_path", "EMPTY", "d"
    yield "t2_layer", "(t2_patch)", "oid thickness z title"
    yield "t2_patch", "EMPTY", f"{drawn} type file_path style o_width o_height min max"


def _format_calibration(pixel_size_nm: float | None, section_nm: float | None) -> str:
    """The scale; TrakEM2's own default where the pixel size is not known."""
    side = pixel_size_nm or 1.0
    depth, unit = (section_nm or side, "nm") if pixel_size_nm else (1.0, "pixel")
    info = "null" if section_nm or not pixel_size_nm else UNKNOWN_DISTANCE
    return (
        f'<t2_calibration pixelWidth="{side}" pixelHeight="{side}" '
        f'pixelDepth="{depth}" xOrigin="0.0" yOrigin="0.0" zOrigin="0.0" info="{info}" '
        f'valueUnit="Gray Value" timeUnit="sec" unit="{unit}"/>'
    )


def _format_area_list(
    instance: Instance,
    oid: int,
    title: str,
    structure: str,
    region: ExportRegion,
    layer_ids: list[int],
) -> list[str]:
    _, height, width = instance.mask.shape
    x, y = region.corner_px[1] + instance.corner[2], region.corner_px[0] + instance.corner[1]
    colour = "".join(f"{channel:02x}" for channel in colour_of(structure, region.labels))
    text = [
        f'<t2_area_list oid="{oid}" width="{width}.0" height="{height}.0" '
        f'transform="{_format_matrix(x, y)}" title="{title}" links="" '
        f'layer_set_id="{_LAYER_SET_ID}" visible="true" '
        f'style="stroke:none;fill-opacity:0.4;fill:#{colour};">'
    ]
    for section, outlines in instance.outlines():
        text.append(f'<t2_area layer_id="{layer_ids[section]}">')
        for outline in outlines:
            points = " L ".join(f"{x} {y}" for x, y in outline.tolist())
            text.append(f'<t2_path d="M {points} z"/>')
        text.append("</t2_area>")
    return [*text, "</t2_area_list>"]


def _format_patch(patch: Patch, oid: int, size_px: tuple[int, int]) -> str:
    height, width = size_px
    title = escape(patch.file.rsplit("/", 1)[-1])
    return (
        f'<t2_patch oid="{oid}" width="{width}.0" height="{height}.0" '
        f'transform="{_format_matrix(0, 0)}" title="{title}" links="" type="{patch.kind}" '
        f'file_path="{escape(patch.file)}" style="fill-opacity:1.0;stroke:#ffff00;" '
        f'o_width="{width}" o_height="{height}" min="{patch.low}" max="{patch.high}"></t2_patch>\n'
    )


def _format_matrix(x: int, y: int) -> str:
    return f"matrix(1.0,0.0,0.0,1.0,{x}.0,{y}.0)"


def tag_of(structure: str) -> str:
    """The tag of a structure's objects: what XML does not allow in a name becomes ``_``.

    A structure whose name is that of an element of the project itself has another tag.
    """
    tag = re.sub(r"[^A-Za-z0-9_]", "_", object_name(structure))
    own = tag in _OWN_TAGS or not re.match("[A-Za-z]", tag)
    return f"structure_{tag}" if own else tag
