"""Trains a pixel classifier as a run: filters, two stages of trees, a threshold of validation."""

import dataclasses
import itertools
import math
import time
from collections.abc import Iterator
from operator import attrgetter

import numpy as np
import pandas as pd
import torch

from bench.config.training import FinetuneConfig
from bench.core.progress import say_while
from bench.inference.device import Compute
from bench.metrics.curves import LEVELS
from bench.models.checkpoint import ModelInfo, save_checkpoint
from bench.models.pixels.pixel_classifier import HALO_PX, PixelClassifier, fit_tile
from bench.report.figures.importances import draw_importances
from bench.steps.training.balance import limit_of
from bench.steps.training.data import TrainingData, log_checkpoints
from bench.steps.training.reports.sections import TrainingReport
from bench.tracking.runs import Run
from bench.training.loop import Progress
from bench.training.pixels.fitting import (
    USUAL_WORK,
    Fitted,
    PixelFeatures,
    PixelWork,
    fit_classifier,
)
from bench.training.pixels.pace import plan_work, time_features
from bench.training.pixels.pieces import Piece, Place, choose_places, list_places, make_piece

# Largest edge of a tile in px. A prediction does not depend on it.
_TILE_PX = 1024


def train_pixels(
    *, config: FinetuneConfig, info: ModelInfo, data: TrainingData, compute: Compute, run: Run
) -> Progress:
    """Fits a pixel classifier on filters: see fit_pixels."""
    return fit_pixels(config, info, data, compute, run, PixelFeatures())


def fit_pixels(
    config: FinetuneConfig,
    info: ModelInfo,
    data: TrainingData,
    compute: Compute,
    run: Run,
    features: PixelFeatures,
) -> Progress:
    """Fits trees on pixels, chooses their threshold on validation, and keeps them in our format.

    A run that was interrupted begins anew, as all of it takes a minute.

    Args:
        config: The settings.
        info: What the model is, without its trees.
        data: The annotated sections.
        compute: Where features are computed; trees are fitted and applied on the CPU.
        run: The run.
        features: What the trees see.
    """
    begun = time.monotonic()
    work = _plan(config, info, data, compute, features)
    places = _choose_places(data, work, config.seed)
    with say_while(f"filtering {len(places)} pieces of {len(data.names)} sections"):
        pieces = list(_read_pieces(data, places, compute.device, features))
    filtered_s = time.monotonic() - begun
    with say_while("fitting trees"):
        fitted = fit_classifier(pieces, work, config.seed, features.assemble)
    elapsed_s = time.monotonic() - begun
    _describe_fit(run, fitted, pieces, work)
    network = fitted.classifier.to(compute.device)
    info = dataclasses.replace(
        info,
        arguments=info.arguments | network.sizes,
        tile_px=fit_tile([side for piece in pieces for side in piece.sides_px], _TILE_PX),
        halo_px=HALO_PX,
    )
    report = _PixelReport(
        run=run,
        info=info,
        compute=compute,
        advance=lambda done, remark: None,
        sections=data.validation(),
        levels=data.validation_levels(),
        pixel_size_nm=data.dataset.pixel_size_nm,
    )
    tree_s = (elapsed_s - filtered_s) / len(fitted.losses)
    for trees, loss in enumerate(fitted.losses, start=1):
        until_s = elapsed_s - (len(fitted.losses) - trees) * tree_s
        numbers = {"loss": float(loss), "seconds": tree_s, "elapsed_s": until_s}
        report.on_iteration(trees, numbers)
    with say_while("choosing the threshold on validation"):
        score = report.validate(network)
    report.on_epoch(work.trees, score, best=True)
    save_checkpoint(run.work / "last.safetensors", network, report.describe(work.trees, score))
    log_checkpoints(run, ("best", "last"))
    return Progress(work.trees, score, work.trees, time.monotonic() - begun)


def _plan(
    config: FinetuneConfig,
    info: ModelInfo,
    data: TrainingData,
    compute: Compute,
    features: PixelFeatures,
) -> PixelWork:
    """How much is done: what suffices, or what the minutes allow."""
    usual = USUAL_WORK[info.architecture]
    if config.minutes is None:
        return usual
    shapes = [data.dataset.shape(name) for name in data.dataset.sections("val")]
    speed = time_features(features.find_maps, compute.device)
    tile_px = fit_tile([side for shape in shapes for side in shape], _TILE_PX)
    tiles = sum(-(-y // tile_px) * -(-x // tile_px) for y, x in shapes)
    return plan_work(
        config.minutes,
        speed,
        usual,
        training_px=sum(math.prod(data.dataset.shape(name)) for name in data.names),
        validation_s=tiles * speed.tile_s(tile_px),
    )


def _choose_places(data: TrainingData, work: PixelWork, seed: int) -> list[Place]:
    places = []
    for number, name in enumerate(data.names):
        _, labels = data.at_fed_scale(*data.read(name))
        places += list_places(number, labels > 0)
    return choose_places(places, work.area_px, np.random.default_rng(seed))


def _read_pieces(
    data: TrainingData, places: list[Place], device: torch.device, features: PixelFeatures
) -> Iterator[Piece]:
    for number, of_section in itertools.groupby(places, key=attrgetter("section")):
        name = data.names[number]
        raw, labels = data.at_fed_scale(*data.read(name))
        ignored = data.ignored_in(name)
        for place in of_section:
            yield make_piece(raw, labels > 0, ignored, place, features.find_maps, device)


def _describe_fit(run: Run, fitted: Fitted, pieces: list[Piece], work: PixelWork) -> None:
    """Logs how much was done, how large the model is, and which features decided."""
    run.log_settings(dataclasses.asdict(work) | {"pieces": len(pieces)})
    run.log_facts({"model/parameters": fitted.classifier.nodes})
    table = pd.DataFrame(fitted.importances.items(), columns=["feature", "share"])
    run.log_text(table.to_csv(index=False), "importances.csv")
    run.log_figure(draw_importances(fitted.importances), "importances.png")


class _PixelReport(TrainingReport):
    """A training report that moves the model's limit as validation says, by the rule of balance."""

    def validate(self, network: torch.nn.Module) -> float:
        """Predicts the validation sections; returns Dice over all their pixels at the limit.

        What is at or above the limit has a probability of one half or more from then on. Where the
        validation sections have nothing of the structure, the limit stays.
        """
        assert isinstance(network, PixelClassifier)
        level, curve = self.score_levels(network, balanced=True)
        share = limit_of(level)
        network.shift += math.log((1 - share) / share)
        table = pd.DataFrame({"level": range(LEVELS), "validation_dice": curve})
        self.run.log_text(table.to_csv(index=False), "thresholds.csv")
        self.run.log_facts({"validation/threshold": share})
        return float(curve[level])
