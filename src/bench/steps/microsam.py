"""Segment a structure with Segment Anything: as it is, trained on the sections, or prompted."""

import dataclasses
import logging
import time
from typing import Any, cast

import torch

from bench.config.training import MicrosamConfig
from bench.core.names import run_of
from bench.core.progress import show_progress
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.inference.device import Compute, choose_compute
from bench.inference.prompts.objects import PromptSettings
from bench.inference.sam.embedding_store import EmbeddingStore, open_embeddings
from bench.inference.sam.embeddings import embedding_bytes
from bench.inference.sam.masks import MaskSettings, choose_segmentation
from bench.methods import (
    PROMPTED,
    Method,
    find_method,
    find_method_of,
    find_start,
    names_of,
)
from bench.models.checkpoint import ModelInfo, save_checkpoint
from bench.models.detection.detector_sam import DetectorSam
from bench.models.networks import find_trainable
from bench.models.sam import SamNetwork, build_sam, load_sam, merge_lora
from bench.steps.detection.detector_sam import (
    DetectorSource,
    choose_on_validation,
    find_detector,
    join_detector,
)
from bench.steps.training.data import (
    TrainingData,
    conclude_run,
    describe_run,
    fed_pixel_size,
    log_checkpoints,
    measure_network,
    note_grey_values,
    warn_of_scales,
    with_defaults,
)
from bench.steps.training.minutes import describe_loop, first_rate, plan_loop
from bench.steps.training.sam import (
    SamReport,
    SamSource,
    check_objects,
    choose_areas,
    choose_windows,
    resolve_sam,
)
from bench.steps.training.source import find_adapted, source_of
from bench.structures import Structure, find_structure
from bench.tracking.opening import open_run
from bench.tracking.queries import get_trained
from bench.tracking.runs import Identity, Run
from bench.tracking.store import Store, open_store
from bench.training.loop import LoopSettings, Progress, make_trainee, train
from bench.training.sam.interactive import (
    SamTrainingSettings,
    encoder_is_frozen,
    interactive,
    prepare_network,
)
from bench.training.sam.patches import InstancePatchFeed, InstancePatchSettings
from bench.words import AUTO

log = logging.getLogger(__name__)

_FINETUNE, _DETECTOR = "finetune", "detector"
# What a run without training does not depend on.
_TRAINING_SETTINGS = (
    *("iterations", "optimiser", "lr", "schedule", "batch_size", "patch_px", "precision"),
    *("minutes", "epoch_iterations", "sub_iterations", "objects_per_batch", "freeze", "lora_rank"),
    "patches",
)
# Of automatic segmentation, which prompts are not.
_AUTOMATIC_SETTINGS = (
    *("segmentation", "points_per_side", "pred_iou_thresh", "stability_score_thresh"),
    *("box_nms_thresh", "center_distance_threshold", "boundary_distance_threshold"),
    *("foreground_threshold", "size_filter", "min_area_px", "max_area_px"),
)
_PROMPT_SETTINGS = ("prompts", "box_distortions_px", "prompt_points", "multimask")
# micro_sam's schedule.
_PLATEAU_FACTOR, _PLATEAU_PATIENCE = 0.9, 3
_CHECKPOINT_ITERATIONS = 25
# Of the image encoder of vit_b.
_PUBLISHED_BLOCKS = 12


@dataclasses.dataclass(frozen=True)
class _Task:
    config: MicrosamConfig
    dataset: PreparedDataset
    structure: Structure
    method: Method
    source: SamSource
    compute: Compute
    data: TrainingData
    detector: DetectorSource | None


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
        describe_run(run, task.dataset, config, _resolved_settings(task, info), "training")
        _warn_of_toy(run, info)
        size_nm = task.dataset.pixel_size_nm
        warn_of_scales(run, [task.source.info], [size_nm], rescale=config.rescale)
        if config.mode == PROMPTED:
            _keep_network(task, run, sam, info)
            return run.id
        if config.mode == _FINETUNE:
            progress = _train_network(task, run, sam, info, begun)
        else:
            progress = _preview_network(task, run, network, info)
        found_by = info.inference.get("segmentation", "the boxes of a detector")
        what = f"{task.method.name} {task.structure.name} by {found_by}"
        conclude_run(run, what, progress, task.compute)
    return run.id


