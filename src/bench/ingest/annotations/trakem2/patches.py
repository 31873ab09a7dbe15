"""The image files of a project: where they are now, and whether they may be opened."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.errors import BenchError
from bench.ingest.images.limits import check_inside

LONGEST_PATH = 4096
SLICE = "-----#slice="


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


def find_image(text: str, roots: tuple[Path, ...]) -> tuple[Path, int, bool]:
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
    name, _, slice_text = " ".join(text[-LONGEST_PATH:].splitlines()).partition(SLICE)
    page = int(slice_text) - 1 if slice_text.isdecimal() and len(slice_text) < 10 else 0
    name = name.strip().replace("\\", "/")
    path = Path(os.path.normpath(roots[0] / name))
    beside = Path(os.path.normpath(roots[0] / name.rpartition("/")[2]))
    if not is_file_inside(path, roots) and is_file_inside(beside, roots):
        return beside, max(page, 0), beside != path
    return path, max(page, 0), False


def is_file_inside(path: Path, roots: tuple[Path, ...]) -> bool:
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
