"""What is chosen on validation once a model is trained: tile and halo, and the watershed."""

import dataclasses
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from bench.inference.device import Compute
from bench.inference.prediction import (
    foreground_channel,
    open_predictor,
    predict_all_at_model_scale,
)
from bench.metrics.overlap import PixelCounts, count_pixels, dice_score
from bench.models.checkpoint import ModelInfo, load_checkpoint, save_checkpoint
from bench.postprocess.segmentation import settings_from_annotations
from bench.postprocess.watershed import choose_watershed
from bench.recipe.scores import threshold_level
from bench.steps.training.data import TrainingData
from bench.tracking.runs import Run

log = logging.getLogger(__name__)
_Geometries = tuple[tuple[int, int], ...]
# Tile and halo in px, by what they cost on a large image: 1.8, 1.6 and 2.2 times its pixels, of
# which those of a larger tile are slower on a CPU. The first is also that of the training.
GEOMETRIES = ((384, 64), (512, 64), (512, 128))
# The cheapest is taken whose validation Dice is so close to the best.
TOLERANCE = 0.001
_HALF = 0.5


def choose_geometry(
    best: Path, data: TrainingData, compute: Compute, run: Run, geometries: _Geometries = GEOMETRIES
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
        _score_geometry(network, replace(info, tile_px=tile, halo_px=halo), data, compute)
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


def pick_geometry(geometries: _Geometries, scores: list[float]) -> tuple[int, int]:
    """The first whose score is within TOLERANCE of the best.

    Examples:
        >>> pick_geometry(((384, 64), (512, 64), (512, 128)), [0.770, 0.7731, 0.774])
        (512, 64)
    """
    good = max(scores) - TOLERANCE
    return next(g for g, score in zip(geometries, scores, strict=True) if score >= good)


def _score_geometry(
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
    channel, level = foreground_channel(info, data.structure), threshold_level(_HALF)
    counts = PixelCounts()
    for (_, labels), channels in zip(sections, predictions, strict=True):
        counts += count_pixels(truth=labels, prediction=channels[channel] >= level)
    return dice_score(counts)


def choose_separation(best: Path, data: TrainingData, compute: Compute, run: Run) -> None:
    """Chooses the settings of the watershed on the validation sections, into the checkpoint.

    Args:
        best: The checkpoint; its description is written anew.
        data: What the model was trained on.
        compute: Where it runs.
        run: Gets the scores of all settings as a table.
    """
    predict, _ = open_predictor(best, compute, data.structure)
    settings = settings_from_annotations(
        (data.read(name)[1] for name in data.names), pixel_size_nm=data.dataset.pixel_size_nm
    )

    def predicted() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for raw, labels in data.validation().values():
            prediction = predict(raw, data.dataset.pixel_size_nm)
            assert prediction.boundary is not None
            yield labels, prediction.foreground, prediction.boundary

    chosen, scores = choose_watershed(
        predicted(),
        threshold_level=threshold_level(_HALF),
        opening_radius_px=settings.opening_radius_px,
        min_area_px=settings.min_area_px,
    )
    network, info = load_checkpoint(best)
    described = dataclasses.replace(info, inference={"watershed": dataclasses.asdict(chosen)})
    save_checkpoint(best, network, described)
    run.log_text(pd.DataFrame(scores).to_csv(index=False), "watershed.csv")
    log.info("separation of touching instances: %s", chosen.origin)
