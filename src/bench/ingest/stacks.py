"""Stacks whose planes are volumes: what a model of volumes is applied to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.core.names import first_names
from bench.errors import BenchError
from bench.ingest.images.formats import stem_of
from bench.ingest.images.planes import Plane


@dataclass(frozen=True, eq=False)
class ImageVolume:
    """A stack whose planes are a volume.

    Attributes:
        name: The file's name without its ending.
        planes: Its planes, in order of z.
        voxel_size_nm: Edges of a voxel along z, y, x.
    """

    name: str
    planes: tuple[Plane, ...]
    voxel_size_nm: tuple[float, float, float]

    @property
    def path(self) -> Path:
        """Its file."""
        return self.planes[0].path

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along z, y, x."""
        return len(self.planes), *self.planes[0].shape

    @property
    def origin_nm(self) -> tuple[float, float, float] | None:
        """Where its first voxel lies, as z, y, x; None where it is 0 or not known."""
        return self.planes[0].image.header.origin_nm

    def read_planes(self, start: int, stop: int) -> np.ndarray:
        """Reads planes (z, y, x) at their depth, rows in the order stored.

        Raises:
            BenchError: If they cannot be read, are in colour, or not finite.
        """
        first = self.planes[start].read()
        found = np.empty((stop - start, *first.shape), first.dtype)
        found[0] = first
        for number, plane in enumerate(self.planes[start + 1 : stop], start=1):
            found[number] = plane.read()
        return found


def join_planes(planes: Sequence[Plane], section_nm: float | None) -> list[ImageVolume]:
    """Joins the planes of each file to a volume.

    Args:
        planes: Planes of stacks, file by file.
        section_nm: Distance of planes that the user gave; it goes before what files state.

    Raises:
        BenchError: If an image is no stack, or the size of a voxel is not known.
    """
    stacks: dict[Path, list[Plane]] = {}
    for plane in planes:
        stacks.setdefault(plane.path, []).append(plane)
    single = [path.name for path, found in stacks.items() if len(found) == 1]
    if single:
        raise BenchError(
            f"the model was evaluated on volumes, received single images ({first_names(single)}): "
            "save the planes of each volume as one stack (TIFF, MRC, HDF5 or Zarr)"
        )
    return [_join(path, found, section_nm) for path, found in stacks.items()]


def _join(path: Path, planes: list[Plane], section_nm: float | None) -> ImageVolume:
    header = planes[0].image.header
    sizes = {
        "section_nm": section_nm or header.section_nm,
        "pixel_size_nm": planes[0].pixel_size_nm,
    }
    unknown = [name for name, size in sizes.items() if size is None]
    if unknown:
        raise BenchError(
            f"a volume needs the size of a voxel, received no {' and '.join(unknown)} for "
            f"{path.name}, which does not state it: give "
            + " ".join(f"-P {name}=..." for name in unknown)
        )
    step, side = (float(size or 0) for size in sizes.values())
    return ImageVolume(stem_of(path), tuple(planes), (step, side, side))
