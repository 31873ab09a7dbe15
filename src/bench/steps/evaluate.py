"""Score a trained model on a split: predictions, scores, pictures."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.config.scoring import EvaluateConfig
from bench.core.progress import say_while
from bench.inference.prediction import SectionPrediction
from bench.metrics.measures import ClassMaps
from bench.metrics.overlap import IS_OPEN
from bench.postprocess.instances import Instances
from bench.recipe.orthoplanes import MEAN_OF_PLANES, PUBLISHED_PLANES
from bench.recipe.scores import SplitResult
from bench.recipe.volumes import StageReport
from bench.steps.scoring.evaluation_report import (
    describe_data,
    log_confusion,
    log_curve,
    log_ignored,
    log_pictures,
    log_recipe,
    log_scores,
)
from bench.steps.scoring.evaluation_subject import each_structure
from bench.steps.scoring.evaluation_task import (
    EvaluationTask,
    identify_evaluation,
    resolve_evaluation,
    resolved_evaluation,
)
from bench.steps.scoring.external import HomeRecipe, describe_resampling
from bench.steps.scoring.predicting import predict_split
from bench.steps.scoring.prompted import evaluate_prompts
from bench.steps.scoring.saying import say_scores
from bench.steps.scoring.sphere_report import SphereReport
from bench.steps.scoring.units import Unit, segment_unit
from bench.steps.training.data import warn_of_scales
from bench.steps.used_data import describe_run
from bench.tracking.evaluations import find_evaluation_of
from bench.tracking.opening import open_run
from bench.tracking.queries import SCORED_ON_TAG, TRAINED_ON_TAG, read_settings, scratch_folder
from bench.tracking.runs import Run
from bench.tracking.store import Store, open_store
from bench.training.targets import make_classes
from bench.words import AUTO

log = logging.getLogger(__name__)
_Advance = Callable[[int, int, str], None]

# What a reader of a table must know.
_ALONG_ALL = {
    MEAN_OF_PLANES: "mean of planes along z, y and x (planes=orthogonal)",
    PUBLISHED_PLANES: "planes along z, y and x, floored and added up as published",
}
# A prediction that loses more than this share to post-processing is reported.
_REPORTED_LOSS = 0.5


def evaluate(config: EvaluateConfig, store: Store | None = None, parent: str | None = None) -> str:
    """Evaluates a model and returns the id of the evaluation's run.

    Args:
        config: The settings.
        store: The tracking store; opened if not given.
        parent: Id of the run that this one is a child of.

    Raises:
        BenchError: If there is no such model, or it does not fit the dataset.
    """
    store = store or open_store()
    with scratch_folder() as folder:
        # Of classes, the first structure's predictions hold those of all.
        earlier: Path | None = None
        *others, last = each_structure(config, store)
        for each in others:
            run_id, found = _evaluate_structure(each, store, parent, Path(folder), earlier)
            earlier = earlier or found
            # Those of the last are said where the command ends.
            say_scores(store, run_id)
        run_id, _ = _evaluate_structure(last, store, parent, Path(folder), earlier)
    return run_id


def _evaluate_structure(
    config: EvaluateConfig, store: Store, parent: str | None, scratch: Path, earlier: Path | None
) -> tuple[str, Path | None]:
    """Evaluates a model for a structure.

    Args:
        config: The settings.
        store: The tracking store.
        parent: Id of the run that this one is a child of.
        scratch: Where files are on their way to the run.
        earlier: Predictions of the same model for another of its classes; None without them.

    Returns:
        Id of the run, and its predictions; None where it was finished before.
    """
    task = resolve_evaluation(config, store)
    run = open_run(store, identify_evaluation(task), parent=parent)
    if run.reused:
        return run.id, None
    folder = scratch / task.structure.name
    folder.mkdir()
    with run:
        describe_run(run, task.dataset, config, resolved_evaluation(task), config.split)
        _describe_task(run, task)
        if task.prompts:
            evaluate_prompts(task, task.prompts, run, folder)
            return run.id, None
        predictions = folder / "predictions.h5"
        followed = None if earlier else _followed_engine(task, store)
        task = predict_split(task, run, predictions, earlier, followed)
        _report_predictions(task, run, predictions)
    return run.id, predictions


def _followed_engine(task: EvaluationTask, store: Store) -> str | None:
    """What computed the newest evaluation of a trained model, where ``auto`` asks; None without."""
    trained = task.subject.run_id
    if task.config.engine != AUTO or not trained:
        return None
    found = find_evaluation_of(store, trained, task.structure.name)
    return read_settings(store, found.id).get("engine") if found else None


def _report_predictions(task: EvaluationTask, run: Run, predictions: Path) -> None:
    """Scores what was predicted, and leaves scores, pictures, predictions and recipe in the run."""
    config = task.config
    with say_while("scoring"):
        result = _score_split(task, run, predictions)
    # First, as the page that compares runs opens on what was logged first.
    log_scores(run, result, config.split)
    log_curve(run, result, task.recipe.level)
    log_confusion(run, result, task.info.outputs)
    _report_removal(task, run, result)
    describe_data(run, task.units, task.structure.name, task.subject.cell)
    log_ignored(run, task.units, task.structure.name, config.split)
    with say_while("drawing pictures"):
        log_pictures(
            run,
            task.units,
            task.structure.name,
            result,
            lambda unit: _segment_stored(task, predictions, unit)[1],
        )
    run.log_file(predictions)
    # The scores of other data are none that the recipe was chosen by.
    split = "" if task.origin else config.split
    log_recipe(run, task.recipe, result, split, predictions.parent)


def _describe_task(run: Run, task: EvaluationTask) -> None:
    """Says in a run what is scored and how, and what a reader of its scores must know."""
    run.set_tags(
        {
            "bench.split": task.config.split,
            "bench.protocol": task.config.protocol,
            "bench.augmentations": task.config.augmentations,
            "bench.trained_run": task.subject.run_id or "none",
        }
    )
    if task.origin:
        _describe_origin(run, task, task.origin)
    run.keep_warnings(task.subject.warnings)
    if task.recipe.volume and task.recipe.volume.planes:
        run.keep_warnings([_ALONG_ALL[task.recipe.volume.planes]])
    sizes = [task.dataset.pixel_size_nm]
    warn_of_scales(run, [task.info], sizes, rescale=task.recipe.rescale)


def _describe_origin(run: Run, task: EvaluationTask, origin: HomeRecipe) -> None:
    """Says in a run that its model was trained on other data, and how this was fed to it."""
    dataset = task.dataset
    run.set_tags(
        {
            TRAINED_ON_TAG: origin.dataset,
            SCORED_ON_TAG: f"{dataset.root.name}@{dataset.content_hash}",
        }
    )
    fed = describe_resampling(dataset, task.info, task.recipe)
    log.info("trained on %s, scored on %s: %s", origin.dataset, dataset.root.name, fed)
    run.keep_warnings([fed])


def _segment_stored(
    task: EvaluationTask, predictions: Path, unit: Unit, on_stage: StageReport | None = None
) -> tuple[SectionPrediction, Instances]:
    """The mean of the stored maps of a section or volume, and its instances by the recipe."""
    prediction = unit.read_mean(predictions, task.recipe.augmentations)
    return prediction, segment_unit(task.recipe, unit, prediction, on_stage)


def _score_split(task: EvaluationTask, run: Run, predictions: Path) -> SplitResult:
    result = SplitResult(
        metrics=task.metrics,
        pixel_size_nm=task.dataset.pixel_size_nm,
        voxel_size_nm=task.units[0].voxel_size_nm,
    )
    spheres = SphereReport()
    for unit in task.units:
        truth = unit.read_labels(task.structure.name)
        levels = unit.read_levels(task.structure.name)
        prediction, instances = _segment_stored(
            task, predictions, unit, spheres.measure(truth, levels)
        )
        spheres.add(unit, instances)
        result.add(
            unit.name,
            truth=truth,
            probability=prediction.foreground,
            instances=instances,
            classes=_read_classes(task, predictions, unit),
            levels=levels,
        )
    spheres.log(run, task.config.split)
    return result


def _read_classes(task: EvaluationTask, predictions: Path, unit: Unit) -> ClassMaps | None:
    """The classes of a unit, where all are annotated that the model has."""
    names = task.scored_classes
    if not names:
        return None
    truth = make_classes(np.stack([unit.read_labels(name) for name in names]))
    found = unit.read_classes(predictions, task.recipe.augmentations)
    opened = [each == IS_OPEN for name in names if (each := unit.read_levels(name)) is not None]
    ignored = np.logical_or.reduce(opened) if opened else None
    return ClassMaps(truth, found, 1 + len(names), ignored)


def _report_removal(task: EvaluationTask, run: Run, result: SplitResult) -> None:
    removed = result.removed_fraction()
    run.log_metrics({f"{task.config.split}/postprocess_removed_fraction": removed})
    log.info("post-processing: %s", task.recipe.origin)
    if removed > _REPORTED_LOSS:
        other = "protocol=data or " if task.config.protocol == "paper" else ""
        run.add_warning(
            f"post-processing (opening {task.recipe.opening_radius_px} px, smallest area "
            f"{task.recipe.min_area_px} px) removed {100 * removed:.0f} % of the predicted "
            f"{task.structure.name}: use {other}a smaller "
            "opening_radius_px or min_area_px"
        )