def _start_network(task: _Task, run: Run) -> tuple[SamNetwork, SamNetwork | DetectorSam, ModelInfo]:
    """The SAM, the network that segments (itself, or a detector before it), and what that is."""
    sam, info = start_sam(task)
    info = note_grey_values(info, task.dataset)
    if task.detector is None:
        return sam, sam, info
    network, info = join_detector(sam, info, task.detector, task.source.digest)
    network.to(task.compute.device)
    info = choose_on_validation(
        *(run, network, info, choose_windows(task.data.validation())),
        pixel_size_nm=task.dataset.pixel_size_nm,
        compute=task.compute,
        precision=task.config.sure_precision,
    )
    return sam, network, info


def resolve_microsam(config: MicrosamConfig, store: Store) -> _Task:
    """Finds and checks everything that a config names."""
    dataset = PreparedDataset.open(config.dataset)
    structure = find_structure(config.structure, dataset.structures)
    method = _choose_method(config, store)
    find_trainable(method.network, "microsam")
    config = with_defaults(config, method)
    precision = config.precision if config.mode == _FINETUNE else "fp32"
    compute = choose_compute(config.device, precision)
    for split in ("train", "val"):
        dataset.instances(split, structure.name)
    given = source_of(structure.name, config.source, dataset.structures)
    # A detector is no source: it comes before the SAM.
    if given == AUTO and find_start(method) and config.mode != _DETECTOR:
        where = {"structure": structure.name, "dataset": dataset.content_hash}
        given = find_adapted(store, method.name, **where, seed=config.seed)
    source = resolve_sam(store, given, trust=config.trust_checkpoint)
    data = TrainingData.choose(
        dataset,
        structure.name,
        labelled=config.labelled,
        seed=config.seed,
        fed_nm=fed_pixel_size(source.info, dataset, rescale=config.rescale),
    )
    if config.mode == PROMPTED:
        _read_prompts(config)
        check_objects(structure, data)
    detector = find_detector(config, structure.name, dataset, store)
    return _Task(config, dataset, structure, method, source, compute, data, detector)


def _choose_method(config: MicrosamConfig, store: Store) -> Method:
    if config.method == AUTO:
        rows = [m for m in map(find_method, names_of("microsam")) if m.mode == config.mode]
        trained = run_of(config.source)
        start = get_trained(store, trained).cell.method if trained else ""
        return next((row for row in rows if row.start == start), rows[0])
    method = find_method_of("microsam", config.method)
    if method.mode != config.mode:
        raise BenchError(
            f"method {method.name} is made with mode={method.mode}, received mode={config.mode}: "
            "change the mode, or leave the method out"
        )
    return method


def _read_prompts(config: MicrosamConfig) -> PromptSettings:
    """How annotated objects become prompts.

    Raises:
        BenchError: If a setting of prompts cannot be meant.
    """
    return PromptSettings.read(
        config.prompts,
        config.box_distortions_px,
        points=config.prompt_points,
        multimask=config.multimask,
        seed=config.seed,
    )


def _unused_settings(mode: str) -> tuple[str, ...]:
    """The settings that a mode does not depend on."""
    if mode == _FINETUNE:
        return _PROMPT_SETTINGS
    others = _AUTOMATIC_SETTINGS if mode == PROMPTED else _PROMPT_SETTINGS
    return (*_TRAINING_SETTINGS, *others)


def identify_microsam(task: _Task) -> Identity:
    """The identity of the run; settings that its mode does not use are no part of it."""
    settings = task.config.identity(describe_loop(task.config, sam_loop_settings(task.config)))
    # Said beside the settings, or by the hash of the source.
    elsewhere = ("method", "structure", "seed", "source", "labelled", "detector")
    trained, inputs = task.config.mode == _FINETUNE, {"source": task.source.digest}
    for name in (*elsewhere, *_unused_settings(task.config.mode)):
        # A setting of prompts is not said where it is its default.
        settings.pop(name, None)
    if task.detector:
        inputs["detector"] = task.detector.digest
    return Identity(
        step="microsam",
        settings=settings,
        inputs=inputs,
        method=task.method.name,
        structure=task.structure.name,
        dataset=task.dataset.content_hash,
        seed=task.config.seed,
        labelled=task.config.labelled,
        parts=(f"network {task.method.network}", *(("sam training",) if trained else ())),
    )


def start_sam(task: _Task) -> tuple[SamNetwork, ModelInfo]:
    """Builds the network with the source's weights, and says what the model will be."""
    config = task.config
    network, arguments = load_sam(task.source.read())
    if config.mode == PROMPTED:
        prompts = dataclasses.asdict(_read_prompts(config))
        inference: dict[str, Any] = {"segmentation": PROMPTED, "prompts": prompts}
    else:
        inference = dataclasses.asdict(_choose_masks(task, network))
    info = ModelInfo(
        architecture=task.method.network,
        arguments=arguments,
        outputs=("foreground",),
        structure=task.structure.name,
        input_pixel_size_nm=task.data.fed_nm,
        normalisation="8 bit between the section's 0.5 and 99.5 percentiles",
        tile_px=config.tile_px,
        halo_px=config.halo_px,
        training={"method": task.method.name, "dataset": task.dataset.content_hash},
        inference=inference,
    )
    return network, info


