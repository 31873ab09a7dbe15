"""Label images as OME-Zarr, with a pyramid; what the format says of them is written by ome-zarr."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from ome_zarr.format import Format, FormatV04, FormatV05
from ome_zarr.writer import add_metadata, write_label_metadata, write_multiscales_metadata

from bench.export.label_images import as_label_type
from bench.export.stack import LabelStack

_CHUNK_PX = 512
# No level is made below this.
_SMALLEST_SIDE_PX = 256


def write_ome_zarr(stack: LabelStack, folder: Path) -> None:
    """Writes ``image.ome.zarr`` of version 0.4: the image, if any, and ``labels/<structure>``.

    Levels halve height and width, as sections are thicker than pixels: of the image by the mean
    of four pixels, of labels by one of them.
    """
    _write_image_with_labels(stack, folder, FormatV04())


def write_ome_zarr_05(stack: LabelStack, folder: Path) -> None:
    """Writes the same of version 0.5, which is stored as Zarr version 3."""
    _write_image_with_labels(stack, folder, FormatV05())


def write_image(pixels: np.ndarray, stack: LabelStack, path: Path) -> None:
    """Writes another image (z, y, x) of a stack's sections, named as its file."""
    group = zarr.open_group(path, mode="w-", zarr_format=2)
    _write_levels(group, pixels, stack, path.name.partition(".")[0], average_fours, FormatV04())


def _write_image_with_labels(stack: LabelStack, folder: Path, fmt: Format) -> None:
    path = folder / "image.ome.zarr"
    root = zarr.open_group(path, mode="w-", zarr_format=fmt.zarr_format)
    if stack.raw is not None:
        _write_levels(root, stack.raw, stack, "image", average_fours, fmt)
    labels = root.create_group("labels")
    if isinstance(fmt, FormatV05):
        # The specification asks for it in every group; ome-zarr leaves it out of this one.
        add_metadata(labels, {"version": fmt.version}, fmt=fmt)
    for structure, ids in stack.labels.items():
        group = labels.create_group(structure)
        _write_levels(group, as_label_type(ids), stack, structure, take_first, fmt)
        write_label_metadata(labels, structure, fmt=fmt, source={"image": "../../"})


def _write_levels(
    group: zarr.Group,
    pixels: np.ndarray,
    stack: LabelStack,
    name: str,
    halve: Callable[[np.ndarray], np.ndarray],
    fmt: Format,
) -> None:
    datasets: list[dict[str, Any]] = []
    for level, image in enumerate(halve_while_large(pixels, halve)):
        chunks = (1, *(min(_CHUNK_PX, side) for side in image.shape[1:]))
        storage: dict[str, Any] = (
            {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
            if fmt.zarr_format == 2
            else {"dimension_names": ["z", "y", "x"]}
        )
        array = group.create_array(
            str(level), shape=image.shape, dtype=image.dtype, chunks=chunks, **storage
        )
        for z, plane in enumerate(image):
            array[z] = plane
        # In nm where it is known, else in pixels of the first level.
        side = (stack.pixel_size_nm or 1.0) * 2**level
        scale = {"type": "scale", "scale": [stack.section_nm or 1.0, side, side]}
        datasets.append({"path": str(level), "coordinateTransformations": [scale]})
    sizes_nm = {"z": stack.section_nm, "y": stack.pixel_size_nm, "x": stack.pixel_size_nm}
    axes = [
        {"name": axis, "type": "space"} | ({"unit": "nanometer"} if size_nm is not None else {})
        for axis, size_nm in sizes_nm.items()
    ]
    write_multiscales_metadata(group, datasets, fmt=fmt, axes=axes, name=name)


def halve_while_large(
    pixels: np.ndarray, halve: Callable[[np.ndarray], np.ndarray]
) -> Iterator[np.ndarray]:
    """Yields an image (z, y, x), and levels of half the height and width each.

    Args:
        pixels: The image.
        halve: Halves height and width of planes (z, y, x).
    """
    yield pixels
    while max(pixels.shape[1:]) >= 2 * _SMALLEST_SIDE_PX:
        pixels = np.concatenate([halve(plane[None]) for plane in pixels])
        yield pixels


def average_fours(pixels: np.ndarray) -> np.ndarray:
    """Halves height and width (z, y, x) by means; an odd last row or column counts twice."""
    odd = [(0, side % 2 if axis else 0) for axis, side in enumerate(pixels.shape)]
    padded = np.pad(pixels, odd, mode="edge")
    sections, height, width = padded.shape
    fours = padded.reshape(sections, height // 2, 2, width // 2, 2)
    means: np.ndarray = fours.mean(axis=(2, 4), dtype=np.float64)
    return (means if pixels.dtype.kind == "f" else np.rint(means)).astype(pixels.dtype)


def take_first(labels: np.ndarray) -> np.ndarray:
    """Halves height and width of ids (z, y, x): each id is one that was there."""
    return labels[:, ::2, ::2]
