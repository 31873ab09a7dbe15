"""Tile and halo of a model: part of what it is, chosen once on the validation sections."""

import logging
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from bench.inference.device import Compute
from bench.inference.prediction import foreground_channel
from bench.inference.sections import predict_all_at_model_scale
from bench.metrics.overlap import PixelCounts, count_pixels, dice_score
from bench.models.checkpoint import ModelInfo, load_checkpoint, save_checkpoint
from bench.recipe.scores import threshold_level
from bench.steps.training.data import TrainingData
from bench.tracking.runs import Run

log = logging.getLogger(__name__)

Geometries = tuple[tuple[int, int], ...]
# Tile and halo in px, by what they cost on a large image: 1.8, 1.6 and 2.2 times its pixels, of
# which those of a larger tile are slower on a CPU. The first is also that of the training.
GEOMETRIES = ((384, 64), (512, 64), (512, 128))
# The cheapest is taken whose validation Dice is so close to the best.
TOLERANCE = 0.001
HALF = 0.5


def choose_geometry(
    best: Path, data: TrainingData, compute: Compute, run: Run, geometries: Geometries = GEOMETRIES
) -> tuple[int, int]:
    """Chooses tile and halo, into the checkpoint.

    The network's InstanceNorm makes a prediction depend on the tile: on ISBI 2012, whose sections
    are one tile of 512 px, Dice was up to 0.007 higher with it than with tiles of 384 px; on EPFL6
    up to 0.006 lower.

    Args:
        best: The checkpoint; its description is written anew.
        data: What the model was trained on.
        compute: Where it runs.
        run: Gets the Dice of each as a table, and the choice as a tag.
        geometries: Tile and halo in px, the cheapest first.

    Returns:
        Tile and halo in px.
    """
    network, info = load_checkpoint(best)
    network.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    scores = [
        score_geometry(network, replace(info, tile_px=tile, halo_px=halo), data, compute)
        for tile, halo in geometries
    ]
    tile, halo = pick_geometry(geometries, scores)
    save_checkpoint(best, network, replace(info, tile_px=tile, halo_px=halo))
    rows = [
        {"tile_px": each[0], "halo_px": each[1], "validation_dice": score}
        for each, score in zip(geometries, scores, strict=True)
    ]
    run.log_text(pd.DataFrame(rows).to_csv(index=False), "geometry.csv")
    run.set_tags({"bench.geometry": f"{tile} + {halo}"})
    log.info("tile %d px and halo %d px, chosen on validation (geometry.csv)", tile, halo)
    return tile, halo


def pick_geometry(geometries: Geometries, scores: list[float]) -> tuple[int, int]:
    """The first whose score is within TOLERANCE of the best.

    Examples:
        >>> pick_geometry(((384, 64), (512, 64), (512, 128)), [0.770, 0.7731, 0.774])
        (512, 64)
    """
    good = max(scores) - TOLERANCE
    return next(g for g, score in zip(geometries, scores, strict=True) if score >= good)


def score_geometry(
    network: torch.nn.Module, info: ModelInfo, data: TrainingData, compute: Compute
) -> float:
    """Dice over all validation sections at a probability of one half."""
    sections = data.validation().values()
    predictions = predict_all_at_model_scale(
        network,
        (raw for raw, _ in sections),
        info=info,
        pixel_size_nm=data.dataset.pixel_size_nm,
        compute=compute,
    )
    channel, level = foreground_channel(info, data.structure), threshold_level(HALF)
    counts = PixelCounts()
    for (_, labels), channels in zip(sections, predictions, strict=True):
        counts += count_pixels(truth=labels, prediction=channels[channel] >= level)
    return dice_score(counts)
