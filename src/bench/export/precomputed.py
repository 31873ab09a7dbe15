"""Neuroglancer's precomputed volumes, unsharded and raw: any browser shows them from a web server.

Chunks are named by where they lie, x first, and hold x as the fastest axis (Google's description
of the format, ``src/datasource/precomputed/volume.md``).
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.files import write_json
from bench.export.ome_zarr import average_fours, halve_while_large, take_first
from bench.export.stack import LabelStack

_INFO = "info"
# x, y, z.
_CHUNK = (256, 256, 16)
_IMAGE_TYPES = ("uint8", "uint16", "uint32", "float32")


def write_precomputed(stack: LabelStack, folder: Path) -> None:
    """Writes ``raw``, if there is an image, and a segmentation of each structure, with levels.

    Levels halve height and width, as those of OME-Zarr.
    """
    stack.warn_of_distance("Neuroglancer")
    if stack.raw is not None:
        raw = stack.raw
        known = raw.dtype.name in _IMAGE_TYPES
        image = raw if known else raw.astype(np.float32)
        _write_volume(folder / "raw", "image", image, stack, average_fours)
    for structure, ids in stack.labels.items():
        labels = ids.astype(np.uint32, copy=False)
        _write_volume(folder / structure, "segmentation", labels, stack, take_first)


def _write_volume(
    folder: Path,
    kind: str,
    pixels: np.ndarray,
    stack: LabelStack,
    halve: Callable[[np.ndarray], np.ndarray],
) -> None:
    """Writes a volume (z, y, x) with its levels."""
    side = stack.pixel_size_nm or 1.0
    scales: list[dict[str, Any]] = []
    for number, level in enumerate(halve_while_large(pixels, halve)):
        depth, height, width = level.shape
        resolution = [side * 2**number, side * 2**number, stack.section_nm or side]
        key = "_".join(f"{edge:g}" for edge in resolution)
        _write_chunks(folder / key, level)
        scales.append(
            {
                "key": key,
                "size": [width, height, depth],
                "resolution": resolution,
                "voxel_offset": [0, 0, 0],
                "chunk_sizes": [list(_CHUNK)],
                "encoding": "raw",
            }
        )
    write_json(
        folder / _INFO,
        {
            "@type": "neuroglancer_multiscale_volume",
            "type": kind,
            "data_type": pixels.dtype.name,
            "num_channels": 1,
            "scales": scales,
        },
    )


def _write_chunks(folder: Path, pixels: np.ndarray) -> None:
    """Writes the chunks of a level (z, y, x); those at the border are smaller."""
    folder.mkdir(parents=True)
    little = pixels.dtype.newbyteorder("<")
    starts = (range(0, side, edge) for side, edge in zip(pixels.shape[::-1], _CHUNK, strict=True))
    for corner in itertools.product(*starts):
        spans = [
            slice(start, min(start + edge, side))
            for start, edge, side in zip(corner, _CHUNK, pixels.shape[::-1], strict=True)
        ]
        name = "_".join(f"{span.start}-{span.stop}" for span in spans)
        # The first axis of C order is the slowest.
        chunk = np.ascontiguousarray(pixels[tuple(spans[::-1])], dtype=little)
        (folder / name).write_bytes(chunk.tobytes())
