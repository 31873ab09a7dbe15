"""A TrakEM2 project: layers with images, and the objects drawn over them."""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.errors import BenchError
from bench.ingest.annotations.drawing import DrawnObject
from bench.ingest.annotations.trakem2.calibration import read_pixel_sides
from bench.ingest.annotations.trakem2.drawn import build_objects
from bench.ingest.annotations.trakem2.elements import ProjectElements
from bench.ingest.annotations.trakem2.geometry import parse_number
from bench.ingest.annotations.trakem2.parse import parse_xml
from bench.ingest.annotations.trakem2.placing import Layer, measure_distance, place_patches

# Fifty times the side of the largest montages.
LARGEST_SIDE_PX = 10_000_000


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
    size = read_size(elements)
    sorted_layers = sorted(elements.layers, key=lambda layer: layer.z_px)
    layers, layer_warnings = place_patches(sorted_layers, roots)
    numbers = {layer.oid: number for number, layer in enumerate(sorted_layers)}
    objects, object_warnings = build_objects(elements, numbers)
    sides_nm, unit_warnings = read_pixel_sides(elements.calibration)
    escaped = "& or < in it were not escaped, as XML wants them; they were read as they are"
    return TrakEM2Project(
        path=path,
        roots=roots,
        size=size,
        layers=layers,
        objects=objects,
        pixel_sides_nm=sides_nm,
        section_nm=measure_distance(sorted_layers) * sides_nm[1] or None if sides_nm else None,
        warnings=((escaped,) if repaired else ())
        + layer_warnings
        + object_warnings
        + unit_warnings,
    )


def read_size(elements: ProjectElements) -> tuple[int, int]:
    """The height and width of the layer set in px, of a project with layers."""
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
        if not 0 < side <= LARGEST_SIDE_PX:
            raise BenchError(
                f"{name} of {elements.path} must be from 1 to {LARGEST_SIDE_PX} px, received "
                f"{text[:20]!r}: resize the canvas in TrakEM2 and save the project again"
            )
        sides.append(side)
    return sides[0], sides[1]
