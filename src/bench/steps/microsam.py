"""Segment a structure with Segment Anything: as it is, trained on the sections, or prompted."""

import dataclasses
import logging
import time
from typing import Any, cast

import torch

from bench.config.training import MicrosamConfig
from bench.core.progress import show_progress
from bench.inference.sam.embedding_store import EmbeddingStore, open_embeddings
from bench.inference.sam.embeddings import embedding_bytes
from bench.methods import (
    PROMPTED,
)
from bench.models.checkpoint import ModelInfo, save_checkpoint
from bench.models.detection.detector_sam import DetectorSam
from bench.models.sam import SamNetwork, build_sam, merge_lora
from bench.steps.detection.detector_sam import (
    choose_on_validation,
    join_detector,
)
from bench.steps.training.data import (
    conclude_run,
    log_checkpoints,
    measure_network,
    note_grey_values,
    warn_of_scales,
)
from bench.steps.training.microsam_task import (
    FINETUNE,
    MicrosamTask,
    identify_microsam,
    instance_patches,
    resolve_microsam,
    resolved_microsam,
    sam_loop_settings,
    start_sam,
)
from bench.steps.training.minutes import plan_loop
from bench.steps.training.sam import (
    SamReport,
    choose_parts,
    cut_levels,
)
from bench.steps.used_data import describe_run
from bench.tracking.opening import open_run
from bench.tracking.runs import Run
from bench.tracking.store import Store, open_store
from bench.training.loop import Progress, make_trainee, train
from bench.training.sam.interactive import (
    SAM_LAYOUT,
    SamTrainingSettings,
    encoder_is_frozen,
    interactive,
    prepare_network,
)
from bench.training.sam.patches import InstancePatchFeed

log = logging.getLogger(__name__)

# Of the image encoder of vit_b.
_PUBLISHED_BLOCKS = 12


def microsam(config: MicrosamConfig, store: Store | None = None, parent: str | None = None) -> str:
    """Makes a model of a SAM and returns the id of its run.

    Args:
        config: The settings.
        store: The tracking store; opened if not given.
        parent: Id of the run that this one is a child of.

    Raises:
        BenchError: If the settings, the dataset or the source do not fit together.
    """
    begun = time.monotonic()
    store = store or open_store()
    task = resolve_microsam(config, store)
    run = open_run(store, identify_microsam(task), parent=parent)
    if run.reused:
        return run.id
    with run:
        torch.manual_seed(config.seed)
        sam, network, info = _start_network(task, run)
        measure_network(run, network, task.compute)
        describe_run(run, task.dataset, config, resolved_microsam(task, info), "training")
        _warn_of_toy(run, info)
        size_nm = task.dataset.pixel_size_nm
        warn_of_scales(run, [task.source.info], [size_nm], rescale=config.rescale)
        if config.mode == PROMPTED:
            _keep_network(task, run, sam, info)
            return run.id
        if config.mode == FINETUNE:
            progress = _train_network(task, run, sam, info, begun)
        else:
            progress = _preview_network(task, run, network, info)
        found_by = info.inference.get("segmentation", "the boxes of a detector")
        what = f"{task.method.name} {task.structure.name} by {found_by}"
        conclude_run(run, what, progress, task.compute)
    return run.id


def _start_network(
    task: MicrosamTask, run: Run
) -> tuple[SamNetwork, SamNetwork | DetectorSam, ModelInfo]:
    """The SAM, the network that segments (itself, or a detector before it), and what that is."""
    sam, info = start_sam(task)
    info = note_grey_values(info, task.dataset)
    if task.detector is None:
        return sam, sam, info
    network, info = join_detector(sam, info, task.detector, task.source.digest)
    network.to(task.compute.device)
    info = choose_on_validation(
        *(run, network, info, task.data.validation()),
        pixel_size_nm=task.dataset.pixel_size_nm,
        compute=task.compute,
        precision=task.config.sure_precision,
    )
    return sam, network, info


def _make_report(task: MicrosamTask, run: Run, info: ModelInfo, advance: Any) -> SamReport:
    # Boxes take one embedding a window: what is scored is what an evaluation scores.
    parts = choose_parts(task.data.validation(), whole=task.detector is not None)
    return SamReport(
        plain=lambda network: _merge_network(network, info),
        run=run,
        parts=parts,
        levels=cut_levels(parts, task.data.validation_levels()),
        pixel_size_nm=task.dataset.pixel_size_nm,
        info=info,
        compute=task.compute,
        advance=advance,
        trained=task.config.mode == FINETUNE,
    )


