"""The TrakEM2 project over the montages (the format: TrakEM2, Cardona et al. 2012)."""

from dataclasses import dataclass
from itertools import count

import numpy as np
from scipy.ndimage import find_objects

from bench.data.phantom.outlines import trace_outlines

# The class of each structure in the project tree.
CLASSES = {"vesicles": "vesicle", "mitochondria": "mitochondria", "membrane": "membrane"}
COLOURS = {"vesicles": "#00ff00", "mitochondria": "#ff0000", "membrane": "#0000ff"}
LAYER_SET_ID = 3
FIRST_ID = 10

# Elements with attributes, and what they may contain; TrakEM2 reads its template from the first.
ELEMENTS: tuple[tuple[str, str, str], ...] = (
    ("phantom", "(region)", "id title expanded"),
    ("region", "(vesicle,mitochondria,membrane)", "id title expanded"),
    ("vesicle", "(area_list)", "id title expanded"),
    ("mitochondria", "(area_list)", "id title expanded"),
    ("membrane", "(area_list)", "id title expanded"),
    ("area_list", "EMPTY", "id oid expanded"),
    ("trakem2", "(project,t2_layer_set,t2_display)", ""),
    ("project", "(phantom)", "id unuid title mipmaps_folder storage_folder"),
    ("t2_layer_set", "(t2_calibration,t2_area_list,t2_layer)",
     "oid width height transform title links layer_width layer_height"),
    ("t2_calibration", "EMPTY",
     "pixelWidth pixelHeight pixelDepth xOrigin yOrigin zOrigin info valueUnit timeUnit unit"),
    ("t2_area_list", "(t2_area)",
     "oid width height transform title links layer_set_id visible style"),
    ("t2_area", "(t2_path)", "layer_id"),
    ("t2_path", "EMPTY", "d"),
    ("t2_layer", "(t2_patch)", "oid thickness z title"),
    ("t2_patch", "EMPTY",
     "oid width height transform title links type file_path style o_width o_height min max"),
)  # fmt: skip


@dataclass(frozen=True)
class Annotation:
    """An annotated region of the project.

    Attributes:
        title: Its name.
        labels: Instance ids (z, y, x) per structure.
        corner_px: Row and column of the region's corner in its montages.
        files: Paths of its montages from the project file, one per section.
        numbers: Positions of its sections in the series.
    """

    title: str
    labels: dict[str, np.ndarray]
    corner_px: tuple[int, int]
    files: list[str]
    numbers: list[int]


def format_project(
    annotations: list[Annotation], *, montage_px: int, pixel_size_nm: float, section_nm: float
) -> str:
    """Writes the text of a project: one layer per montage and one area list per instance.

    Args:
        annotations: The regions.
        montage_px: Edge of a montage in px.
        pixel_size_nm: Pixel size in nm.
        section_nm: Distance of sections in nm.
    """
    tree, areas, layers = format_regions(annotations, montage_px, section_nm / pixel_size_nm)
    lines = [
        '<?xml version="1.0" encoding="ISO-8859-1"?>',
        *format_dtd(),
        "<trakem2>",
        '<project id="0" title="phantom" unuid="0" mipmaps_folder="" storage_folder="">',
        '<phantom id="1" title="phantom" expanded="true">',
        *tree,
        "</phantom>",
        "</project>",
        f'<t2_layer_set oid="{LAYER_SET_ID}" width="20.0" height="20.0" '
        f'transform="{format_matrix(0, 0)}" title="Top Level" links="" '
        f'layer_width="{montage_px}.0" layer_height="{montage_px}.0">',
        f'<t2_calibration pixelWidth="{pixel_size_nm}" pixelHeight="{pixel_size_nm}" '
        f'pixelDepth="{section_nm}" xOrigin="0.0" yOrigin="0.0" zOrigin="0.0" info="null" '
        'valueUnit="Gray Value" timeUnit="sec" unit="nm"/>',
        *areas,
        *layers,
        "</t2_layer_set>",
        "</trakem2>",
    ]
    return "\n".join(lines) + "\n"


