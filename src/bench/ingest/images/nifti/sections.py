"""Reads sections of a NIfTI volume: .nii, .nii.gz.

NIfTI stores x fastest and z slowest, so that its bytes are the array (z, y, x) as it is read here;
nibabel hands out the same voxels as (x, y, z). The affine says in which direction of a body each
axis runs. Files that lie voxel on voxel may state different ones (UroCell's labels do), so voxels
are taken in the order stored, and the axes are said.
"""

import gzip
import math
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeVar

import numpy as np

from bench.errors import BenchError
from bench.ingest.images.chunks import find_slab, read_through, stamp_of
from bench.ingest.images.headers import ImageHeader, decode, may_be_pixel
from bench.ingest.images.nifti.layout import NiftiLayout, read_layout

NIFTI_SUFFIXES = (".nii", ".nii.gz")
_USUAL_AXES = "RAS"

_T = TypeVar("_T")


def read_nifti_header(path: Path, key: str = "") -> ImageHeader:
    """Reads size, number of sections and voxel size of a NIfTI file.

    The voxel size is that of the affine, in the unit that the file states. Sizes that no micrograph
    has (1 mm is what programs write that know none) are taken as unknown.

    Args:
        path: The file.
        key: Must be empty, as the file holds a single array.

    Raises:
        BenchError: If the file is damaged, its voxels are missing, in colour or complex, or of
            several times or channels, or far larger than the file.
    """
    _check_key(path, key)
    layout = _read(path, lambda file: read_layout(path, file, packed=_is_packed(path)))
    pages, height, width = layout.shape
    sides_nm = [side * (layout.unit_nm or math.nan) for side in layout.sides]
    known = may_be_pixel(tuple(sides_nm[1:]))
    return ImageHeader(
        shape=(height, width),
        pages=pages,
        pixel_sides_nm=(_round_nm(sides_nm[1]), _round_nm(sides_nm[2])) if known else None,
        section_nm=_round_nm(sides_nm[0]) if known and pages > 1 and sides_nm[0] > 0 else None,
        notes=_note_axes(layout),
        size_note="" if known else _note_size(layout),
    )


def read_nifti_plane(path: Path, page: int, key: str = "") -> np.ndarray:
    """Reads a section (y, x) of a NIfTI file, rows in the order stored.

    Values are those stored, at their depth; in a file that states a slope and an intercept they are
    those that it means, as real numbers.

    Args:
        path: The file.
        page: Which section along z, from 0.
        key: Must be empty.

    Raises:
        BenchError: As for `read_nifti_header`, or if there is no such section.
    """
    _check_key(path, key)

    def read(file: IO[bytes]) -> np.ndarray:
        layout = read_layout(path, file, packed=_is_packed(path))
        if not 0 <= page < layout.shape[0]:
            raise BenchError(
                f"section must be 0 to {layout.shape[0] - 1} in {path}, received {page}: correct "
                "the section"
            )
        # What is packed is unpacked from the beginning, so that sections are kept for later.
        together = layout.shape[0] if _is_packed(path) else 1
        sections = find_slab(page, layout.shape[0], together, layout.plane_bytes)
        slab = (path, "")
        return read_through(
            slab, stamp_of(path), page, sections, lambda wanted: _read_planes(file, layout, wanted)
        )

    return _read(path, read)


def _check_key(path: Path, key: str) -> None:
    if key:
        raise BenchError(f"{path} holds a single array, received key {key!r}: leave the key out")


def _is_packed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _read(path: Path, read: Callable[[IO[bytes]], _T]) -> _T:
    """Calls a reader on the bytes of a file, unpacked."""

    def open_and_read(path: Path) -> _T:
        with path.open("rb") as stored:
            if not _is_packed(path):
                return read(stored)
            with gzip.GzipFile(fileobj=stored) as unpacked:
                return read(unpacked)  # type: ignore[arg-type]

    return decode(path, open_and_read, "NIfTI file")


def _note_axes(layout: NiftiLayout) -> tuple[str, ...]:
    if layout.axes in ("", _USUAL_AXES):
        return ()
    return (
        f"its x, y, z run to {', '.join(layout.axes)} of a body by its affine: voxels are taken in "
        "the order stored, the same for image and labels",
    )


def _note_size(layout: NiftiLayout) -> str:
    sides = " x ".join(f"{side:g}" for side in reversed(layout.sides))
    if layout.unit_nm is None:
        return f"states voxels of {sides} without a unit: their size is taken as unknown"
    return (
        f"states voxels of {sides} in units of {layout.unit_nm:g} nm, which no micrograph has: "
        "their size is taken as unknown"
    )


def _round_nm(side_nm: float) -> float:
    """Rounds a length in nm, which is in single precision in mm."""
    return float(f"{side_nm:.6g}")


def _read_planes(file: IO[bytes], layout: NiftiLayout, sections: range) -> np.ndarray:
    """Reads sections (z, y, x) and makes them what they mean."""
    _, height, width = layout.shape
    file.seek(layout.start + sections.start * layout.plane_bytes)
    wanted = len(sections) * layout.plane_bytes
    content = file.read(wanted)
    if len(content) < wanted:
        raise ValueError(f"{len(content)} bytes of {wanted} in sections from {sections.start} on")
    planes = np.frombuffer(content, layout.dtype).reshape(len(sections), height, width)
    planes = planes.astype(layout.dtype.newbyteorder("="))
    if (layout.slope, layout.intercept) == (1.0, 0.0):
        return planes
    meant: np.ndarray = planes * layout.slope + layout.intercept
    return meant.astype(np.float32) if planes.dtype.itemsize < 4 else meant
