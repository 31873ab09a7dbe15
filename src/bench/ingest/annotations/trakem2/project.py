"""A TrakEM2 project: layers with images, and the objects drawn over them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.core.names import first_names
from bench.errors import BenchError
from bench.ingest.annotations.drawing import DrawnObject, Shape
from bench.ingest.annotations.trakem2.elements import (
    LayerElement,
    ProjectElements,
    ProjectTree,
    choose_kind,
)
from bench.ingest.annotations.trakem2.geometry import parse_number
from bench.ingest.annotations.trakem2.objects import ObjectElement
from bench.ingest.annotations.trakem2.parse import parse_xml, read_text
from bench.ingest.annotations.trakem2.placing import Layer, measure_distance, place_patches
from bench.ingest.images.headers import may_be_pixel
from bench.ingest.images.units import unit_by_word
from bench.words import UNKNOWN_DISTANCE

_NO_UNIT = ("", "pixel", "pixels", "px", "null")
_TITLE_CHARACTERS = 60
# Fifty times the side of the largest montages.
_LARGEST_SIDE_PX = 10_000_000


@dataclass(frozen=True, eq=False)
class TrakEM2Project:
    """What a project holds.

    Attributes:
        path: Its file.
        roots: Real paths of the folders in which its images may lie, that of the project first.
        size: Height and width of the layer set in px.
        layers: Its layers in the order of depth.
        objects: Its objects in the order of the file; sections are numbers of layers, and
            coordinates px of the layer set.
        pixel_sides_nm: Height and width of a pixel in nm; None where they are not known.
        section_nm: Distance of two layers in nm; None where it is not known.
        warnings: What was left out or changed.
    """

    path: Path
    roots: tuple[Path, ...]
    size: tuple[int, int]
    layers: tuple[Layer, ...]
    objects: tuple[DrawnObject, ...]
    pixel_sides_nm: tuple[float, float] | None
    section_nm: float | None
    warnings: tuple[str, ...]


def read_project(path: Path, roots: tuple[Path, ...] = ()) -> TrakEM2Project:
    """Reads a project (``.xml`` or ``.xml.gz``); its images are not opened.

    Args:
        path: The file.
        roots: Folders besides its own in which its images may lie.

    Raises:
        BenchError: If it is no project, damaged, or not to be trusted.
    """
    elements, repaired = parse_xml(path, partial(ProjectElements, path))
    roots = tuple(folder.resolve() for folder in (path.parent, *roots))
    size = _read_size(elements)
    sorted_layers = sorted(elements.layers, key=lambda layer: layer.z_px)
    layers, layer_warnings = place_patches(sorted_layers, roots)
    numbers = {layer.oid: number for number, layer in enumerate(sorted_layers)}
    objects, object_warnings = _build_objects(elements, numbers)
    sides_nm, unit_warnings = _read_pixel_sides(elements.calibration)
    escaped = "& or < in it were not escaped, as XML wants them; they were read as they are"
    warnings = (escaped,) if repaired else ()
    return TrakEM2Project(
        path=path,
        roots=roots,
        size=size,
        layers=layers,
        objects=objects,
        pixel_sides_nm=sides_nm,
        section_nm=_read_distance(elements.calibration, sorted_layers, sides_nm),
        warnings=(*warnings, *layer_warnings, *object_warnings, *unit_warnings),
    )


def _read_size(elements: ProjectElements) -> tuple[int, int]:
    if elements.layer_set is None or not elements.layers:
        raise BenchError(
            f"{elements.path} must hold a layer set with layers, received none: choose a project "
            "over images"
        )
    sides = []
    for name in ("layer_height", "layer_width"):
        text = elements.layer_set.get(name, "")
        try:
            side = math.ceil(parse_number(text))
        except ValueError:
            side = 0
        if not 0 < side <= _LARGEST_SIDE_PX:
            raise BenchError(
                f"{name} of {elements.path} must be from 1 to {_LARGEST_SIDE_PX} px, received "
                f"{text[:20]!r}: resize the canvas in TrakEM2 and save the project again"
            )
        sides.append(side)
    return sides[0], sides[1]


def _read_pixel_sides(
    calibration: dict[str, str],
) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """Reads the height and width of a pixel in nm, None where they are unknown, and warnings."""
    unit = read_text(calibration, "unit")
    if unit.lower() in _NO_UNIT:
        return None, ()
    width = read_text(calibration, "pixelWidth")
    height = read_text(calibration, "pixelHeight") or width
    stated = f"{width} x {height} {unit}"[:60]
    unit_nm = unit_by_word(unit) or 0.0
    try:
        width_nm, height_nm = parse_number(width) * unit_nm, parse_number(height) * unit_nm
    except ValueError:
        width_nm = height_nm = 0.0
    if may_be_pixel((height_nm, width_nm)):
        return (height_nm, width_nm), ()
    return None, (
        f"the pixel size is taken as unknown: the project states {stated}, and no micrograph has "
        "such pixels",
    )


def _read_distance(
    calibration: dict[str, str],
    layers: list[LayerElement],
    sides_nm: tuple[float, float] | None,
) -> float | None:
    """The distance of layers in nm; None where it is not known, as an export of ours may say."""
    distance_px = measure_distance(layers)
    made_up = distance_px == 1 and read_text(calibration, "info") == UNKNOWN_DISTANCE
    return None if sides_nm is None or made_up else distance_px * sides_nm[1] or None


def _build_objects(
    elements: ProjectElements, numbers: Mapping[str, int]
) -> tuple[tuple[DrawnObject, ...], tuple[str, ...]]:
    """Gives objects their class and sections, layers by oid, and says what was left out."""
    built, unplaced = [], []
    dropped = elements.objects.dropped
    for group in _group_profiles(elements.objects.objects, elements.tree):
        first = group[0]
        shapes: dict[int, list[Shape]] = {}
        for layer, drawn in (pair for element in group for pair in element.shapes.items()):
            if layer in numbers:
                shapes.setdefault(numbers[layer], []).extend(drawn)
            else:
                dropped["areas in layers that the project does not have"] += len(drawn)
        if not shapes:
            continue
        place = elements.tree.leaves.get(first.oid)
        kind = choose_kind(place, first.tag, first.title)
        name = _name_object(first)
        if place is None:
            unplaced.append(name)
        visible = any(element.visible for element in group)
        frozen = {number: tuple(drawn) for number, drawn in shapes.items()}
        built.append(DrawnObject(name, kind, frozen, visible, first.title))
    warnings = [f"left out: {count} {what}" for what, count in dropped.items()]
    hidden = sum(not item.visible for item in built)
    if hidden:
        warnings.append(f"{hidden} objects are hidden in TrakEM2; they count all the same")
    if unplaced:
        warnings.append(
            f"{len(unplaced)} objects are not in the project tree, so their titles are their "
            f"classes: {first_names(unplaced)}"
        )
    return tuple(built), tuple(warnings)


def _group_profiles(
    objects: Iterable[ObjectElement], tree: ProjectTree
) -> Iterable[list[ObjectElement]]:
    """Joins the profiles of a list: they are one object, drawn in several layers."""
    groups: dict[object, list[ObjectElement]] = {}
    for element in objects:
        place = tree.leaves.get(element.oid) if element.tag == "profile" else None
        profile_list = place.profile_list if place is not None else None
        key = id(element) if profile_list is None else ("profile_list", profile_list)
        groups.setdefault(key, []).append(element)
    return groups.values()


def _name_object(element: ObjectElement) -> str:
    """Names an object for messages, such as ``area_list 123 'vesicle 5'``."""
    title = f" {element.title[:_TITLE_CHARACTERS]!r}" if element.title else ""
    part = f" part {element.part}" if element.part else ""
    return f"{element.tag} {element.oid[:_TITLE_CHARACTERS]}{title}{part}"
