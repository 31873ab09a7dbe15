"""The layers of a project with the images laid into them, and where those images are now."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.core.names import first_names, same_form
from bench.errors import BenchError
from bench.ingest.annotations.trakem2.elements import LayerElement, PatchElement
from bench.ingest.annotations.trakem2.geometry import parse_number
from bench.ingest.annotations.trakem2.objects import is_visible
from bench.ingest.annotations.trakem2.parse import read_text
from bench.ingest.images.limits import check_inside

_LONGEST_PATH = 4096
_SLICE = "-----#slice="


@dataclass(frozen=True, eq=False)
class ImagePatch:
    """An image laid into a layer.

    Attributes:
        path: Its file.
        page: Which section of the file, from 0.
        matrix: From its pixels' corners to the layer set (2, 3), both x, y in px.
        width: Width of the image in px; 0 where the project does not say it.
        height: The same of its height.
        title: Its title.
        bent: Whether a non-linear transform comes before the matrix.
    """

    path: Path
    page: int
    matrix: np.ndarray
    width: int
    height: int
    title: str
    bent: bool = False


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
            patch, is_moved = _place_patch(element, roots)
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


def _place_patch(element: PatchElement, roots: tuple[Path, ...]) -> tuple[ImagePatch, bool]:
    """Finds the image of an element, and says whether it is elsewhere than the project says."""
    attributes = element.attributes
    path, page, is_moved = _find_image(attributes.get("file_path", ""), roots)
    width, height = (
        _read_side(attributes.get(f"o_{name}", attributes.get(name, "")))
        for name in ("width", "height")
    )
    title = read_text(attributes, "title")
    return ImagePatch(path, page, element.matrix, width, height, title, element.bent), is_moved


def _read_side(text: str) -> int:
    """A side of an image in px; 0 where the project does not say it."""
    try:
        return max(round(parse_number(text)), 0)
    except ValueError:
        return 0


def _find_image(text: str, roots: tuple[Path, ...]) -> tuple[Path, int, bool]:
    """Finds the image file that a project names.

    A project goes from one computer to another, so a file that is not where it says, or is not
    in a folder of roots, is looked for by its name beside the project. Nothing outside of roots
    is looked at.

    Args:
        text: What the project says: a path, for a stack with ``-----#slice=N``, N from 1.
        roots: Real paths of the folders with images, that of the project first.

    Returns:
        The path, which `check_image` has yet to check; the section in the file, from 0; and
        whether it is another path than the project says.
    """
    name, _, slice_text = " ".join(text[-_LONGEST_PATH:].splitlines()).partition(_SLICE)
    page = int(slice_text) - 1 if slice_text.isdecimal() and len(slice_text) < 10 else 0
    name = name.strip().replace("\\", "/")
    path = _spelt_on_disk(Path(os.path.normpath(roots[0] / name)), roots)
    beside = _spelt_on_disk(Path(os.path.normpath(roots[0] / name.rpartition("/")[2])), roots)
    if not _is_file_inside(path, roots) and _is_file_inside(beside, roots):
        return beside, max(page, 0), beside != path
    return path, max(page, 0), False


def _spelt_on_disk(path: Path, roots: tuple[Path, ...]) -> Path:
    """The path in the form of Unicode that the disk has, where it is in a folder of roots."""
    try:
        if path in roots or not any(path.is_relative_to(r) for r in roots) or path.exists():
            return path
        folder = _spelt_on_disk(path.parent, roots)
        beside = folder.iterdir() if folder.is_dir() else ()
        return next((p for p in beside if same_form(p.name) == same_form(path.name)), path)
    except (OSError, ValueError):  # too long a name
        return path


def _is_file_inside(path: Path, roots: tuple[Path, ...]) -> bool:
    """Whether a path without ``..`` is by its spelling that of a file in a folder of roots."""
    try:
        return any(path.is_relative_to(root) for root in roots) and path.is_file()
    except (OSError, ValueError):  # too long a name
        return False


def check_image(patch: ImagePatch, roots: tuple[Path, ...], project: Path) -> Path:
    """Returns the real path of an image that may be opened.

    Args:
        patch: The image.
        roots: Folders that the user named, that of the project first.
        project: The project, for messages.

    Raises:
        BenchError: If it lies elsewhere or is not there.
    """
    try:
        real = check_inside(patch.path, roots, str(project))
        found = real.is_file()
    except (OSError, RuntimeError, ValueError):
        found = False
    if not found:
        raise BenchError(
            f"the images of {project} must be there, received {str(patch.path)[:200]}, which is no "
            "file: copy it beside the project"
        )
    return real
