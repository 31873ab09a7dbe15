"""MRC volumes with the size of their voxels and where they lie."""

from pathlib import Path

import mrcfile
import numpy as np

from bench.core.files import write_whole
from bench.export.stack import LabelStack
from bench.words import UNKNOWN_DISTANCE

_ANGSTROM_PER_NM = 10


def write_mrc(stack: LabelStack, pixels: np.ndarray, path: Path, *labels: str) -> None:
    """Writes an image (z, y, x) of a stack's sections.

    Args:
        stack: The stack, whose sizes and origin go into the header.
        pixels: The image, in a type that MRC has.
        path: The file.
        labels: What the header is to say.
    """
    # A label by which the made-up distance is known again.
    notes = [*labels, *([UNKNOWN_DISTANCE] if not stack.knows_distance else [])]

    def write(temporary: Path) -> None:
        with mrcfile.new(temporary) as file:
            file.set_data(pixels)
            file.set_volume()
            if stack.pixel_size_nm is not None:
                file.voxel_size = voxel_angstrom(stack)
            if stack.origin_nm is not None:
                z, y, x = (value * _ANGSTROM_PER_NM for value in stack.origin_nm)
                file.header.origin.x, file.header.origin.y, file.header.origin.z = x, y, z
            for note in notes:
                file.add_label(note)

    write_whole(path, write)


def voxel_angstrom(stack: LabelStack) -> tuple[float, float, float]:
    """Width, height and depth of a voxel in Angstrom; as deep as wide if the depth is unknown."""
    pixel = (stack.pixel_size_nm or 0.0) * _ANGSTROM_PER_NM
    return pixel, pixel, pixel * stack.section_px


def origin_angstrom(stack: LabelStack) -> tuple[float, float, float]:
    """The origin as x, y, z in Angstrom with IMOD's sign, which is not that of the standard."""
    z, y, x = (0.0 - value * _ANGSTROM_PER_NM for value in stack.origin_nm or (0.0, 0.0, 0.0))
    return x, y, z
