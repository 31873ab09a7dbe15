"""Probability maps of whole sections, tile by tile."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

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
        batch_size: Tiles at a time: memory depends on it, the result in the last bits of the
            convolutions only: a stored level may differ by one (fp32) or a few (bf16).

    Returns:
        Probabilities (channels, y, x) as uint8: p is stored as round(255 p).
    """
    (probability,) = predict_sections(
        network,
        [raw],
        tile_px=tile_px,
        halo_px=halo_px,
        compute=compute,
        batch_size=batch_size,
    )
    return probability


def predict_sections(
    network: torch.nn.Module,
    sections: Iterable[np.ndarray],
    *,
    tile_px: int,
    halo_px: int,
    compute: Compute,
    batch_size: int = 4,
) -> Iterator[np.ndarray]:
    """Applies a network to sections one after the other, as predict_section does to each.

    All tiles have one shape, so those of several sections share batches. Sections are read as
    their tiles are needed: memory does not grow with their number.

    Yields:
        Probabilities (channels, y, x) as uint8 of every section, in order.
    """
    network.eval()
    tiles = itertools.chain.from_iterable(cut_tiles(raw, tile_px, halo_px) for raw in sections)
    while batch := list(itertools.islice(tiles, batch_size)):
        probability = predict_tiles(network, [tile.pixels for tile in batch], halo_px, compute)
        for tile, channels in zip(batch, probability, strict=True):
            output = tile.canvas.paint(tile.corner, channels)
            if tile.last:
                yield output


@dataclass(eq=False)
class Canvas:
    """The map of a section of a shape (y, x), painted tile by tile."""

    shape: tuple[int, ...]
    output: np.ndarray | None = None

    def paint(self, corner: tuple[int, int], tile: np.ndarray) -> np.ndarray:
        """Paints a tile (channels, y, x), and returns what is painted by now."""
        if self.output is None:
            self.output = np.empty((len(tile), *self.shape), dtype=np.uint8)
        (y, x), (height, width) = corner, tile.shape[1:]
        kept = self.output[:, y : y + height, x : x + width]
        kept[...] = tile[:, : kept.shape[1], : kept.shape[2]]
        return self.output


@dataclass(frozen=True, eq=False)
class Tile:
    """A tile with its halo (y, x), where its inside belongs, and whether it is the last there."""

    pixels: np.ndarray
    canvas: Canvas
    corner: tuple[int, int]
    last: bool


def cut_tiles(raw: np.ndarray, tile_px: int, halo_px: int) -> Iterator[Tile]:
    """Yields the tiles of a section (y, x), normalised."""
    height, width = raw.shape
    edge = tile_px + 2 * halo_px
    padded = pad_section(normalise_section(raw), tile_px, halo_px)
    canvas = Canvas(raw.shape)
    corners = [(y, x) for y in range(0, height, tile_px) for x in range(0, width, tile_px)]
    for y, x in corners:
        pixels = padded[y : y + edge, x : x + edge]
        yield Tile(pixels, canvas, (y, x), (y, x) == corners[-1])


def pad_section(section: np.ndarray, tile_px: int, halo_px: int) -> np.ndarray:
    """Mirrors a section (y, x) beyond its border: to whole tiles, and a halo around them."""
    widths = [(halo_px, halo_px + (-side) % tile_px) for side in section.shape]
    return np.pad(section, widths, mode="reflect")


@torch.inference_mode()
def predict_tiles(
    network: torch.nn.Module, tiles: Sequence[np.ndarray], halo_px: int, compute: Compute
) -> np.ndarray:
    """Predicts one batch of tiles; returns (tiles, channels, y, x) without halo, as uint8."""
    stacked = torch.from_numpy(np.stack(tiles)[:, None])
    inputs = stacked.to(compute.device, memory_format=torch.channels_last)
    with compute.autocast():
        logits = network(inputs)
    inner = slice(halo_px, inputs.shape[-1] - halo_px)
    probability = torch.sigmoid(logits[..., inner, inner].float())
    return np.asarray((probability * 255).round().to(torch.uint8).cpu().numpy())
