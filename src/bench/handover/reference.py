"""What our own code says of a window, before it is rounded to 255 levels."""

from collections.abc import Sequence

import numpy as np
import torch

from bench.handover.contents import HandoverModel
from bench.inference.blends import MAXIMUM, MEAN
from bench.inference.device import Compute
from bench.inference.feeding import Moments
from bench.inference.prediction import fixed_moments
from bench.inference.symmetries import find_symmetries
from bench.inference.tiles import predict_tiles


def predict_window(
    model: HandoverModel, networks: Sequence[torch.nn.Module], window: np.ndarray
) -> np.ndarray:
    """Predicts a window as `segment` predicts a section of that size.

    Args:
        model: The models.
        networks: Each of them, on the CPU.
        window: Raw values (y, x), as large as the models' window.

    Returns:
        Probabilities (channels, y, x) float32, of the model's channels.
    """
    means = [_average(model, number, network, window) for number, network in enumerate(networks)]
    if model.plain:
        return means[0].astype(np.float32)
    weights = np.array(model.recipe.weights, dtype=np.float64)
    found = [
        _join(_pick(means, model.foregrounds), model.recipe.ensemble, weights),
        *(
            []
            if model.boundaries is None
            else [_join(_pick(means, model.boundaries), MEAN, weights)]
        ),
    ]
    return np.stack(found).astype(np.float32)


def _average(
    model: HandoverModel, number: int, network: torch.nn.Module, window: np.ndarray
) -> np.ndarray:
    info, compute = model.infos[number], Compute(torch.device("cpu"), "fp32")
    fed = (fixed_moments(info) or Moments.of(window)).apply(window)
    network.eval()
    found = []
    for symmetry in find_symmetries(model.recipe.augmentations):
        view = np.ascontiguousarray(symmetry.forward(fed))
        tiles = predict_tiles(network, view[None], 0, compute, classes=bool(info.classes))
        found.append(symmetry.inverse(tiles[0].numpy().astype(np.float64)))
    return np.asarray(np.mean(found, axis=0))


def _pick(means: Sequence[np.ndarray], channels: Sequence[int]) -> np.ndarray:
    return np.stack([mean[channel] for mean, channel in zip(means, channels, strict=True)])


def _join(maps: np.ndarray, rule: str, weights: np.ndarray) -> np.ndarray:
    """The maps of several models (models, y, x) made one."""
    if rule == MEAN:
        return np.asarray(np.average(maps, axis=0, weights=weights))
    if rule == MAXIMUM:
        return np.asarray(maps.max(axis=0))
    return np.asarray(np.sort(maps, axis=0)[(len(maps) - 1) // 2])
