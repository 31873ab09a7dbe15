"""Probability maps of whole sections, tile by tile."""

from dataclasses import dataclass

import numpy as np
import torch

from bench.inference.device import Compute
from bench.inference.normalise import Moments

# Tiles that a network is given at a time: memory depends on it.
BATCH_SIZE = 4

Corner = tuple[int, int]


@dataclass(frozen=True, eq=False)
class TiledSection:
    """A section (y, x) in tiles, which are normalised and mirrored as they are read.

    Every tile is seen with a halo of its surroundings, mirrored at the section's border, so all
    tiles have the shape (tile_px + 2 * halo_px) squared: the network's InstanceNorm then depends
    on the tile's content only, not on where it lies.

    Attributes:
        raw: The section, of any bit depth.
        tile_px: Edge of a tile.
        halo_px: Width of the halo.
        moments: Of the whole section.
    """

    raw: np.ndarray
    tile_px: int
    halo_px: int
    moments: Moments

    @classmethod
    def cut(cls, raw: np.ndarray, tile_px: int, halo_px: int) -> "TiledSection":
        """Cuts a section."""
        return cls(raw, tile_px, halo_px, Moments.of(raw))

    def batches(self, size: int = BATCH_SIZE) -> list[list[Corner]]:
        """The corners of the tiles row by row, a batch at a time."""
        height, width = self.raw.shape
        rows, columns = range(0, height, self.tile_px), range(0, width, self.tile_px)
        corners = [(y, x) for y in rows for x in columns]
        return [corners[start : start + size] for start in range(0, len(corners), size)]

    def read(self, corners: list[Corner]) -> np.ndarray:
        """Reads tiles with their halo: (tiles, edge, edge) float32."""
        edge = self.tile_px + 2 * self.halo_px
        rows, columns = (
            mirror_indices(side, self.tile_px, self.halo_px) for side in self.raw.shape
        )
        return np.stack(
            [
                self.moments.apply(self.raw[np.ix_(rows[y : y + edge], columns[x : x + edge])])
                for y, x in corners
            ]
        )


def predict_section(
    network: torch.nn.Module,
    raw: np.ndarray,
    *,
    tile_px: int,
    halo_px: int,
    compute: Compute,
    batch_size: int = BATCH_SIZE,
) -> np.ndarray:
    """Applies a network to a section, tile by tile.

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
    section = TiledSection.cut(raw, tile_px, halo_px)
    output: np.ndarray | None = None
    network.eval()
    for batch in section.batches(batch_size):
        probability = predict_tiles(network, section, batch, compute)
        if output is None:
            output = np.empty((probability.shape[1], *raw.shape), dtype=np.uint8)
        for (y, x), tile in zip(batch, probability, strict=True):
            kept = output[:, y : y + tile_px, x : x + tile_px]
            kept[...] = tile[:, : kept.shape[1], : kept.shape[2]]
    assert output is not None
    return output


def mirror_indices(side: int, tile_px: int, halo_px: int) -> np.ndarray:
    """Where to read along a side that is mirrored to whole tiles and a halo around them."""
    return np.pad(np.arange(side), (halo_px, halo_px + (-side) % tile_px), mode="reflect")


@torch.inference_mode()
def predict_tiles(
    network: torch.nn.Module, section: TiledSection, batch: list[Corner], compute: Compute
) -> np.ndarray:
    """Predicts one batch of tiles; returns (tiles, channels, tile_px, tile_px) as uint8."""
    inputs = torch.from_numpy(section.read(batch)[:, None])
    inputs = inputs.to(compute.device, memory_format=torch.channels_last)
    with compute.autocast():
        logits = network(inputs)
    inner = slice(section.halo_px, section.halo_px + section.tile_px)
    probability = torch.sigmoid(logits[..., inner, inner].float())
    return np.asarray((probability * 255).round().to(torch.uint8).cpu().numpy())
