"""What microsam works with: all that its settings name, found and checked before it begins."""

import dataclasses
from typing import Any

from bench.config.training import MicrosamConfig
from bench.core.names import run_of
from bench.dataset.partial import refuse_partial
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.inference.device import Compute, choose_compute
from bench.inference.prompts.objects import PromptSettings
from bench.inference.sam.masks import MaskSettings, choose_segmentation
from bench.methods import (
    PROMPTED,
    Method,
    find_method,
    find_method_of,
    find_start,
    names_of,
)
from bench.models.checkpoint import ModelInfo
from bench.models.networks import find_trainable
from bench.models.sam import SamNetwork, load_sam
from bench.steps.detection.detector_sam import (
    DetectorSource,
    find_detector,
)
from bench.steps.training.data import (
    TrainingData,
    fed_pixel_size,
    with_defaults,
)
from bench.steps.training.minutes import describe_loop, first_rate
from bench.steps.training.sam import (
    SamSource,
    check_objects,
    choose_areas,
    resolve_sam,
)
from bench.steps.training.source import find_adapted, source_of
from bench.structures import Structure, find_structure
from bench.tracking.queries import get_trained
from bench.tracking.runs import Identity
from bench.tracking.store import Store
from bench.training.loop import LoopSettings
from bench.training.sam.patches import InstancePatchSettings
from bench.words import AUTO

FINETUNE, _DETECTOR = "finetune", "detector"
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


@dataclasses.dataclass(frozen=True)
class MicrosamTask:
    """What microsam works with, resolved.

    Attributes:
        config: The settings, with the method's where they were ``auto``.
        dataset: The prepared dataset.
        structure: The structure.
        method: Its row.
        source: The SAM.
        compute: Device and precision.
        data: The annotated sections.
        detector: What gives it boxes; None without one.
    """

    config: MicrosamConfig
    dataset: PreparedDataset
    structure: Structure
    method: Method
    source: SamSource
    compute: Compute
    data: TrainingData
    detector: DetectorSource | None


def resolve_microsam(config: MicrosamConfig, store: Store) -> MicrosamTask:
    """Finds and checks everything that a config names."""
    dataset = PreparedDataset.open(config.dataset)
    structure = find_structure(config.structure, dataset.structures)
    method = _choose_method(config, store)
    find_trainable(method.network, "microsam")
    config = with_defaults(config, method)
    precision = config.precision if config.mode == FINETUNE else "fp32"
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
    if config.mode in (PROMPTED, _DETECTOR):
        # Both compare masks with whole objects.
        refuse_partial(dataset, [structure.name], f"method {method.name}", ("val",))
    if config.mode == PROMPTED:
        _read_prompts(config)
        check_objects(structure, data)
    detector = find_detector(config, structure.name, dataset, store)
    return MicrosamTask(config, dataset, structure, method, source, compute, data, detector)


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
    if mode == FINETUNE:
        return _PROMPT_SETTINGS
    others = _AUTOMATIC_SETTINGS if mode == PROMPTED else _PROMPT_SETTINGS
    return (*_TRAINING_SETTINGS, *others)


def identify_microsam(task: MicrosamTask) -> Identity:
    """The identity of the run; settings that its mode does not use are no part of it."""
    settings = task.config.identity(describe_loop(task.config, sam_loop_settings(task.config)))
    # Said beside the settings, or by the hash of the source.
    elsewhere = ("method", "structure", "seed", "source", "labelled", "detector")
    trained, inputs = task.config.mode == FINETUNE, {"source": task.source.digest}
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


def start_sam(task: MicrosamTask) -> tuple[SamNetwork, ModelInfo]:
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


def _choose_masks(task: MicrosamTask, network: SamNetwork) -> MaskSettings:
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


def resolved_microsam(task: MicrosamTask, info: ModelInfo) -> dict[str, object]:
    """The settings that a run has, with what was found for those that were ``auto``."""
    settings: dict[str, object] = dataclasses.asdict(task.config)
    if task.detector:
        settings["detector"] = task.detector.name
    if task.config.mode == FINETUNE:
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


def instance_patches(config: MicrosamConfig, network: SamNetwork) -> InstancePatchSettings:
    """How the patches of a training are drawn."""
    return InstancePatchSettings(
        patch_px=config.patch_px,
        batch_size=config.batch_size,
        distances=network.unetr is not None,
        seed=config.seed,
        patches=config.patches,
    )
