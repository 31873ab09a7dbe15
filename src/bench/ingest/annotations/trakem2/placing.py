"""The layers of a project with the images laid into them."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.core.names import first_names
from bench.ingest.annotations.trakem2.elements import LayerElement, PatchElement
from bench.ingest.annotations.trakem2.geometry import parse_number
from bench.ingest.annotations.trakem2.objects import is_visible
from bench.ingest.annotations.trakem2.parse import read_text
from bench.ingest.annotations.trakem2.patches import ImagePatch, find_image


@dataclass(frozen=True, eq=False)
class Layer:
    """One section of the series.

    Attributes:
        number: Its place in the order of depth, from 0.
        z_px: Its depth, in px of the layer set.
        thickness_px: The same of its thickness.
        patches: The images laid into it, later ones over earlier ones.
        title: Its title; often empty.
    """

    number: int
    z_px: float
    thickness_px: float
    patches: tuple[ImagePatch, ...]
    title: str


def measure_distance(layers: list[LayerElement]) -> float:
    """The usual distance of a layer to the next in px; 0 where nothing says it."""
    steps = np.diff([layer.z_px for layer in layers])
    steps = steps[steps > 0]
    return float(np.median(steps)) if len(steps) else max(layers[0].thickness_px, 0.0)


def place_patches(
    layers: list[LayerElement], roots: tuple[Path, ...]
) -> tuple[tuple[Layer, ...], tuple[str, ...]]:
    """Finds the images of layers, and says what is unusual about them."""
    moved, hidden, changed = [], 0, Counter[str]()
    placed = []
    for number, layer in enumerate(layers):
        shown = [p for p in layer.patches if is_visible(p.attributes)] or layer.patches
        hidden += len(layer.patches) - len(shown)
        patches = []
        for element in shown:
            patch, is_moved = place_patch(element, roots)
            patches.append(patch)
            changed.update(element.changed)
            if is_moved:
                moved.append(patch.path.name)
        placed.append(Layer(number, layer.z_px, layer.thickness_px, tuple(patches), layer.title))
    warnings = [
        f"{count} images are read without {what}, which TrakEM2 shows them with"
        for what, count in changed.items()
    ]
    if hidden:
        warnings.append(f"{hidden} images are hidden in TrakEM2 below others and left out")
    if moved:
        warnings.append(
            f"{len(moved)} images are not where the project says, or not in a folder that was "
            f"named; those beside the project are taken: {first_names(moved)}"
        )
    return tuple(placed), tuple(warnings)


def place_patch(element: PatchElement, roots: tuple[Path, ...]) -> tuple[ImagePatch, bool]:
    """Finds the image of an element, and says whether it is elsewhere than the project says."""
    attributes = element.attributes
    path, page, is_moved = find_image(attributes.get("file_path", ""), roots)
    width, height = (
        read_side(attributes.get(f"o_{name}", attributes.get(name, "")))
        for name in ("width", "height")
    )
    title = read_text(attributes, "title")
    return ImagePatch(path, page, element.matrix, width, height, title, element.bent), is_moved


def read_side(text: str) -> int:
    """A side of an image in px; 0 where the project does not say it."""
    try:
        return max(round(parse_number(text)), 0)
    except ValueError:
        return 0