def _choose_masks(task: _Task, network: SamNetwork) -> MaskSettings:
    """How masks of automatic segmentation become instances."""
    config = task.config
    low, high = choose_areas(config, task.structure, task.data)
    return MaskSettings(
        segmentation=choose_segmentation(
            config.segmentation, decoder=network.instance_decoder is not None
        ),
        points_per_side=config.points_per_side,
        pred_iou_thresh=config.pred_iou_thresh,
        stability_score_thresh=config.stability_score_thresh,
        box_nms_thresh=config.box_nms_thresh,
        center_distance_threshold=config.center_distance_threshold,
        boundary_distance_threshold=config.boundary_distance_threshold,
        foreground_threshold=config.foreground_threshold,
        min_area_px=low,
        max_area_px=high,
    )


def _resolved_settings(task: _Task, info: ModelInfo) -> dict[str, object]:
    settings: dict[str, object] = dataclasses.asdict(task.config)
    if task.detector:
        settings["detector"] = task.detector.name
    if task.config.mode == _FINETUNE:
        settings |= describe_loop(task.config, sam_loop_settings(task.config))
    unused = _unused_settings(task.config.mode)
    settings = {name: value for name, value in settings.items() if name not in unused}
    return settings | {
        **({} if task.config.mode == PROMPTED else info.inference),
        "structure": task.structure.name,
        "method": task.method.name,
        "source": task.source.name,
        "source_sha256": task.source.digest,
        "device": str(task.compute.device),
        "precision": task.compute.precision,
        "pixel_size_nm": task.dataset.pixel_size_nm or "unknown",
        "fed_pixel_size_nm": task.data.fed_nm or "unknown",
        "labelled": len(task.data.names),
    }


def sam_loop_settings(config: MicrosamConfig) -> LoopSettings:
    """Resolves the settings of the loop that may still be ``auto``."""
    epoch = config.epoch_iterations or min(250, max(50, config.iterations // 10))
    return LoopSettings(
        iterations=config.iterations,
        epoch_iterations=epoch,
        checkpoint_iterations=config.checkpoint_iterations or min(_CHECKPOINT_ITERATIONS, epoch),
        lr=first_rate(config),
        schedule=config.schedule,
        plateau_factor=_PLATEAU_FACTOR,
        plateau_patience=_PLATEAU_PATIENCE,
        optimiser=config.optimiser,
    )


def _make_report(task: _Task, run: Run, info: ModelInfo, advance: Any) -> SamReport:
    return SamReport(
        plain=lambda network: _merge_network(network, info),
        run=run,
        sections=choose_windows(task.data.validation()),
        pixel_size_nm=task.dataset.pixel_size_nm,
        info=info,
        compute=task.compute,
        advance=advance,
        trained=task.config.mode == _FINETUNE,
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


def _keep_network(task: _Task, run: Run, network: SamNetwork, info: ModelInfo) -> None:
    """Keeps the source with its prompts: what it comes to is known when it is evaluated."""
    weights = run.work / "best.safetensors"
    save_checkpoint(weights, network, info)
    log_checkpoints(run, ("best",))
    log.info("%s %s: kept with its prompts, run %s", task.method.name, task.structure.name, run.id)


def _preview_network(
    task: _Task, run: Run, network: SamNetwork | DetectorSam, info: ModelInfo
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
    task: _Task, run: Run, network: SamNetwork, info: ModelInfo, begun: float
) -> Progress:
    config, settings = task.config, sam_loop_settings(task.config)
    if config.lora_rank and "image_encoder" in config.freeze:
        log.info("lora_rank=%d trains the image encoder, it is not frozen", config.lora_rank)
    prepare_network(network, freeze=config.freeze, lora_rank=config.lora_rank)
    trainee = make_trainee(network, settings, task.compute)
    feed = InstancePatchFeed(task.data.train(), instance_patches(config, network))
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


def instance_patches(config: MicrosamConfig, network: SamNetwork) -> InstancePatchSettings:
    """How the patches of a training are drawn."""
    return InstancePatchSettings(
        patch_px=config.patch_px,
        batch_size=config.batch_size,
        distances=network.unetr is not None,
        seed=config.seed,
        patches=config.patches,
    )


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
