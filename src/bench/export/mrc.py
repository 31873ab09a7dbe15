"""MRC volumes with the size of their voxels and where they lie."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np

from bench.core.files import write_whole
from bench.export.stack import LabelStack
from bench.words import UNKNOWN_DISTANCE

_ANGSTROM_PER_NM = 10
_TYPES = {
    **{name: name for name in ("int8", "int16", "uint16")},
    **{"bool": "int8", "uint8": "uint16"},
}


def write_mrc(stack: LabelStack, pixels: np.ndarray, path: Path, *labels: str) -> None:
    """Writes an image (z, y, x) of a stack's sections.

    Args:
        stack: The stack, whose sizes and origin go into the header.
        pixels: The image, in a type that MRC has.
        path: The file.
        labels: What the header is to say.
    """
    side = stack.pixel_size_nm
    # A label by which the made-up distance is known again.
    notes = [*labels, *([UNKNOWN_DISTANCE] if not stack.knows_distance else [])]
    write_mrc_planes(
        *(path, pixels, pixels.shape, mrc_type(pixels.dtype)),
        voxel_nm=None if side is None else (side * stack.section_px, side, side),
        origin_nm=stack.origin_nm,
        labels=notes,
    )


def mrc_type(dtype: np.dtype) -> np.dtype:
    """The type in which MRC has the numbers of another; real ones of what it has no type for."""
    return np.dtype(_TYPES.get(dtype.name, "float32"))


def write_mrc_planes(
    path: Path,
    planes: Iterable[np.ndarray],
    shape: tuple[int, ...],
    dtype: np.dtype,
    *,
    voxel_nm: tuple[float, float, float] | None,
    origin_nm: tuple[float, float, float] | None = None,
    labels: Iterable[str] = (),
) -> None:
    """Writes planes (y, x), of which one is held at a time.

    Args:
        path: The file; there is the old one or the whole new one.
        planes: The planes in order of z; one of a section.
        shape: (y, x) of a section, (z, y, x) of a volume.
        dtype: A type that MRC has.
        voxel_nm: Edges of a voxel as z, y, x; None where they are not known.
        origin_nm: Where the first voxel lies, as z, y, x.
        labels: What the header is to say.
    """

    def write(temporary: Path) -> None:
        mode = mrcfile.utils.mode_from_dtype(dtype)
        with mrcfile.new_mmap(temporary, shape=shape, mrc_mode=mode) as file:
            sums = _Statistics()
            for number, plane in enumerate(planes):
                file.data[number if len(shape) == 3 else ...] = plane
                sums.add(plane)
            if len(shape) == 3:
                file.set_volume()
            if voxel_nm is not None:
                file.voxel_size = tuple(side * _ANGSTROM_PER_NM for side in voxel_nm[::-1])
            if origin_nm is not None:
                z, y, x = (value * _ANGSTROM_PER_NM for value in origin_nm)
                file.header.origin.x, file.header.origin.y, file.header.origin.z = x, y, z
            for note in labels:
                file.add_label(note)
            sums.write(file.header)

    write_whole(path, write)


class _Statistics:
    """Range, mean and deviation of planes, of which programs make the contrast."""

    def __init__(self) -> None:
        self._least, self._largest = np.inf, -np.inf
        self._count, self._sum, self._squares = 0, 0.0, 0.0

    def add(self, plane: np.ndarray) -> None:
        values = plane.astype(np.float64)
        self._least = min(self._least, float(values.min()))
        self._largest = max(self._largest, float(values.max()))
        self._count += values.size
        self._sum += float(values.sum())
        self._squares += float(np.square(values).sum())

    def write(self, header: Any) -> None:
        mean = self._sum / self._count
        header.dmin, header.dmax, header.dmean = self._least, self._largest, mean
        header.rms = np.sqrt(max(0.0, self._squares / self._count - mean**2))


def voxel_angstrom(stack: LabelStack) -> tuple[float, float, float]:
    """Width, height and depth of a voxel in Angstrom; as deep as wide if the depth is unknown."""
    pixel = (stack.pixel_size_nm or 0.0) * _ANGSTROM_PER_NM
    return pixel, pixel, pixel * stack.section_px


def origin_angstrom(stack: LabelStack) -> tuple[float, float, float]:
    """The origin as x, y, z in Angstrom with IMOD's sign, which is not that of the standard."""
    z, y, x = (0.0 - value * _ANGSTROM_PER_NM for value in stack.origin_nm or (0.0, 0.0, 0.0))
    return x, y, z
