"""Predicted tiles on disk, so that a prediction goes on where its process was killed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from bench.inference.tiles import BATCH_SIZE, Corner, TiledSection

PROBABILITY = "probability"
FINISHED = "finished"


@dataclass(frozen=True, eq=False)
class TileStore:
    """Probabilities of a section, tile by tile, and which of the tiles are finished.

    A tile's flag is set after its probabilities are written: a process killed between the two
    leaves a tile that is predicted again, never one that is taken for finished. Flags are kept
    per batch, because a network may differ in the last digit between batches of other sizes.

    Attributes:
        section: The section that is predicted.
        probability: (channels, y, x) uint8, round(255 p); a chunk is a tile.
        finished: 1 for each finished tile, in the order of the batches; a chunk is a batch.
    """

    section: TiledSection
    probability: Any
    finished: Any

    @classmethod
    def open(cls, folder: Path, section: TiledSection, channels: int) -> "TileStore":
        """Opens the store of a section in a folder, new or as a killed process left it."""
        tile_px = section.tile_px
        tiles = sum(map(len, section.batches()))
        root = zarr.open_group(folder, mode="a", zarr_format=2)
        return cls(
            section,
            root.require_array(
                PROBABILITY,
                shape=(channels, *section.raw.shape),
                chunks=(1, *(min(tile_px, side) for side in section.raw.shape)),
                dtype="uint8",
            ),
            root.require_array(FINISHED, shape=(tiles,), chunks=(BATCH_SIZE,), dtype="uint8"),
        )

    def unfinished(self) -> Iterator[tuple[int, list[Corner]]]:
        """Yields the batches left to predict, with the place of their first tile."""
        done = np.asarray(self.finished[:])
        for number, batch in enumerate(self.section.batches()):
            first = number * BATCH_SIZE
            if not done[first : first + len(batch)].all():
                yield first, batch

    def write(self, first: int, batch: list[Corner], probability: np.ndarray) -> None:
        """Stores a batch (tiles, channels, tile_px, tile_px), then marks it as finished."""
        height, width = self.section.raw.shape
        for (y, x), tile in zip(batch, probability, strict=True):
            bottom, right = (
                min(start + self.section.tile_px, side) for start, side in ((y, height), (x, width))
            )
            self.probability[:, y:bottom, x:right] = tile[:, : bottom - y, : right - x]
        self.finished[first : first + len(batch)] = 1

    def read(self, channel: int) -> np.ndarray:
        """Reads the probabilities (y, x) of a channel."""
        return np.asarray(self.probability[channel])
