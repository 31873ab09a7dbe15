"""Train a detector on the boxes of the annotated instances."""

import logging
import time
from typing import cast

from bench.config.detection import DetectConfig
from bench.core.progress import show_progress
from bench.models.checkpoint import ModelInfo, load_info, save_checkpoint
from bench.models.detection.detector import Detector
from bench.models.networks import find_network
from bench.steps.detection.detect_report import DetectReport
from bench.steps.detection.detect_task import (
    DetectTask,
    box_patch_settings,
    identify_detection,
    resolve_detection,
    resolved_detection,
    start_detector,
)
from bench.steps.training.data import (
    log_checkpoints,
    log_training_costs,
    loop_settings,
    measure_network,
    note_grey_values,
)
from bench.steps.training.minutes import plan_loop
from bench.steps.used_data import describe_run
from bench.tracking.opening import open_run
from bench.tracking.runs import Run
from bench.tracking.store import Store, open_store
from bench.training.box_patches import BoxPatchFeed, detecting
from bench.training.loop import Progress, make_trainee, train

log = logging.getLogger(__name__)

# A detector that is worse is worth a word.
_POOR_AP = 0.3


def detect(config: DetectConfig, store: Store | None = None, parent: str | None = None) -> str:
    """Trains a detector and returns the id of its run.

    Args:
        config: The settings.
        store: The tracking store; opened if not given.
        parent: Id of the run that this one is a child of.

    Raises:
        BenchError: If the settings, the dataset or the source do not fit together.
    """
    begun = time.monotonic()
    store = store or open_store()
    task = resolve_detection(config, store)
    run = open_run(store, identify_detection(task), parent=parent)
    if run.reused:
        return run.id
    with run:
        if terms := find_network(task.info.architecture).terms:
            log.warning(
                "%s is computed by %s, which the model needs wherever it is used",
                task.info.architecture,
                terms,
            )
        network, (taken, total) = start_detector(task)
        if task.source:
            log.info("took %d of %d tensors from %s", taken, total, config.source)
        info = note_grey_values(task.info, task.dataset)
        measure_network(run, network, task.compute)
        describe_run(run, task.dataset, config, resolved_detection(task), "training")
        progress = _train_detector(task, run, network, info, begun)
        _conclude(task, run, progress)
    return run.id


def _train_detector(
    task: DetectTask, run: Run, network: Detector, info: ModelInfo, begun: float
) -> Progress:
    settings = loop_settings(task.config)
    trainee = make_trainee(network, settings, task.compute)
    sections = task.data.train()
    ignored = task.data.ignored()
    feed = BoxPatchFeed(sections, box_patch_settings(task.config), task.config.zoom, ignored)
    with show_progress(f"{task.method.name} {task.structure.name}") as advance:
        report = DetectReport(
            run=run,
            sections=task.data.validation(),
            levels=task.data.validation_levels(),
            pixel_size_nm=task.dataset.pixel_size_nm,
            info=info,
            compute=task.compute,
            advance=lambda done, remark: advance(done, max(done, settings.iterations), remark),
        )
        settings, budget = plan_loop(
            *(run, task.config, settings, trainee),
            lambda tried: detecting(cast(Detector, tried.network), feed, task.compute),
            begun=begun,
        )
        progress = train(
            trainee,
            detecting(network, feed, task.compute),
            settings,
            state_file=run.work / "state.safetensors",
            reports=report.callbacks(),
            budget=budget,
        )
    last = run.work / "last.safetensors"
    save_checkpoint(last, network, report.describe(progress.iteration, None))
    log_checkpoints(run, ("best", "last"))
    return progress


def _conclude(task: DetectTask, run: Run, progress: Progress) -> None:
    """Says what came out."""
    at_half = load_info(run.work / "best.safetensors").training["val_box_ap50"]
    run.log_metrics({"best/box_ap": progress.best_score, "best/box_ap50": at_half})
    log_training_costs(run, progress, task.compute)
    log.info(
        "%s: validation AP %.3f (at IoU 0.5 %.3f) at iteration %d, %.0f s of training, run %s",
        f"{task.method.name} {task.structure.name}",
        progress.best_score,
        at_half,
        progress.best_iteration,
        progress.elapsed_s,
        run.id,
    )
    if at_half < _POOR_AP:
        run.add_warning(
            f"few boxes are right: average precision at IoU 0.5 is {at_half:.2f} on validation: "
            "train longer, annotate more, or change lr"
        )
