"""Which model segments new images, and how its output becomes instances."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.config import AUTO, NONE, SegmentConfig
from bench.errors import BenchError
from bench.hashing import file_sha256
from bench.models.checkpoint import ModelInfo, load_info
from bench.postprocess.settings import PostprocessSettings
from bench.postprocess.watershed import WatershedSettings
from bench.steps.export_subject import find_weights
from bench.steps.source import fetch_checkpoint
from bench.tracking.evaluations import (
    Evaluation,
    find_evaluation_of,
    get_evaluation,
    is_evaluation,
)
from bench.tracking.queries import Cell, get_trained
from bench.tracking.store import Store

log = logging.getLogger(__name__)

# Where no evaluation says it.
THRESHOLD = 0.5


@dataclass(frozen=True)
class Subject:
    """A model.

    Attributes:
        cell: What it is, as the benchmark names it.
        run_id: The run that the user named, or that made it.
        weights: Its checkpoint.
        sha256: Hash of the checkpoint.
        info: What the checkpoint says.
        evaluation: The evaluation that its settings are taken from; None without one.
        warnings: What a reader of its results must know.
    """

    cell: Cell
    run_id: str
    weights: Path
    sha256: str
    info: ModelInfo
    evaluation: Evaluation | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """From a model's output to instances.

    Attributes:
        threshold: Probability from which a pixel is foreground.
        postprocess: Opening and smallest area.
        watershed: How touching instances are separated; None leaves them together.
        rescale: Whether images are resampled to the model's pixel size.
        origin: Where all of this comes from, one sentence.
    """

    threshold: float
    postprocess: PostprocessSettings
    watershed: WatershedSettings | None
    rescale: bool
    origin: str


def find_subject(run_id: str, store: Store) -> Subject:
    """Finds the model of a training or an evaluation.

    Raises:
        BenchError: If the run does not exist or has no model.
    """
    if run_id == AUTO:
        raise BenchError(
            "segment needs a model, received run_id=auto: give the id of a training or an "
            "evaluation, as the MLflow UI and the benchmark table name it"
        )
    if not is_evaluation(store, run_id):
        trained = get_trained(store, run_id)
        weights = fetch_checkpoint(store, trained.id)
        evaluation = find_evaluation_of(store, trained.id)
        cell, run_id, warnings = trained.cell, trained.id, trained.warnings
    else:
        evaluation = get_evaluation(store, run_id)
        weights = find_weights(evaluation, store)
        cell, warnings = Cell(evaluation.method, evaluation.structure, evaluation.dataset, 0), ()
        run_id = evaluation.trained_run or evaluation.id
        if evaluation.trained_run:
            trained = get_trained(store, evaluation.trained_run)
            cell, warnings = trained.cell, trained.warnings
    return Subject(
        cell, run_id, weights, file_sha256(weights), load_info(weights), evaluation, warnings
    )


def choose_recipe(config: SegmentConfig, subject: Subject) -> Recipe:
    """The recipe of the model's evaluation, with what the user set himself.

    Raises:
        BenchError: If there is no evaluation and the user did not set what it would say, or it
            is of other weights.
    """
    found = subject.evaluation
    recipe = default_recipe(config, subject) if found is None else read_recipe(found, subject)
    names = ("opening_radius_px", "min_area_px")
    sizes = {name: getattr(config, name) for name in names if getattr(config, name) is not None}
    others: dict[str, Any] = {
        name: getattr(config, name)
        for name in ("threshold", "rescale")
        if getattr(config, name) is not None
    }
    set_here = [*sizes, *others]
    if config.separation != AUTO:
        set_here.append("separation")
        others["watershed"] = None
    if found is not None and set_here:
        others["origin"] = f"{recipe.origin} Set by the user: {', '.join(set_here)}."
    return replace(recipe, postprocess=replace(recipe.postprocess, **sizes), **others)


def default_recipe(config: SegmentConfig, subject: Subject) -> Recipe:
    """The recipe of a model that was never evaluated."""
    radius, area = config.opening_radius_px, config.min_area_px
    if radius is None or area is None:
        raise BenchError(
            f"post-processing must follow an evaluation, run {subject.run_id} has none: evaluate "
            "it first, or give opening_radius_px and min_area_px"
        )
    origin = "Set by the user; the model was not evaluated."
    return Recipe(
        THRESHOLD,
        PostprocessSettings(radius, area, origin),
        read_watershed(subject.info),
        True,
        origin,
    )


def read_recipe(found: Evaluation, subject: Subject) -> Recipe:
    """The recipe that an evaluation used."""
    settings = found.settings
    if settings["weights_sha256"] != subject.sha256:
        raise BenchError(
            f"run {found.id} must have evaluated the model that is applied, {subject.weights} has "
            "changed since: evaluate it again"
        )
    if settings["segmentation"] != "own":
        raise BenchError(
            f"segment applies models its own way, run {found.id} evaluated with segmentation="
            f"{settings['segmentation']}: evaluate with segmentation=own, and segment again"
        )
    if (augmentations := settings.get("augmentations", NONE)) != NONE:
        log.warning(
            "evaluation %s scored the mean over augmentations=%s; segment predicts an image as it "
            "is, so expect the scores of augmentations=none",
            found.id,
            augmentations,
        )
    separated = settings["watershed"] != "none"
    return Recipe(
        threshold=float(settings["threshold"]),
        postprocess=PostprocessSettings(
            int(settings["opening_radius_px"]),
            int(settings["min_area_px"]),
            settings["postprocess_origin"],
        ),
        watershed=read_watershed(subject.info) if separated else None,
        rescale=settings["rescale"] == "True",
        origin=f"As evaluation {found.id} on {found.split}. {settings['postprocess_origin']}",
    )


def read_watershed(info: ModelInfo) -> WatershedSettings | None:
    """How a model says that touching instances are separated; None if it does not."""
    settings = info.inference.get("watershed")
    return WatershedSettings(**settings) if settings else None
