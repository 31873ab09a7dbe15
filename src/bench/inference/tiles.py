"""Probability maps of whole sections, tile by tile."""

from collections.abc import Iterator

import numpy as np
import torch

from bench.inference.device import Compute
from bench.inference.normalise import normalise_section


def predict_section(
    network: torch.nn.Module,
    raw: np.ndarray,
    *,
    tile_px: int,
    halo_px: int,
    compute: Compute,
    batch_size: int = 4,
) -> np.ndarray:
    """Applies a network to a section, tile by tile.

    Every tile is seen with a halo of its surroundings, mirrored at the section's border, so all
    tiles have the shape (tile_px + 2 * halo_px) squared: the network's InstanceNorm then depends
    on the tile's content only, not on where it lies.

    Args:
        network: From normalised (batch, 1, y, x) to logits (batch, channels, y, x).
        raw: Section (y, x) of any bit depth.
        tile_px: Edge of a tile.
        halo_px: Width of the halo; its predictions are cut off.
        compute: Device and precision; the network is on the device.
        batch_size: Tiles at a time: memory, not the result, depends on it.

    Returns:
        Probabilities (channels, y, x) as uint8: p is stored as round(255 p).
    """
    height, width = raw.shape
    padded = pad_section(normalise_section(raw), tile_px, halo_px)
    corners = [(y, x) for y in range(0, height, tile_px) for x in range(0, width, tile_px)]
    output: np.ndarray | None = None
    network.eval()
    for batch in in_batches(corners, batch_size):
        probability = predict_tiles(network, padded, batch, tile_px, halo_px, compute)
        if output is None:
            output = np.empty((probability.shape[1], height, width), dtype=np.uint8)
        for (y, x), tile in zip(batch, probability, strict=True):
            kept = output[:, y : y + tile_px, x : x + tile_px]
            kept[...] = tile[:, : kept.shape[1], : kept.shape[2]]
    assert output is not None
    return output


def pad_section(section: np.ndarray, tile_px: int, halo_px: int) -> np.ndarray:
    """Mirrors a section (y, x) beyond its border: to whole tiles, and a halo around them."""
    widths = [(halo_px, halo_px + (-side) % tile_px) for side in section.shape]
    return np.pad(section, widths, mode="reflect")


@torch.inference_mode()
def predict_tiles(
    network: torch.nn.Module,
    padded: np.ndarray,
    corners: list[tuple[int, int]],
    tile_px: int,
    halo_px: int,
    compute: Compute,
) -> np.ndarray:
    """Predicts one batch of tiles; returns (tiles, channels, tile_px, tile_px) as uint8."""
    edge = tile_px + 2 * halo_px
    tiles = np.stack([padded[y : y + edge, x : x + edge] for y, x in corners])[:, None]
    inputs = torch.from_numpy(tiles).to(compute.device, memory_format=torch.channels_last)
    with compute.autocast():
        logits = network(inputs)
    inner = slice(halo_px, halo_px + tile_px)
    probability = torch.sigmoid(logits[..., inner, inner].float())
    return np.asarray((probability * 255).round().to(torch.uint8).cpu().numpy())


def in_batches(corners: list[tuple[int, int]], batch_size: int) -> Iterator[list[tuple[int, int]]]:
    """Yields the corners a batch at a time."""
    for start in range(0, len(corners), batch_size):
        yield corners[start : start + batch_size]