def format_regions(
    annotations: list[Annotation], montage_px: int, thickness: float
) -> tuple[list[str], list[str], list[str]]:
    """Project tree, area lists and layers; every object has an id of its own."""
    tree, areas, layers = [], [], []
    ids = count(FIRST_ID)
    for annotation in annotations:
        layer_ids = [next(ids) for _ in annotation.files]
        for oid, file, number in zip(layer_ids, annotation.files, annotation.numbers, strict=True):
            z = number * thickness
            layers.append(format_layer(oid, next(ids), file, (z, thickness), montage_px))
        tree.append(f'<region id="{next(ids)}" title="{annotation.title}" expanded="true">')
        for structure, name in CLASSES.items():
            for instance, area in format_areas(annotation, structure, layer_ids):
                oid, title = next(ids), f"{name} {instance}"
                areas.append(area.format(oid=oid, title=title))
                tree.append(
                    f'<{name} id="{next(ids)}" title="{title}" expanded="false">'
                    f'<area_list id="{next(ids)}" oid="{oid}"/></{name}>'
                )
        tree.append("</region>")
    return tree, areas, layers


def format_dtd() -> list[str]:
    """The inline document type."""
    lines = ["<!DOCTYPE trakem2_phantom ["]
    for name, content, attributes in ELEMENTS:
        lines.append(f"\t<!ELEMENT {name} {content}>")
        lines += [f"\t<!ATTLIST {name} {item} NMTOKEN #REQUIRED>" for item in attributes.split()]
    return [*lines, "] >", ""]


def format_areas(
    annotation: Annotation, structure: str, layer_ids: list[int]
) -> list[tuple[int, str]]:
    """Area lists of a structure: id, and text with places for ``oid`` and ``title``."""
    ids = annotation.labels[structure]
    found = []
    for instance, box in enumerate(find_objects(ids.astype(np.int32)), start=1):
        if box is None:
            continue
        mask = ids[box] == instance
        x = annotation.corner_px[1] + box[2].start
        y = annotation.corner_px[0] + box[1].start
        text = [
            f'<t2_area_list oid="{{oid}}" width="{mask.shape[2]}.0" height="{mask.shape[1]}.0" '
            f'transform="{format_matrix(x, y)}" title="{{title}}" links="" '
            f'layer_set_id="{LAYER_SET_ID}" visible="true" '
            f'style="stroke:none;fill-opacity:0.4;fill:{COLOURS[structure]};">'
        ]
        for layer_id, section in zip(layer_ids[box[0]], mask, strict=True):
            if section.any():
                text.append(f'<t2_area layer_id="{layer_id}">')
                text += [format_path(outline) for outline in trace_outlines(section)]
                text.append("</t2_area>")
        found.append((instance, "\n".join([*text, "</t2_area_list>"])))
    return found


def format_path(outline: np.ndarray) -> str:
    """One closed polygon (n, 2) as x, y."""
    points = " L ".join(f"{x} {y}" for x, y in outline.tolist())
    return f'<t2_path d="M {points} z"/>'


def format_layer(
    oid: int, patch_oid: int, file: str, depth_px: tuple[float, float], montage_px: int
) -> str:
    """A layer at z and with a thickness, both in px, with its montage."""
    z, thickness = depth_px
    title = file.rsplit("/", 1)[-1]
    return (
        f'<t2_layer oid="{oid}" thickness="{thickness}" z="{z}" title="">\n'
        f'<t2_patch oid="{patch_oid}" width="{montage_px}.0" height="{montage_px}.0" '
        f'transform="{format_matrix(0, 0)}" title="{title}" links="" type="0" '
        f'file_path="{file}" style="fill-opacity:1.0;stroke:#ffff00;" o_width="{montage_px}" '
        f'o_height="{montage_px}" min="0.0" max="255.0"></t2_patch>\n'
        "</t2_layer>"
    )


def format_matrix(x: int, y: int) -> str:
    """A translation."""
    return f"matrix(1.0,0.0,0.0,1.0,{x}.0,{y}.0)"
