"""What is chosen on validation once a model is trained: tile and halo, and the watershed."""

import dataclasses
import logging
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from bench.core.progress import say_while, show_progress
from bench.inference.device import Compute
from bench.inference.prediction import foreground_channel, predict_all_at_model_scale
from bench.metrics.overlap import PixelCounts, count_pixels, dice_score, find_open
from bench.models.checkpoint import ModelInfo, load_checkpoint, save_checkpoint
from bench.models.networks import Geometry
from bench.postprocess.segmentation import settings_from_annotations
from bench.postprocess.watershed import WatershedSettings, choose_watershed
from bench.recipe.scores import threshold_level
from bench.steps.training.data import TrainingData
from bench.tracking.runs import Run

log = logging.getLogger(__name__)
# The cheapest is taken whose validation Dice is so close to the best.
TOLERANCE = 0.001
# What computes so many times the pixels that the cheapest does is not tried: such a tile is mostly
# mirrored border.
_DEAREST = 2
_HALF = 0.5


@dataclass(frozen=True, eq=False)
class Validation:
    """What the choices are made on.

    Attributes:
        data: What the model was trained on.
        sections: Raw and labels (y, x) of the validation sections, by name.
        compute: Where the model runs.
        run: Gets the scores of what there was to choose from as tables, and the choices.
        levels: What of the sections is not annotated, of those of which not all is.
    """

    data: TrainingData
    sections: dict[str, tuple[np.ndarray, np.ndarray]]
    compute: Compute
    run: Run
    levels: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


def choose_inference(
    best: Path,
    validation: Validation,
    geometries: tuple[Geometry, ...],
    *,
    separation: bool,
) -> Geometry:
    """Chooses how a model is applied, into its checkpoint, whose description is written anew.

    A network's InstanceNorm makes a prediction depend on the tile: on ISBI 2012, whose sections
    are one tile of 512 px, Dice was up to 0.007 higher with it than with tiles of 384 px; on EPFL6
    up to 0.006 lower.

    Args:
        best: The checkpoint.
        validation: What to choose on.
        geometries: Tile and halo in px, the cheapest first; a single one is taken unseen.
        separation: Whether the settings of the watershed are chosen too, with that tile.

    Returns:
        Tile and halo in px.
    """
    if len(geometries) == 1 and not separation:
        return geometries[0]
    network, info = load_checkpoint(best)
    validation.compute.place(network)
    maps: dict[Geometry, list[np.ndarray]] = {}
    scores = []
    with show_progress("trying tiles on validation") as advance:
        for done, (tile, halo) in enumerate(geometries, start=1):
            tried = replace(info, tile_px=tile, halo_px=halo)
            found = _predict(network, tried, validation)
            scores.append(_score_foreground(info, found, validation))
            maps[tile, halo] = found if separation else []
            advance(done, len(geometries), f"{tile} px")
    tile, halo = pick_geometry(geometries, scores)
    info = replace(info, tile_px=tile, halo_px=halo)
    if separation:
        watershed = _choose_separation(info, maps[tile, halo], validation)
        info = replace(info, inference={"watershed": dataclasses.asdict(watershed)})
    save_checkpoint(best, network, info)
    if len(geometries) > 1:
        table = pd.DataFrame(geometries, columns=["tile_px", "halo_px"])
        table["validation_dice"] = scores
        validation.run.log_text(table.to_csv(index=False), "geometry.csv")
        validation.run.set_tags({"bench.geometry": f"{tile} + {halo}"})
        log.info("tile %d px and halo %d px, chosen on validation (geometry.csv)", tile, halo)
    return tile, halo


def cheapest_first(
    geometries: tuple[Geometry, ...], shapes: Sequence[tuple[int, ...]]
) -> tuple[Geometry, ...]:
    """Orders tiles and halos by the pixels that are computed, and leaves out the dearest.

    Args:
        geometries: Tile and halo in px; the first is kept whatever it costs.
        shapes: Of the sections (y, x) as the network sees them.

    Examples:
        >>> offered = ((384, 64), (512, 64), (512, 128), (1024, 64))
        >>> cheapest_first(offered, [(512, 512)])
        ((512, 64), (512, 128), (384, 64))
        >>> cheapest_first(offered, [(2048, 2048)])
        ((1024, 64), (512, 64), (384, 64), (512, 128))
    """

    def cost(geometry: Geometry) -> int:
        tile, halo = geometry
        tiles = sum(math.prod(-(-side // tile) for side in shape) for shape in shapes)
        return tiles * (tile + 2 * halo) ** 2

    limit = _DEAREST * min(map(cost, geometries))
    kept = [g for g in geometries if g == geometries[0] or cost(g) <= limit]
    return tuple(sorted(kept, key=cost))


def pick_geometry(geometries: tuple[Geometry, ...], scores: list[float]) -> Geometry:
    """The first whose score is within TOLERANCE of the best.

    Examples:
        >>> pick_geometry(((384, 64), (512, 64), (512, 128)), [0.770, 0.7731, 0.774])
        (512, 64)
    """
    good = max(scores) - TOLERANCE
    return next(g for g, score in zip(geometries, scores, strict=True) if score >= good)


def _predict(network: torch.nn.Module, info: ModelInfo, validation: Validation) -> list[np.ndarray]:
    """Probabilities (channels, y, x) uint8 of the validation sections."""
    predictions = predict_all_at_model_scale(
        network,
        (raw for raw, _ in validation.sections.values()),
        info=info,
        pixel_size_nm=validation.data.dataset.pixel_size_nm,
        compute=validation.compute,
    )
    return list(predictions)


def _score_foreground(info: ModelInfo, maps: list[np.ndarray], validation: Validation) -> float:
    """Dice over all validation sections at a probability of one half, mean over structures."""
    level, structures = threshold_level(_HALF), validation.data.structures
    counts = dict.fromkeys(structures, PixelCounts())
    for (name, (_, labels)), channels in zip(validation.sections.items(), maps, strict=True):
        ignored = find_open(validation.levels.get(name))
        truths = labels if len(structures) > 1 else labels[None]
        for structure, truth in zip(structures, truths, strict=True):
            found = channels[foreground_channel(info, structure)] >= level
            counts[structure] += count_pixels(truth=truth, prediction=found, ignored=ignored)
    return statistics.fmean(map(dice_score, counts.values()))


def _choose_separation(
    info: ModelInfo, maps: list[np.ndarray], validation: Validation
) -> WatershedSettings:
    """The settings of the watershed that separate instances best; the run gets all scores."""
    data = validation.data
    foreground = foreground_channel(info, data.structure)
    boundary = info.outputs.index("boundary")
    settings = settings_from_annotations(
        (data.read(name)[1] for name in data.names), pixel_size_nm=data.dataset.pixel_size_nm
    )
    predicted = (
        (labels, channels[foreground], channels[boundary])
        for (_, labels), channels in zip(validation.sections.values(), maps, strict=True)
    )
    with say_while("choosing the separation of touching instances on validation"):
        chosen, scores = choose_watershed(
            predicted,
            threshold_level=threshold_level(_HALF),
            opening_radius_px=settings.opening_radius_px,
            min_area_px=settings.min_area_px,
            levels=map(validation.levels.get, validation.sections),
        )
    validation.run.log_text(pd.DataFrame(scores).to_csv(index=False), "watershed.csv")
    log.info("separation of touching instances: %s", chosen.origin)
    return chosen
