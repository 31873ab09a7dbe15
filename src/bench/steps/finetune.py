"""Train a network on the annotated sections of a structure, or of several as classes."""

import dataclasses
import logging
import time
from collections.abc import Callable
from typing import Any

import torch

from bench.config.training import FinetuneConfig
from bench.core.progress import show_progress
from bench.dataset.partial import is_partial
from bench.inference.prediction import fixed_moments, model_shape
from bench.methods import VALIDATION
from bench.models.checkpoint import load_checkpoint, save_checkpoint
from bench.models.networks import Geometry, find_function, find_network
from bench.steps.training.balance import MOVED_LIMIT, balance_network
from bench.steps.training.choices import Validation, cheapest_first, choose_inference
from bench.steps.training.classes import warn_of_overlaps
from bench.steps.training.data import (
    TrainingData,
    conclude_run,
    log_checkpoints,
    loop_settings,
    measure_network,
    note_grey_values,
    warn_of_patches,
    warn_of_scales,
)
from bench.steps.training.finetune_task import (
    FinetuneTask,
    identify_finetune,
    mask_threshold,
    patch_settings,
    resolve_finetune,
    resolved_settings,
    volume_patches,
)
from bench.steps.training.minutes import plan_loop
from bench.steps.training.pseudo import describe_gain, without_pseudo
from bench.steps.training.reports.classes import ClassTrainingReport
from bench.steps.training.reports.sections import TrainingReport
from bench.steps.training.reports.volumes import VolumeTrainingReport
from bench.steps.training.snapshots import finish_snapshots, kept_iterations
from bench.steps.training.transfer import start_network
from bench.steps.training.volumes import (
    VolumeTrainingData,
    make_volume_feed,
    warn_of_small_volumes,
)
from bench.steps.used_data import describe_run
from bench.structures import split_structures
from bench.tracking.opening import open_run
from bench.tracking.runs import Run
from bench.tracking.store import Store, open_store
from bench.training.ahead import Feed, draw_ahead
from bench.training.loop import Progress, make_trainee, train
from bench.training.objectives import Loss, make_loss, supervised
from bench.training.patches import MixedFeed, PatchFeed, divide_batch

log = logging.getLogger(__name__)
# A model whose validation Dice is lower has learned next to nothing.
_LITTLE = 0.1


def finetune(config: FinetuneConfig, store: Store | None = None, parent: str | None = None) -> str:
    """Trains a model and returns the id of its run.

    Args:
        config: The settings.
        store: The tracking store; opened if not given.
        parent: Id of the run that this one is a child of.

    Raises:
        BenchError: If the settings, the dataset or the source do not fit together.
    """
    begun = time.monotonic()
    store = store or open_store()
    task = resolve_finetune(config, store)
    log.info("%s %s starts from %s", task.method.name, task.structure.name, task.source.name)
    run = open_run(store, identify_finetune(task), parent=parent)
    if run.reused:
        return run.id
    with run:
        describe_run(run, task.dataset, config, resolved_settings(task), "training")
        if config.labelled:
            run.set_tags({f"bench.labelled_{task.data.kind}": ", ".join(task.data.names)})
        run.keep_warnings(f"its source: {warning}" for warning in task.source.warnings)
        size_nm = task.dataset.pixel_size_nm
        warn_of_scales(run, [task.source.info], [size_nm], rescale=config.rescale)
        if isinstance(task.data, TrainingData):
            warn_of_patches(run, task.data, task.config.patch_px or 0)
            warn_of_overlaps(run, task.class_weights)
        else:
            patches = volume_patches(task)
            run.set_tags({"bench.augmentation": str(patches.augmentation)})
            warn_of_small_volumes(run, task.data, task.info, patches.shape)
        if task.method.loss not in ("", task.config.loss):
            run.add_warning(
                f"trained with loss={task.config.loss}, method {task.method.name} stands for "
                f"{task.method.loss}: what tables call it is not what it is"
            )
        task = dataclasses.replace(task, info=note_grey_values(task.info, task.dataset))
        progress = _train(task, run, begun)
        conclude_run(run, f"{task.method.name} {task.structure.name}", progress, task.compute)
        _warn_of_little(task, run, progress)
        if task.pseudo:
            same = dataclasses.replace(task, config=without_pseudo(task.config), pseudo=None)
            plain = identify_finetune(same)
            gain = describe_gain(task.pseudo, config, progress.best_score, plain, store)
            run.add_warning(gain)
    return run.id


def _warn_of_little(task: FinetuneTask, run: Run, progress: Progress) -> None:
    if progress.best_score >= _LITTLE:
        return
    remedy, own = "train longer", find_network(task.info.architecture).trained_by is None
    if own and not task.info.classes and task.config.loss != "dice":
        remedy += ", or try loss=dice, which finds what is rare sooner"
    run.add_warning(
        f"validation Dice was {progress.best_score:.3f} at best, so that next to nothing of the "
        f"structure was learned in {progress.iteration} iterations: {remedy}"
    )


def _train(task: FinetuneTask, run: Run, begun: float) -> Progress:
    network = find_network(task.info.architecture)
    if network.trained_by is None:
        return _train_task(task, run, begun)
    source = {"source": task.source.path} if network.takes_source else {}
    progress: Progress = find_function(network.trained_by)(
        config=task.config, info=task.info, data=task.data, compute=task.compute, run=run, **source
    )
    return progress


