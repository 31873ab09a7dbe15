"""Probability maps of whole sections, tile by tile."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from bench.inference.device import Compute
from bench.inference.feeding import EnlargedSection, Moments

_Item = TypeVar("_Item")
_END = object()
# Pixels of all tiles that a GPU is given at a time, halo included: memory depends on it.
_BATCH_PX = 2**20
_MOST_TILES = 4
# Batches that a device has been given when the oldest is asked for: a GPU then never waits.
IN_FLIGHT = {"cpu": 1, "cuda": 2}
_Key = TypeVar("_Key")
Corner = tuple[int, int]
# A section (y, x), or one that is computed where it is read.
Pixels = np.ndarray | EnlargedSection


@contextmanager
def read_ahead(items: Iterable[_Item], *, enabled: bool = True) -> Iterator[Iterator[_Item]]:
    """Reads the next item in a thread while the caller has the last one.

    Within the context come the same items in the same order, and what reading raises; after it,
    however it was left, the thread has ended. Two items exist at a time.

    Args:
        items: Read by the thread alone.
        enabled: False reads where items are asked for, without a thread.
    """
    if not enabled:
        yield iter(items)
        return
    iterator = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="read_ahead") as thread:

        def take() -> Iterator[_Item]:
            coming = thread.submit(next, iterator, _END)
            while (item := coming.result()) is not _END:
                coming = thread.submit(next, iterator, _END)
                yield item  # type: ignore[misc]

        yield take()


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

    def corners(self) -> list[Corner]:
        """The first pixel of every tile, row by row."""
        height, width = self.raw.shape
        rows, columns = range(0, height, self.tile_px), range(0, width, self.tile_px)
        return [(y, x) for y in rows for x in columns]

    def batches(self, size: int) -> list[list[Corner]]:
        """The corners of the tiles row by row, a batch at a time."""
        corners = self.corners()
        return [corners[start : start + size] for start in range(0, len(corners), size)]

    def read(self, corners: list[Corner]) -> np.ndarray:
        """Reads tiles with their halo: (tiles, edge, edge) float32."""
        edge = self.tile_px + 2 * self.halo_px
        rows, columns = (
            mirror_indices(side, self.tile_px, self.halo_px) for side in self.raw.shape
        )
        windows = ((rows[y : y + edge], columns[x : x + edge]) for y, x in corners)
        return np.stack([self.moments.apply(_read_window(self.raw, *each)) for each in windows])


def predict_sections(
    network: torch.nn.Module,
    sections: Iterable[Pixels],
    *,
    tile_px: int,
    halo_px: int,
    compute: Compute,
    batch_size: int | None = None,
    classes: bool = False,
    moments: Moments | None = None,
) -> Iterator[np.ndarray]:
    """Applies a network to sections one after the other, tile by tile.

    All tiles have one shape, so those of several sections share batches. Sections are read as
    their tiles are needed: memory does not grow with their number.

    Args:
        network: From normalised (batch, 1, y, x) to logits (batch, channels, y, x).
        sections: Sections (y, x) of any bit depth.
        tile_px: Edge of a tile.
        halo_px: Width of the halo; its predictions are cut off.
        compute: Device and precision; the network is on the device.
        batch_size: Tiles at a time: memory depends on it, and at most the result's last level;
            fitting the device if not given.
        classes: Whether a pixel is of one channel: a softmax in place of a sigmoid each.
        moments: By which all sections are normalised; None: each by its own.

    Yields:
        Probabilities (channels, y, x) of every section as uint8, in order: p is round(255 p).
    """
    network.eval()
    size = batch_size or fit_batch(compute, tile_px + 2 * halo_px)
    tiles = itertools.chain.from_iterable(
        _cut_tiles(TiledSection(raw, tile_px, halo_px, moments or Moments.of(raw)))
        for raw in sections
    )

    def batches() -> Iterator[tuple[list[_Tile], np.ndarray]]:
        while batch := list(itertools.islice(tiles, size)):
            yield batch, np.stack([tile.pixels for tile in batch])

    for batch, probability in predict_batches(
        network, batches(), halo_px, compute, classes=classes
    ):
        for tile, channels in zip(batch, probability, strict=True):
            output = tile.canvas.paint(tile.corner, channels)
            if tile.last:
                yield output


def fit_batch(compute: Compute, edge: int) -> int:
    """How many tiles of an edge (px, with halo) a device is given at a time.

    A CPU is given one: in fp32 the last bits of a convolution there depend on how many it is given,
    so that the same section among others would be a level off where rounding is a tie; nor is it
    slower (four tiles of 512 px take a fifth more time at once than one after the other).
    """
    if compute.device.type == "cpu":
        return 1
    return max(1, min(_MOST_TILES, _BATCH_PX // edge**2))


@dataclass(eq=False)
class _Canvas:
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
class _Tile:
    """A tile with its halo (y, x), where its inside belongs, and whether it is the last there."""

    pixels: np.ndarray
    canvas: _Canvas
    corner: Corner
    last: bool


def _cut_tiles(section: TiledSection) -> Iterator[_Tile]:
    canvas = _Canvas(section.raw.shape)
    corners = section.corners()
    for corner in corners:
        yield _Tile(section.read([corner])[0], canvas, corner, corner == corners[-1])


def _read_window(raw: Pixels, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The pixels of a section at all crossings of rows and columns."""
    if isinstance(raw, EnlargedSection):
        return raw.window(rows, columns)
    return np.asarray(raw[_as_slice(rows)][:, _as_slice(columns)])


