"""What is exported: instance labels of sections, with their image where there is one."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.errors import BenchError
from bench.export.sphere_table import SphereRow

_LARGEST_ID = np.iinfo(np.uint32).max
_logger = logging.getLogger(__name__)

# The structure whose instances are balls.
VESICLES = "vesicles"
# Singular names, as people title single objects; other structures go by their own name.
_OBJECT_NAMES = {VESICLES: "vesicle"}
# Red, green, blue.
_COLOURS = {"vesicles": (0, 255, 0), "mitochondria": (255, 0, 0), "membrane": (0, 0, 255)}
_OTHER_COLOURS = (
    *((255, 255, 0), (0, 255, 255), (255, 0, 255)),
    *((255, 128, 0), (128, 0, 255), (0, 255, 128)),
)


@dataclass(frozen=True, eq=False)
class LabelStack:
    """Sections of one size; made by `make_stack`, which checks them.

    Attributes:
        labels: Instance ids (z, y, x) by structure; 0 is background.
        raw: The image (z, y, x); None if there is none.
        names: Names of the sections.
        pixel_size_nm: Edge of a pixel in nm; None where it is not known.
        section_nm: Distance of two sections in nm; None where it is not known.
        volume: Name of the volume that the sections are; empty where they are single images.
        spheres: The spheres that are known of a volume, by structure, in voxels of the stack.
        origin_nm: Where the first voxel lies, as `ImageHeader` has it; None where it is 0 or not
            known.
        split: The split that the sections are of; empty where that is not said.
    """

    labels: Mapping[str, np.ndarray]
    raw: np.ndarray | None
    names: tuple[str, ...]
    pixel_size_nm: float | None
    section_nm: float | None
    volume: str = ""
    spheres: Mapping[str, Sequence[SphereRow]] = field(default_factory=dict)
    origin_nm: tuple[float, float, float] | None = None
    split: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Sections, height and width."""
        sections, height, width = next(iter(self.labels.values())).shape
        return sections, height, width

    @property
    def section_px(self) -> float:
        """Distance of two sections in px; 1 where it is not known, for formats that need one."""
        if self.section_nm is None or self.pixel_size_nm is None:
            return 1.0
        return self.section_nm / self.pixel_size_nm

    @property
    def knows_distance(self) -> bool:
        """Whether it has no distance of sections that nobody knows."""
        return self.section_nm is not None or self.shape[0] == 1

    def warn_of_distance(self, program: str) -> bool:
        """Says that a program will show sections 1 px apart whose distance is not known."""
        if self.knows_distance:
            return False
        _logger.warning(
            "the distance of sections is not known: it is written as 1 px, which %s shows as if "
            "it were measured; state it there, or with -P section_nm=... of prepare",
            program,
        )
        return True


def make_stack(
    labels: Mapping[str, np.ndarray],
    *,
    raw: np.ndarray | None = None,
    names: tuple[str, ...] = (),
    pixel_size_nm: float | None = None,
    section_nm: float | None = None,
    volume: str = "",
    spheres: Mapping[str, Sequence[SphereRow]] | None = None,
    origin_nm: tuple[float, float, float] | None = None,
    split: str = "",
) -> LabelStack:
    """Checks what is to be exported.

    Args:
        labels: Instance ids (z, y, x) or (y, x) by structure, of one shape; whole numbers from 0
            to 2**32 - 1.
        raw: The image, of the same shape.
        names: Names of the sections; numbered if not given.
        pixel_size_nm: Edge of a pixel in nm.
        section_nm: Distance of two sections in nm.
        volume: Name of the volume that the sections are.
        spheres: The spheres that are known of it, by structure.
        origin_nm: Where its first voxel lies, as z, y, x.
        split: The split that the sections are of.

    Raises:
        BenchError: If there are no labels, they are no ids, or the shapes differ.
    """
    if not labels:
        raise BenchError("an export needs labels of a structure, received none: choose one")
    arrays = {name: _as_sections(ids, name) for name, ids in labels.items()}
    for name, ids in arrays.items():
        _check_file_name(name, "structure")
        _check_ids(ids, name)
    if raw is not None:
        raw = _as_sections(raw, "raw")
    shapes = {name: array.shape for name, array in [*arrays.items(), ("raw", raw)]
              if array is not None}  # fmt: skip
    if len(set(shapes.values())) > 1:
        raise BenchError(
            f"labels and image must have one shape, received {shapes}: export them separately"
        )
    sections = next(iter(shapes.values()))[0]
    names = names or tuple(f"section{number:04d}" for number in range(sections))
    _check_names(names, sections)
    return LabelStack(
        arrays, raw, names, pixel_size_nm, section_nm, volume, spheres or {}, origin_nm, split
    )


def _as_sections(pixels: np.ndarray, name: str) -> np.ndarray:
    """Returns (y, x) as a stack of one section, and (z, y, x) as it is."""
    if pixels.ndim == 2:
        pixels = pixels[None]
    if pixels.ndim != 3 or pixels.size == 0:
        raise BenchError(
            f"{name} must be a section (y, x) or a stack (z, y, x) with pixels, received shape "
            f"{pixels.shape}: reshape it"
        )
    return pixels


def _check_names(names: tuple[str, ...], sections: int) -> None:
    if len(names) != sections or len(set(names)) != sections:
        raise BenchError(
            f"each of {sections} sections must have a name of its own, received "
            f"{len(set(names))} different ones: name them, or leave names out"
        )
    for name in names:
        _check_file_name(name, "section")


def _check_file_name(name: str, what: str) -> None:
    if Path(name).name != name or not name.strip(".") or not name.isprintable():
        raise BenchError(
            f"the name of a {what} must be fit for a file, received {name!r}: rename the {what}"
        )


def _check_ids(ids: np.ndarray, name: str) -> None:
    if ids.dtype.kind not in "ui":
        raise BenchError(
            f"labels of {name} must be whole numbers, received {ids.dtype}: convert them"
        )
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high > _LARGEST_ID:
        raise BenchError(
            f"labels of {name} must lie in 0 to {_LARGEST_ID}, received {low} to {high}: number "
            "the instances from 1"
        )


def object_name(structure: str) -> str:
    """The name of one object of a structure."""
    return _OBJECT_NAMES.get(structure, structure)


def colour_of(structure: str, among: Iterable[str]) -> tuple[int, int, int]:
    """The colour of a structure: red, green, blue.

    Args:
        structure: Its name.
        among: All structures that are written, of which others than it have other colours.
    """
    if structure in _COLOURS:
        return _COLOURS[structure]
    place = sorted(set(among) - _COLOURS.keys()).index(structure)
    return _OTHER_COLOURS[place % len(_OTHER_COLOURS)]