def _merge_network(network: torch.nn.Module, info: ModelInfo) -> torch.nn.Module:
    """The network itself, or a copy in which LoRA's updates are part of the matrices."""
    weights = network.state_dict()
    merged = merge_lora(weights)
    if merged.keys() == weights.keys():
        return network
    copy = build_sam(**info.arguments)
    copy.load_state_dict(merged)
    return copy


def _keep_network(task: MicrosamTask, run: Run, network: SamNetwork, info: ModelInfo) -> None:
    """Keeps the source with its prompts: what it comes to is known when it is evaluated."""
    weights = run.work / "best.safetensors"
    save_checkpoint(weights, network, info)
    log_checkpoints(run, ("best",))
    log.info("%s %s: kept with its prompts, run %s", task.method.name, task.structure.name, run.id)


def _preview_network(
    task: MicrosamTask, run: Run, network: SamNetwork | DetectorSam, info: ModelInfo
) -> Progress:
    network.to(task.compute.device)
    report = _make_report(task, run, info, advance=lambda *_: None)
    score = report.validate(network)
    # The overlays of step 0 are those before anything was found.
    report.on_epoch(1, score, best=False)
    save_checkpoint(report.best, network, report.describe(0, score))
    _warn_of_nothing(run, report)
    log_checkpoints(run, ("best",))
    return Progress(best_score=score)


def _train_network(
    task: MicrosamTask, run: Run, network: SamNetwork, info: ModelInfo, begun: float
) -> Progress:
    config, settings = task.config, sam_loop_settings(task.config)
    if config.lora_rank and "image_encoder" in config.freeze:
        log.info("lora_rank=%d trains the image encoder, it is not frozen", config.lora_rank)
    prepare_network(network, freeze=config.freeze, lora_rank=config.lora_rank)
    placed = dataclasses.replace(task.compute, layout=SAM_LAYOUT)
    trainee = make_trainee(network, settings, placed)
    sections = task.data.train()
    ignored = task.data.ignored()
    feed = InstancePatchFeed(sections, instance_patches(config, network), ignored)
    store = open_embeddings()
    _warn_of_space(run, network, config, store)
    sam_settings = SamTrainingSettings(config.sub_iterations, config.objects_per_batch)
    with show_progress(f"{task.method.name} {task.structure.name}") as advance:
        report = _make_report(
            *(task, run, info),
            lambda done, remark: advance(done, max(done, settings.iterations), remark),
        )
        settings, budget = plan_loop(
            *(run, config, settings, trainee),
            lambda tried: interactive(
                cast(SamNetwork, tried.network), feed, sam_settings, task.compute
            ),
            begun=begun,
            own_lr=task.method.lr,
        )
        progress = train(
            trainee,
            interactive(network, feed, sam_settings, task.compute, store),
            settings,
            state_file=run.work / "state.safetensors",
            reports=report.callbacks(),
            budget=budget,
        )
    _warn_of_nothing(run, report)
    last = run.work / "last.safetensors"
    save_checkpoint(last, _merge_network(network, info), report.describe(progress.iteration, None))
    log_checkpoints(run, ("best", "last"))
    return progress


def _warn_of_toy(run: Run, info: ModelInfo) -> None:
    blocks = int(info.arguments.get("sam", info.arguments)["depth"])
    if blocks < _PUBLISHED_BLOCKS:
        run.add_warning(
            f"this SAM has {blocks} transformer block(s), the smallest of micro-SAM that can be "
            f"used here {_PUBLISHED_BLOCKS}: its scores show that it runs, not what micro-SAM can "
            "do"
        )


def _warn_of_space(
    run: Run, network: SamNetwork, config: MicrosamConfig, store: EmbeddingStore | None
) -> None:
    """Warns where patches are used again, but their embeddings cannot be."""
    if config.patches is None or not encoder_is_frozen(network):
        return
    needed_bytes = config.patches * embedding_bytes(network)
    if store is None or needed_bytes > store.limit_bytes:
        run.add_warning(
            f"embeddings of {config.patches} patches take {needed_bytes / 1e9:.2f} GB, which "
            "cannot all be kept, and are computed again and again: raise BENCH_EMBEDDINGS_GB, or "
            "lower patches"
        )


def _warn_of_nothing(run: Run, report: SamReport) -> None:
    if not report.predictions or not report.found_nothing():
        return
    inference = report.info.inference
    lower = "pred_iou_thresh and stability_score_thresh"
    if "segmentation" not in inference:
        lower = "lr of the detector or train it longer"
    elif inference["segmentation"] == "ais":
        lower = "foreground_threshold, or raise the two distance thresholds"
    run.add_warning(
        f"no instance of {inference['min_area_px']} to {inference['max_area_px'] or 'any'} px was "
        f"found on validation: lower {lower}, or change min_area_px and max_area_px"
    )
