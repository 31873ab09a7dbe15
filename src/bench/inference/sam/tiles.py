"""Embeddings of a section in the form that micro_sam's own tools take, by tile."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from bench.inference.sam.embeddings import KeptEncoder


@dataclass(frozen=True, eq=False)
class ClickableSection:
    """A section to annotate.

    Attributes:
        name: Its name.
        image: As the network sees it (y, x) uint8.
        labels: What is annotated of it already (y, x); None for nothing.
        embeddings: In the form that micro_sam takes.
    """

    name: str
    image: np.ndarray
    labels: np.ndarray | None
    embeddings: dict[str, Any]


def embed_for_micro_sam(
    encoder: KeptEncoder, image: np.ndarray, folder: Path, *, tile_px: int, halo_px: int
) -> dict[str, Any]:
    """Embeds a section of any size as micro_sam does with ``tile_shape`` and ``halo``.

    Args:
        encoder: The network, and what is kept of it.
        image: Section (y, x) uint8.
        folder: A new one for the tiles' embeddings, which are not held in memory.
        tile_px: Edge of a tile without halo.
        halo_px: Halo around a tile, cut at the section's border.

    Returns:
        What micro_sam calls image embeddings; those of one image where one tile holds it.
    """
    if max(image.shape) <= tile_px + 2 * halo_px:
        return encoder.embed(image)
    features = zarr.open_group(folder, mode="w").require_group("features")
    features.attrs["shape"] = list(image.shape)
    features.attrs["tile_shape"], features.attrs["halo"] = [tile_px] * 2, [halo_px] * 2
    starts = [(y, x) for y in range(0, image.shape[0], tile_px)
              for x in range(0, image.shape[1], tile_px)]  # fmt: skip
    for number, start in enumerate(starts):
        outer = tuple(
            slice(max(at - halo_px, 0), min(at + tile_px + halo_px, side))
            for at, side in zip(start, image.shape, strict=True)
        )
        found = encoder.embed(image[outer])
        pixels = found["features"].cpu().numpy()
        array = features.create_array(
            str(number), shape=pixels.shape, chunks=pixels.shape, dtype=pixels.dtype
        )
        array[:] = pixels
        array.attrs["original_size"] = list(found["original_size"])
        array.attrs["input_size"] = list(found["input_size"])
    return {"features": features, "input_size": None, "original_size": None}
