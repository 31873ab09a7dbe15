"""Probability maps of whole sections, tile by tile."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from bench.inference.device import Compute
from bench.inference.normalise import Moments
from bench.resample import EnlargedSection

# Tiles that a network is given at a time: memory depends on it.
BATCH_SIZE = 4

Corner = tuple[int, int]
# A section (y, x), or one that is computed where it is read.
Pixels = np.ndarray | EnlargedSection


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

    raw: Pixels
    tile_px: int
    halo_px: int
    moments: Moments

    @classmethod
    def cut(cls, raw: Pixels, tile_px: int, halo_px: int) -> "TiledSection":
        """Cuts a section."""
        return cls(raw, tile_px, halo_px, Moments.of(raw))

    def corners(self) -> list[Corner]:
        """The first pixel of every tile, row by row."""
        height, width = self.raw.shape
        rows, columns = range(0, height, self.tile_px), range(0, width, self.tile_px)
        return [(y, x) for y in rows for x in columns]

    def batches(self, size: int = BATCH_SIZE) -> list[list[Corner]]:
        """The corners of the tiles row by row, a batch at a time."""
        corners = self.corners()
        return [corners[start : start + size] for start in range(0, len(corners), size)]

    def read(self, corners: list[Corner]) -> np.ndarray:
        """Reads tiles with their halo: (tiles, edge, edge) float32."""
        edge = self.tile_px + 2 * self.halo_px
        rows, columns = (
            mirror_indices(side, self.tile_px, self.halo_px) for side in self.raw.shape
        )
        return np.stack(
            [
                self.moments.apply(read_window(self.raw, rows[y : y + edge], columns[x : x + edge]))
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
    sections: Iterable[Pixels],
    *,
    tile_px: int,
    halo_px: int,
    compute: Compute,
    batch_size: int = BATCH_SIZE,
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
        pixels = np.stack([tile.pixels for tile in batch])
        probability = predict_tiles(network, pixels, halo_px, compute)
        for tile, channels in zip(batch, probability, strict=True):
            output = tile.canvas.paint(tile.corner, channels)
            if tile.last:
                yield output


@dataclass(eq=False)
class Canvas:
    """The map of a section of a shape (y, x), painted tile by tile."""

    shape: tuple[int, ...]
    output: np.ndarray | None = None

    def paint(self, corner: Corner, tile: np.ndarray) -> np.ndarray:
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
    corner: Corner
    last: bool


def cut_tiles(raw: Pixels, tile_px: int, halo_px: int) -> Iterator[Tile]:
    """Yields the tiles of a section (y, x), normalised."""
    section = TiledSection.cut(raw, tile_px, halo_px)
    canvas = Canvas(raw.shape)
    corners = section.corners()
    for corner in corners:
        yield Tile(section.read([corner])[0], canvas, corner, corner == corners[-1])


def read_window(raw: Pixels, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The pixels of a section at all crossings of rows and columns."""
    if isinstance(raw, EnlargedSection):
        return raw.window(rows, columns)
    return np.asarray(raw[np.ix_(rows, columns)])


def mirror_indices(side: int, tile_px: int, halo_px: int) -> np.ndarray:
    """Where to read along a side that is mirrored to whole tiles and a halo around them."""
    return np.pad(np.arange(side), (halo_px, halo_px + (-side) % tile_px), mode="reflect")


@torch.inference_mode()
def predict_tiles(
    network: torch.nn.Module, tiles: np.ndarray, halo_px: int, compute: Compute
) -> np.ndarray:
    """Predicts one batch of tiles (tiles, edge, edge).

    Returns:
        Probabilities (tiles, channels, y, x) as uint8, without the halo.
    """
    inputs = torch.from_numpy(tiles[:, None])
    inputs = inputs.to(compute.device, memory_format=torch.channels_last)
    with compute.autocast():
        logits = network(inputs)
    inner = slice(halo_px, inputs.shape[-1] - halo_px)
    probability = torch.sigmoid(logits[..., inner, inner].float())
    return np.asarray((probability * 255).round().to(torch.uint8).cpu().numpy())
