"""Label images: TIFF with a scale."""

from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from bench.core.files import write_whole
from bench.export.stack import LabelStack

# What ImageJ's own TIFF can hold; the rest goes into a plain TIFF, where ids open as 32 bit.
_IMAGEJ_TYPES = ("uint8", "uint16", "float32")
_LARGEST_IMAGEJ_BYTES = 2**32 - 2**25
_NM_PER_CM = 1e7


def write_label_tiff(stack: LabelStack, folder: Path) -> None:
    """Writes ``<structure>/<name>.tif`` per section, and ``raw/<name>.tif`` of the image.

    That is the layout that prepare reads, so a corrected folder goes back as it is.
    """
    for structure, labels in stack.labels.items():
        write_sections(stack, as_label_type(labels), folder / structure)
    if stack.raw is not None:
        write_sections(stack, viewable(stack.raw), folder / "raw")


def write_sections(stack: LabelStack, pixels: np.ndarray, folder: Path) -> None:
    """Writes each section (y, x) of an array as a file named as the section."""
    for name, section in zip(stack.names, pixels, strict=True):
        write_tiff(folder / f"{name}.tif", section, pixel_size_nm=stack.pixel_size_nm)


def write_tiff(
    path: Path,
    pixels: np.ndarray,
    *,
    pixel_size_nm: float | None = None,
    section_nm: float | None = None,
) -> None:
    """Writes a section (y, x) or a stack (z, y, x), with its scale in nm where it is known.

    Args:
        path: The file; there is the old one or the whole new one.
        pixels: Grey values or ids; uint8, uint16 and float32 become an ImageJ TIFF, of up to 4 GB.
        pixel_size_nm: Edge of a pixel in nm.
        section_nm: Distance of two sections in nm.
    """
    imagej = str(pixels.dtype) in _IMAGEJ_TYPES and pixels.nbytes <= _LARGEST_IMAGEJ_BYTES
    metadata: dict[str, Any] = {"axes": "ZYX"[-pixels.ndim :]}
    scale: dict[str, Any] = {}
    if pixel_size_nm is not None:
        # ImageJ counts pixels per unit of its own, others per centimetre.
        per_unit = (1 if imagej else _NM_PER_CM) / pixel_size_nm
        scale["resolution"] = (per_unit, per_unit)
        if imagej:
            metadata["unit"] = "nm"
            metadata |= {} if section_nm is None else {"spacing": section_nm}
        else:
            scale["resolutionunit"] = "CENTIMETER"

    def write(temporary: Path) -> None:
        tifffile.imwrite(
            temporary, pixels, imagej=imagej, photometric="minisblack", metadata=metadata, **scale
        )

    write_whole(path, write)


def write_tiff_planes(
    path: Path,
    planes: Iterable[np.ndarray],
    shape: tuple[int, ...],
    dtype: np.dtype,
    *,
    pixel_size_nm: float | None = None,
    section_nm: float | None = None,
) -> None:
    """Writes planes (y, x), of which one is held at a time, with their scale where it is known.

    Args:
        path: The file; there is the old one or the whole new one.
        planes: The planes in order of z; one of a section.
        shape: (y, x) of a section, (z, y, x) of a volume.
        dtype: Their type; uint8, uint16 and float32 become an ImageJ TIFF of up to 4 GB, others
            an OME-TIFF.
        pixel_size_nm: Edge of a pixel in nm.
        section_nm: Distance of two planes in nm.
    """
    imagej = dtype.name in _IMAGEJ_TYPES and prod(shape) * dtype.itemsize <= _LARGEST_IMAGEJ_BYTES
    metadata: dict[str, Any] = {"axes": "ZYX"[-len(shape) :]}
    scale: dict[str, Any] = {}
    if imagej and pixel_size_nm is not None:
        scale["resolution"] = (1 / pixel_size_nm, 1 / pixel_size_nm)
        metadata |= {"unit": "nm"} | ({} if section_nm is None else {"spacing": section_nm})
    elif pixel_size_nm is not None:
        sides = {"X": pixel_size_nm, "Y": pixel_size_nm, "Z": section_nm}
        for axis, side in sides.items():
            if side is not None:
                metadata |= {f"PhysicalSize{axis}": side, f"PhysicalSize{axis}Unit": "nm"}

    def write(temporary: Path) -> None:
        tifffile.imwrite(
            temporary,
            (np.ascontiguousarray(plane, dtype) for plane in planes),
            shape=shape,
            dtype=dtype,
            imagej=imagej,
            ome=not imagej,
            photometric="minisblack",
            metadata=metadata,
            **scale,
        )

    write_whole(path, write)


def as_label_type(labels: np.ndarray) -> np.ndarray:
    """Returns ids as uint16, or as uint32 where one is larger than that."""
    wide = labels.max(initial=0) > np.iinfo(np.uint16).max
    return labels.astype(np.uint32 if wide else np.uint16, copy=False)


def viewable(raw: np.ndarray) -> np.ndarray:
    """Returns an image in a type that the programs open: uint8, uint16, or float32 of others."""
    return raw.astype(viewable_type(raw.dtype), copy=False)


def viewable_type(dtype: np.dtype) -> np.dtype:
    """The type that `viewable` makes of another."""
    return dtype if dtype.name in _IMAGEJ_TYPES else np.dtype(np.float32)