def _as_slice(indices: np.ndarray) -> slice | np.ndarray:
    """Indices as a slice where nothing is mirrored: it copies nothing."""
    first, last = int(indices[0]), int(indices[-1])
    return slice(first, last + 1) if last - first == len(indices) - 1 else indices


def mirror_indices(side: int, tile_px: int, halo_px: int) -> np.ndarray:
    """Where to read along a side that is mirrored to whole tiles and a halo around them."""
    return np.pad(np.arange(side), (halo_px, halo_px + (-side) % tile_px), mode="reflect")


def predict_batches(
    network: torch.nn.Module,
    batches: Iterable[tuple[_Key, np.ndarray]],
    halo_px: int,
    compute: Compute,
    *,
    classes: bool = False,
) -> Iterator[tuple[_Key, np.ndarray]]:
    """Predicts batches of tiles (tiles, edge, edge), each with a key of the caller's.

    While a GPU computes, the next batch is read and earlier ones are handed back.

    Yields:
        The key and probabilities (tiles, channels, y, x) as uint8, without the halo, in order.
    """
    in_flight = IN_FLIGHT.get(compute.device.type, 1)
    started: deque[tuple[_Key, torch.Tensor]] = deque()
    with read_ahead(batches, enabled=in_flight > 1) as read:
        for key, tiles in read:
            probability = start_tiles(network, tiles, halo_px, compute, classes=classes)
            started.append((key, probability))
            if len(started) == in_flight:
                done, probability = started.popleft()
                yield done, probability.cpu().numpy()
    for done, probability in started:
        yield done, probability.cpu().numpy()


def start_tiles(
    network: torch.nn.Module,
    tiles: np.ndarray,
    halo_px: int,
    compute: Compute,
    *,
    classes: bool = False,
) -> torch.Tensor:
    """Gives a network one batch of tiles (tiles, edge, edge); a GPU is not waited for.

    Returns:
        Probabilities (tiles, channels, y, x) as uint8 on the device, without the halo.
    """
    probability = predict_tiles(network, tiles, halo_px, compute, classes=classes)
    return (probability * 255).round().to(torch.uint8)


@torch.inference_mode()
def predict_tiles(
    network: torch.nn.Module,
    tiles: np.ndarray,
    halo_px: int,
    compute: Compute,
    *,
    classes: bool = False,
) -> torch.Tensor:
    """The same in float32, not rounded."""
    inputs = torch.from_numpy(tiles[:, None])
    inputs = inputs.to(compute.device, memory_format=compute.memory_format(network, 4))
    with compute.autocast():
        logits = network(inputs)
    inner = slice(halo_px, inputs.shape[-1] - halo_px)
    logits = logits[..., inner, inner].float()
    return logits.softmax(1) if classes else torch.sigmoid(logits)
