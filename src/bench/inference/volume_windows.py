"""Windows of a volume for networks whose result depends on them, such as those of InstanceNorm."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import torch

from bench.inference.device import Compute
from bench.inference.tiles import mirror_indices
from bench.models.checkpoint import ModelInfo

# Voxels of all windows that a network is given at a time, halo included.
_BATCH_VOXELS = {"cpu": 2**21, "cuda": 2**24}


def predict_windows(
    network: torch.nn.Module,
    planes: Iterable[np.ndarray],
    shape: tuple[int, int, int],
    info: ModelInfo,
    compute: Compute,
    first: int = 0,
) -> Iterator[np.ndarray]:
    """Applies a network to a volume window by window, each with a halo of its surroundings.

    The volume is mirrored at its border, so that all windows have the shape of the model's own.

    Args:
        network: The network on its device, in evaluation mode.
        planes: Normalised planes (y, x) in order of z.
        shape: Shape of the volume (z, y, x).
        info: What the model is: its tile and halo.
        compute: Device and precision.
        first: The plane from which on windows are wanted: where a row of them begins.

    Yields:
        Levels (channels, planes, y, x) uint8, round(255 p), of as many planes at a time as a tile
        has, in order of z.
    """
    depth, height, width = shape
    tile, halo = info.tile_px, info.halo_px
    rows, columns = (mirror_indices(side, tile, halo) for side in (height, width))
    corners = [(y, x) for y in range(0, height, tile) for x in range(0, width, tile)]
    edge = tile + 2 * halo
    for start, kept, slab in _read_slabs(planes, depth, *_window_planes(info)):
        if start < first:
            continue
        size = max(1, _BATCH_VOXELS.get(compute.device.type, 2**24) // (len(slab) * edge**2))
        levels: np.ndarray | None = None
        for batch in _batched(corners, size):
            windows = np.stack(
                [slab[:, rows[y : y + edge, None], columns[None, x : x + edge]] for y, x in batch]
            )
            found = _predict(network, windows, (_window_planes(info)[1], halo, halo), compute)
            if levels is None:
                levels = np.empty((found.shape[1], kept, height, width), np.uint8)
            for (y, x), window in zip(batch, found, strict=True):
                part = levels[:, :, y : y + tile, x : x + tile]
                part[...] = window[:, :kept, : part.shape[2], : part.shape[3]]
        assert levels is not None
        yield levels


def _window_planes(info: ModelInfo) -> tuple[int, int]:
    """Planes of a model's tile without halo, and of its halo; as many as in y and x if unsaid."""
    tile = info.tile_px if info.tile_planes is None else info.tile_planes
    return tile, info.halo_px if info.halo_planes is None else info.halo_planes


def _read_slabs(
    planes: Iterable[np.ndarray], depth: int, tile: int, halo: int
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yields rows of windows: first plane, how many are the volume's, and them with their halo."""
    coming, read = iter(planes), 0
    places = mirror_indices(depth, tile, halo).tolist()
    held: dict[int, np.ndarray] = {}
    for start in range(0, depth, tile):
        wanted = places[start : start + tile + 2 * halo]
        while read <= max(wanted):
            held[read] = next(coming)
            read += 1
        yield start, min(tile, depth - start), np.stack([held[place] for place in wanted])
        later = set(places[start + tile :])
        held = {place: plane for place, plane in held.items() if place in later}


def _batched(corners: list[tuple[int, int]], size: int) -> Iterator[list[tuple[int, int]]]:
    left = iter(corners)
    while batch := list(itertools.islice(left, size)):
        yield batch


@torch.inference_mode()
def _predict(
    network: torch.nn.Module, windows: np.ndarray, halo: tuple[int, ...], compute: Compute
) -> np.ndarray:
    """Levels (windows, channels, z, y, x) uint8 of windows (windows, z, y, x), without the halo."""
    inputs = torch.from_numpy(windows[:, None]).to(compute.device)
    with compute.autocast():
        logits = network(inputs)
    inner = [
        slice(width, side - width) for width, side in zip(halo, windows.shape[1:], strict=True)
    ]
    probability = torch.sigmoid(logits[:, :, *inner].float())
    levels: np.ndarray = (probability * 255).round().to(torch.uint8).cpu().numpy()
    return levels
