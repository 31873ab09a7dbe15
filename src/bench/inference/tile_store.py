"""Tiles and maps on disk, so that a prediction goes on where its process was killed."""

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from bench.core.files import write_binary, write_json
from bench.inference.blends import Blend
from bench.inference.feeding import Moments
from bench.inference.prediction import SectionPrediction
from bench.inference.tiles import Corner, Pixels

_PROBABILITY = "probability"
_FINISHED = "finished"
_MOMENTS = "moments.json"

_FOREGROUND, _BOUNDARY = "foreground.npy", "boundary.npy"
# Pixels of every map that are held at a time.
MAP_BAND_PX = 2**22


@dataclass(frozen=True, eq=False)
class TileStore:
    """Probabilities of a section, tile by tile, and which of the tiles are finished.

    A tile's flag is set after its probabilities are written: a process killed between the two
    leaves a tile that is predicted again, never one that is taken for finished. Flags are kept
    per batch, because a network may differ in the last digit between batches of other sizes.

    Attributes:
        folder: Where it is.
        tile_px: Edge of a tile.
        probability: (channels, y, x) uint8, round(255 p); a chunk is a tile.
        finished: 1 for each finished tile, in the order of the batches; a chunk is a batch.
    """

    folder: Path
    tile_px: int
    probability: Any
    finished: Any

    @classmethod
    def open(cls, folder: Path, shape: tuple[int, ...], tile_px: int, channels: int) -> "TileStore":
        """Opens the store of a section in a folder, new or as a killed process left it."""
        tiles = math.prod(-(-side // tile_px) for side in shape)
        root = zarr.open_group(folder, mode="a", zarr_format=2)
        return cls(
            folder,
            tile_px,
            root.require_array(
                _PROBABILITY,
                shape=(channels, *shape),
                chunks=(1, *(min(tile_px, side) for side in shape)),
                dtype="uint8",
            ),
            root.require_array(_FINISHED, shape=(tiles,), chunks=(1,), dtype="uint8"),
        )

    def unfinished(
        self, batches: list[list[Corner]], chosen: slice = slice(None)
    ) -> list[tuple[int, list[Corner]]]:
        """The chosen batches that are left to predict, each with the place of its first tile."""
        done = finished_tiles(self.folder)
        ends = list(itertools.accumulate(map(len, batches)))
        return [
            (end - len(batch), batch)
            for end, batch in list(zip(ends, batches, strict=True))[chosen]
            if not done.issuperset(range(end - len(batch), end))
        ]

    def moments_of(self, fed: Pixels) -> Moments:
        """Mean and deviation of the section, measured once: every process needs them."""
        path = self.folder / _MOMENTS
        if path.exists():
            return Moments(**json.loads(path.read_text(encoding="utf-8")))
        moments = Moments.of(fed)
        write_json(path, vars(moments))
        return moments

    def write(self, first: int, batch: list[Corner], probability: np.ndarray) -> None:
        """Stores a batch (tiles, channels, tile_px, tile_px), then marks it as finished."""
        height, width = self.probability.shape[1:]
        for (y, x), tile in zip(batch, probability, strict=True):
            bottom, right = min(y + self.tile_px, height), min(x + self.tile_px, width)
            self.probability[:, y:bottom, x:right] = tile[:, : bottom - y, : right - x]
        self.finished[first : first + len(batch)] = 1

    def channel(self, number: int) -> "_Channel":
        """The probabilities (y, x) of a channel, read where they are sliced."""
        return _Channel(self.probability, number)


@dataclass(frozen=True, eq=False)
class _Channel:
    """One of the channels (channels, y, x) on disk."""

    probability: Any
    number: int

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.probability.shape[1:])

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __getitem__(self, rows: slice) -> np.ndarray:
        return np.asarray(self.probability[self.number, rows])


def finished_tiles(folder: Path) -> set[int]:
    """The places of the tiles of a store that are finished, which may be growing or not be there.

    A flag is a file, so they are listed: reading each would take longer than a GPU predicts.
    """
    try:
        names = [path.name for path in (folder / _FINISHED).iterdir()]
    except FileNotFoundError:
        return set()
    return {int(name) for name in names if name.isdigit()}


def store_maps(folder: Path, prediction: SectionPrediction) -> None:
    """Writes the maps of a pass; the foreground comes last, and says that they are whole.

    Instances that a model found itself are not kept: ids of several passes have no mean.
    """
    if prediction.boundary is not None:
        write_map(folder / _BOUNDARY, prediction.boundary)
    write_map(folder / _FOREGROUND, prediction.foreground)


def write_map(path: Path, pixels: np.ndarray) -> None:
    """Writes a map (y, x) whole."""
    write_binary(path, lambda file: np.save(file, np.ascontiguousarray(pixels)))


def has_maps(folder: Path) -> bool:
    """Whether the maps of a pass are whole."""
    return (folder / _FOREGROUND).exists()


def blend_maps(
    blend: Blend, folders: Sequence[Sequence[Path]], shape: tuple[int, ...]
) -> SectionPrediction:
    """Makes one of the maps of all passes, as `Blend.apply` does of those in memory.

    Every pixel is blended by itself, so bands of rows give the same as the whole.

    Args:
        blend: How they are combined.
        folders: Per model those of its augmentations, in the blend's order.
        shape: Of the section (y, x).
    """
    height, width = shape
    rows = max(1, MAP_BAND_PX // max(1, width))
    maps: dict[str, np.ndarray] = {}
    for start in range(0, height, rows):
        band = slice(start, start + rows)
        part = blend.apply([[_read_band(folder, band) for folder in each] for each in folders])
        for name, pixels in (("foreground", part.foreground), ("boundary", part.boundary)):
            if pixels is not None:
                maps.setdefault(name, np.empty(shape, dtype=np.uint8))[band] = pixels
    return SectionPrediction(**maps)


def _read_band(folder: Path, rows: slice) -> SectionPrediction:
    """Reads rows of the maps of a pass. Mapped anew for every band, they do not pile up."""
    boundary = folder / _BOUNDARY
    return SectionPrediction(
        np.array(np.load(folder / _FOREGROUND, mmap_mode="r")[rows]),
        np.array(np.load(boundary, mmap_mode="r")[rows]) if boundary.exists() else None,
    )
