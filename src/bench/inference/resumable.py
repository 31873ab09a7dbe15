"""A model applied to images of any size, with what it has predicted so far kept on disk."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from bench.inference.device import Compute
from bench.inference.predictor import SectionPrediction, foreground_channel, open_predictor
from bench.inference.sections import feed_section, map_back, model_shape
from bench.inference.tile_store import TileStore
from bench.inference.tiles import Corner, TiledSection, fit_batch, predict_batches
from bench.memory import explain_out_of_memory
from bench.models.checkpoint import ModelInfo, load_checkpoint, load_info

# Takes how many tiles more are done.
Advance = Callable[[int], None]
# From a section (y, x), its pixel size in nm (None: feed it as it is) and the folder of its tiles.
ResumablePredictor = Callable[[np.ndarray, float | None, Path, Advance], SectionPrediction]


def open_resumable(path: Path, compute: Compute, structure: str) -> ResumablePredictor:
    """Reads a checkpoint for large images: the results are those of `open_predictor`, bit for bit.

    A model that finds instances itself is applied in windows of its own, and starts a section anew.

    Args:
        path: The checkpoint.
        compute: Where it runs.
        structure: What is looked for, where the model has channels for several.
    """
    info = load_info(path)
    if has_own_instances(info):
        whole, _ = open_predictor(path, compute, structure)

        def predict_whole(
            raw: np.ndarray, pixel_size_nm: float | None, folder: Path, advance: Advance
        ) -> SectionPrediction:
            prediction = whole(raw, pixel_size_nm)
            advance(1)
            return prediction

        return predict_whole
    return open_tiled(path, compute, structure)


def open_tiled(path: Path, compute: Compute, structure: str) -> ResumablePredictor:
    """Reads a U-Net."""
    network, info = load_checkpoint(path)
    network.to(compute.device).eval()
    foreground = foreground_channel(info, structure)

    def predict(
        raw: np.ndarray, pixel_size_nm: float | None, folder: Path, advance: Advance
    ) -> SectionPrediction:
        store = predict_tiles_left(raw, pixel_size_nm, folder, advance)
        boundary = None
        if "boundary" in info.outputs:
            boundary = map_back(store.channel(info.outputs.index("boundary")), raw.shape)
        return SectionPrediction(map_back(store.channel(foreground), raw.shape), boundary)

    def predict_tiles_left(
        raw: np.ndarray, pixel_size_nm: float | None, folder: Path, advance: Advance
    ) -> TileStore:
        fed = feed_section(raw, info, pixel_size_nm)
        section = TiledSection.cut(fed, info.tile_px, info.halo_px)
        store = TileStore.open(folder, fed.shape, info.tile_px, len(info.outputs))
        tiles = section.batches(fit_batch(compute, info.tile_px + 2 * info.halo_px))
        left = store.unfinished(tiles)
        advance(sum(map(len, tiles)) - sum(len(batch) for _, batch in left))

        def read() -> Iterator[tuple[tuple[int, list[Corner]], np.ndarray]]:
            for first, batch in left:
                yield (first, batch), section.read(batch)

        remedy = "use device=cpu, or a machine with more: the tile belongs to the model"
        with explain_out_of_memory("a batch of tiles and their halo", remedy):
            for (first, batch), probability in predict_batches(
                network, read(), section.halo_px, compute
            ):
                store.write(first, batch, probability)
                advance(len(batch))
        return store

    return predict


def has_own_instances(info: ModelInfo) -> bool:
    """Whether a model finds instances itself, in windows of its own."""
    return info.architecture == "sam"


def count_steps(info: ModelInfo, shape: tuple[int, ...], pixel_size_nm: float | None) -> int:
    """How often a section advances: once per tile at the model's pixel size, or once in all."""
    if has_own_instances(info):
        return 1
    return count_tiles(info, model_shape(shape, info.input_pixel_size_nm, pixel_size_nm))


def count_tiles(info: ModelInfo, shape: tuple[int, ...]) -> int:
    """Tiles of a section as it is fed."""
    height, width = (-(-side // info.tile_px) for side in shape)
    return height * width