def _train_task(task: FinetuneTask, run: Run, begun: float) -> Progress:
    config, settings = task.config, loop_settings(task.config)
    torch.manual_seed(config.seed)
    network = start_network(config, task.info, task.source, run)
    measure_network(run, network, task.compute)
    trainee = make_trainee(network, settings, task.compute)
    feed = _make_feed(task)
    loss = _make_loss(task)
    with (
        show_progress(f"{task.method.name} {task.structure.name}") as advance,
        draw_ahead(feed, task.compute.device) as batches,
    ):
        report = _make_report(
            task, run, lambda done, remark: advance(done, max(done, settings.iterations), remark)
        )
        geometries = _list_geometries(task, report)
        settings, budget = plan_loop(
            *(run, config, settings, trainee),
            lambda tried: supervised(tried.network, feed, loss, task.compute),
            begun=begun,
            own_lr=task.method.lr,
            closing=len(geometries) if len(geometries) > 1 else 0,
        )
        progress = train(
            trainee,
            supervised(network, batches, loss, task.compute),
            settings,
            state_file=run.work / "state.safetensors",
            reports=report.callbacks(),
            snapshots=kept_iterations(config),
            budget=budget,
        )
    if progress.timing and not progress.timing.closes:
        # There was no time to try anything on validation.
        geometries = ((task.info.tile_px, task.info.halo_px),)
    _keep_models(task, run, report, network, progress.iteration, geometries)
    return progress


def _keep_models(
    task: FinetuneTask,
    run: Run,
    report: TrainingReport,
    network: torch.nn.Module,
    iterations: int,
    geometries: tuple[Geometry, ...],
) -> None:
    """Chooses how the best model is applied, and keeps it beside the last one."""
    if task.config.balance == VALIDATION:
        best, found = load_checkpoint(report.best)
        found = balance_network(best, found)
        save_checkpoint(report.best, best, found)
        limit = found.training[MOVED_LIMIT]
        run.set_tags({"bench.limit": f"{limit:.3f}"})
        log.info("foreground from a probability of %.3f on, chosen on validation", limit)
    tile_px, halo_px = _choose_inference(task, run, report, geometries)
    info = report.describe(iterations, None)
    info = dataclasses.replace(info, tile_px=tile_px, halo_px=halo_px)
    save_checkpoint(run.work / "last.safetensors", network, info)
    log_checkpoints(run, ("best", "last", *finish_snapshots(run.work, task.config)))


def _make_loss(task: FinetuneTask) -> Loss:
    return make_loss(
        task.config.loss,
        gamma=task.config.focal_gamma,
        foreground_weight=task.foreground_weight,
        class_weights=task.class_weights.values,
        weighted=task.pseudo is not None or _is_partial(task),
    )


def _is_partial(task: FinetuneTask) -> bool:
    """Whether a part of what is learned from is not annotated."""
    return is_partial(task.dataset, split_structures(task.structure.name), ("train",))


def _make_feed(task: FinetuneTask) -> Feed:
    device = task.compute.device
    if isinstance(task.data, VolumeTrainingData):
        return make_volume_feed(task.data, task.info, volume_patches(task), device)
    moments = fixed_moments(task.info)
    patches = patch_settings(task.config)
    outputs = task.info.outputs
    annotated = task.data.train()
    ignored = task.data.ignored()
    if task.pseudo is None:
        return PatchFeed(annotated, patches, device, outputs, moments, ignored)
    own, others = divide_batch(patches, task.config.pseudo_fraction)
    sections = task.pseudo.train()
    unsure = task.pseudo.unsure(raw.shape for raw, _ in sections)
    return MixedFeed(
        PatchFeed(annotated, own, device, outputs, moments, ignored),
        PatchFeed(sections, others, device, outputs, moments, unsure),
        task.config.pseudo_weight,
    )


def _make_report(
    task: FinetuneTask, run: Run, advance: Callable[[int, str], None]
) -> TrainingReport:
    common: dict[str, Any] = {"run": run, "info": task.info, "compute": task.compute}
    common["advance"] = advance
    if isinstance(task.data, VolumeTrainingData):
        return VolumeTrainingReport(
            dataset=task.dataset,
            structure=task.structure.name,
            threshold=mask_threshold(task),
            **common,
        )
    report = ClassTrainingReport if task.info.classes else TrainingReport
    return report(
        sections=task.data.validation(),
        levels=task.data.validation_levels(),
        pixel_size_nm=task.dataset.pixel_size_nm,
        balanced=task.config.balance == VALIDATION,
        **common,
    )


def _list_geometries(task: FinetuneTask, report: TrainingReport) -> tuple[Geometry, ...]:
    """Tiles and halos that validation chooses from, the cheapest on its sections first."""
    info, config, size_nm = task.info, task.config, task.dataset.pixel_size_nm
    of_volumes = isinstance(task.data, VolumeTrainingData)
    if of_volumes or config.tile_px is not None or config.halo_px is not None:
        return ((info.tile_px, info.halo_px),)
    fed_nm = info.input_pixel_size_nm
    shapes = [model_shape(raw.shape, fed_nm, size_nm) for raw, _ in report.sections.values()]
    return cheapest_first(find_network(info.architecture).choices(info.arguments), shapes)


def _choose_inference(
    task: FinetuneTask,
    run: Run,
    report: TrainingReport,
    geometries: tuple[Geometry, ...],
) -> Geometry:
    """Chooses what is auto of how the best model is applied; returns its tile and halo."""
    info = task.info
    if isinstance(task.data, VolumeTrainingData):
        # It has no separation.
        return geometries[0]
    validation = Validation(task.data, report.sections, task.compute, run, report.levels)
    return choose_inference(
        report.best,
        validation,
        geometries,
        separation="boundary" in info.outputs,
    )
