"""A model applied to images of any size, with what it has predicted so far kept on disk."""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from bench.core.memory import explain_out_of_memory
from bench.inference.device import Compute
from bench.inference.engines import open_network
from bench.inference.prediction import (
    SectionPrediction,
    check_normalisation,
    feed_section,
    fixed_moments,
    foreground_channel,
    map_back,
    model_shape,
    open_predictor,
)
from bench.inference.tile_store import TileStore
from bench.inference.tiles import Corner, TiledSection, fit_batch, predict_batches
from bench.models.checkpoint import ModelInfo, load_info
from bench.models.networks import find_network

_ALL_BATCHES = slice(None)
# Takes how many tiles more are done.
Advance = Callable[[int], None]
# From a section (y, x), its pixel size in nm (None: feed it as it is) and the folder of its tiles.
ResumablePredictor = Callable[[np.ndarray, float | None, Path, Advance], SectionPrediction]


def open_resumable(path: Path, compute: Compute, structure: str) -> ResumablePredictor:
    """Opens a checkpoint for large images: the results are those of `open_predictor`, bit for bit.

    A model that is not applied tile by tile, such as one that finds instances itself, starts a
    section anew. Weights are read when they are first needed.

    Args:
        path: The checkpoint.
        compute: Where it runs.
        structure: What is looked for, where the model has channels for several.
    """
    info = load_info(path)
    if is_tiled(info):
        check_normalisation(info)
        return TiledModel(path, info, compute, foreground_channel(info, structure))
    whole = functools.cache(lambda: open_predictor(path, compute, structure)[0])

    def predict_whole(
        raw: np.ndarray, pixel_size_nm: float | None, folder: Path, advance: Advance
    ) -> SectionPrediction:
        prediction = whole()(raw, pixel_size_nm)
        advance(1)
        return prediction

    return predict_whole


@dataclass(frozen=True, eq=False)
class TiledModel:
    """A network for sections of any size; its weights are read when a tile needs them.

    Attributes:
        path: Its checkpoint.
        info: What the checkpoint says.
        compute: Where it runs.
        foreground: The channel of the structure.
    """

    path: Path
    info: ModelInfo
    compute: Compute
    foreground: int

    @cached_property
    def network(self) -> torch.nn.Module:
        """The network, on the device."""
        return open_network(self.path, self.compute)

    @property
    def batch_size(self) -> int:
        """Tiles that the device is given at a time."""
        return fit_batch(self.compute, self.info.tile_px + 2 * self.info.halo_px)

    def __call__(
        self, raw: np.ndarray, pixel_size_nm: float | None, folder: Path, advance: Advance
    ) -> SectionPrediction:
        """Predicts a section; see `ResumablePredictor`."""
        store = self.predict_tiles(raw, pixel_size_nm, folder, advance)
        outputs, boundary = self.info.outputs, None
        if "boundary" in outputs:
            boundary = map_back(store.channel(outputs.index("boundary")), raw.shape)
        return SectionPrediction(map_back(store.channel(self.foreground), raw.shape), boundary)

    def open_store(
        self, shape: tuple[int, ...], pixel_size_nm: float | None, folder: Path
    ) -> TileStore:
        """Opens the store of a section's tiles, given the section's shape (y, x)."""
        fed = model_shape(shape, self.info.input_pixel_size_nm, pixel_size_nm)
        return TileStore.open(folder, fed, self.info.tile_px, len(self.info.outputs))

    def predict_tiles(
        self,
        raw: np.ndarray,
        pixel_size_nm: float | None,
        folder: Path,
        advance: Advance,
        batches: slice = _ALL_BATCHES,
    ) -> TileStore:
        """Predicts the tiles that are left; several processes may do batches of their own."""
        store = self.open_store(raw.shape, pixel_size_nm, folder)
        fed = feed_section(raw, self.info, pixel_size_nm)
        moments = fixed_moments(self.info) or store.moments_of(fed)
        section = TiledSection(fed, self.info.tile_px, self.info.halo_px, moments)
        tiles = section.batches(self.batch_size)
        left = store.unfinished(tiles, batches)
        advance(sum(map(len, tiles[batches])) - sum(len(batch) for _, batch in left))
        if not left:
            return store

        def read() -> Iterator[tuple[tuple[int, list[Corner]], np.ndarray]]:
            for first, batch in left:
                yield (first, batch), section.read(batch)

        remedy = "use device=cpu, or a machine with more: the tile belongs to the model"
        with explain_out_of_memory("a batch of tiles and their halo", remedy):
            for (first, batch), probability in predict_batches(
                self.network,
                read(),
                section.halo_px,
                self.compute,
                classes=bool(self.info.classes),
            ):
                store.write(first, batch, probability)
                advance(len(batch))
        return store


def is_tiled(info: ModelInfo) -> bool:
    """Whether a model is applied tile by tile, or to a section as a whole."""
    return find_network(info.architecture).tiled


def count_steps(info: ModelInfo, shape: tuple[int, ...], pixel_size_nm: float | None) -> int:
    """How often a section advances: once per tile at the model's pixel size, or once in all."""
    if not is_tiled(info):
        return 1
    fed = model_shape(shape, info.input_pixel_size_nm, pixel_size_nm)
    return math.prod(-(-side // info.tile_px) for side in fed)
