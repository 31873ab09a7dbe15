"""OME-Zarr 0.4 of an image and its instance labels, with a pyramid of two-fold levels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from bench.export.label_tiff import as_label_type
from bench.export.stack import LabelStack

VERSION = "0.4"
AXES = ("z", "y", "x")
CHUNK_PX = 512
# No level is made below this.
SMALLEST_SIDE_PX = 256


def write_ome_zarr(stack: LabelStack, folder: Path) -> None:
    """Writes ``image.ome.zarr``: the image, if there is one, and ``labels/<structure>``.

    Levels halve height and width, as sections are thicker than pixels: of the image by the mean
    of four pixels, of labels by one of them.
    """
    root = zarr.open_group(folder / "image.ome.zarr", mode="w-", zarr_format=2)
    if stack.raw is not None:
        write_levels(root, stack.raw, stack, "image", average_fours)
    labels = root.create_group("labels")
    labels.attrs["labels"] = list(stack.labels)
    for structure, ids in stack.labels.items():
        group = labels.create_group(structure)
        write_levels(group, as_label_type(ids), stack, structure, take_first)
        group.attrs["image-label"] = {"version": VERSION, "source": {"image": "../../"}}


def write_image(pixels: np.ndarray, stack: LabelStack, path: Path) -> None:
    """Writes another image (z, y, x) of a stack's sections, named as its file."""
    group = zarr.open_group(path, mode="w-", zarr_format=2)
    write_levels(group, pixels, stack, path.name.partition(".")[0], average_fours)


def write_levels(
    group: zarr.Group,
    pixels: np.ndarray,
    stack: LabelStack,
    name: str,
    halve: Callable[[np.ndarray], np.ndarray],
) -> None:
    """Writes the levels of an array (z, y, x) and describes them."""
    datasets: list[Any] = []
    while True:
        level = len(datasets)
        chunks = (1, *(min(CHUNK_PX, side) for side in pixels.shape[1:]))
        array = group.create_array(
            str(level),
            shape=pixels.shape,
            dtype=pixels.dtype,
            chunks=chunks,
            chunk_key_encoding={"name": "v2", "separator": "/"},
        )
        array[:] = pixels
        datasets.append({"path": str(level), "coordinateTransformations": place(stack, level)})
        if max(pixels.shape[1:]) < 2 * SMALLEST_SIDE_PX:
            break
        pixels = halve(pixels)
    axes: list[Any] = describe_axes(stack)
    group.attrs["multiscales"] = [
        {"version": VERSION, "name": name, "axes": axes, "datasets": datasets}
    ]


def describe_axes(stack: LabelStack) -> list[dict[str, str]]:
    """The axes, in nm where the size is known."""
    known = {"z": stack.section_nm is not None, "y": stack.pixel_size_nm is not None}
    known["x"] = known["y"]
    return [
        {"name": axis, "type": "space"} | ({"unit": "nanometer"} if known[axis] else {})
        for axis in AXES
    ]


def place(stack: LabelStack, level: int) -> list[dict[str, Any]]:
    """The size of a level's pixels: in nm where it is known, else in those of the first level."""
    side = (stack.pixel_size_nm or 1.0) * 2**level
    return [{"type": "scale", "scale": [stack.section_nm or 1.0, side, side]}]


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
