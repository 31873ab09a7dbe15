"""Train a network on the annotated sections of a structure, or of several as classes."""

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import torch

from bench.config.training import FinetuneConfig
from bench.core.progress import show_progress
from bench.dataset.prepared import PreparedDataset
from bench.inference.device import Compute, choose_compute
from bench.inference.prediction import fixed_moments
from bench.methods import Method, choose_method
from bench.models.checkpoint import (
    ModelInfo,
    build_model,
    check_network,
    save_checkpoint,
)
from bench.models.networks import Geometry, Network, find_network, find_trainable
from bench.steps.training.choices import Validation, choose_inference
from bench.steps.training.class_report import ClassTrainingReport
from bench.steps.training.classes import (
    ClassWeights,
    check_class_settings,
    find_classes,
    resolved_class_settings,
    warn_of_overlaps,
    weigh_classes,
)
from bench.steps.training.data import (
    TrainingData,
    conclude_run,
    describe_run,
    fed_pixel_size,
    log_checkpoints,
    loop_settings,
    measure_network,
    note_grey_values,
    warn_of_patches,
    warn_of_scales,
    with_defaults,
)
from bench.steps.training.report import TrainingReport
from bench.steps.training.snapshots import finish_snapshots, identify_snapshots, kept_iterations
from bench.steps.training.source import Source, find_adapted, resolve_source, source_of
from bench.steps.training.transfer import (
    check_source,
    check_transfer,
    choose_normalisation,
    start_network,
    transfer_identity,
)
from bench.steps.training.volume_report import VolumeTrainingReport
from bench.steps.training.volumes import (
    VolumeTrainingData,
    check_folds,
    check_volumes,
    describe_patches,
    describe_volume_model,
    even_odds,
    make_volume_feed,
    volume_patch_settings,
    warn_of_small_volumes,
)
from bench.structures import Structure, find_structure, split_structures, weight_of_frequency
from bench.tracking.opening import open_run
from bench.tracking.runs import Identity, Run
from bench.tracking.store import Store, open_store
from bench.training.ahead import Feed, draw_ahead
from bench.training.augment import Augmentation
from bench.training.loop import Progress, make_trainee, train
from bench.training.objectives import make_loss, supervised
from bench.training.patches import PatchFeed, PatchSettings
from bench.training.volume_patches import VolumePatchSettings
from bench.words import AUTO, BACKGROUND, FIXED, OurNetworks

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Task:
    config: FinetuneConfig
    dataset: PreparedDataset
    structure: Structure
    method: Method
    source: Source
    info: ModelInfo
    compute: Compute
    data: TrainingData | VolumeTrainingData
    foreground_weight: float
    weight_origin: str
    class_weights: ClassWeights


def finetune(config: FinetuneConfig, store: Store | None = None, parent: str | None = None) -> str:
    """Trains a model and returns the id of its run.

    Args:
        config: The settings.
        store: The tracking store; opened if not given.
        parent: Id of the run that this one is a child of.

    Raises:
        BenchError: If the settings, the dataset or the source do not fit together.
    """
    store = store or open_store()
    task = resolve_finetune(config, store)
    log.info("%s %s starts from %s", task.method.name, task.structure.name, task.source.name)
    run = open_run(store, identify_finetune(task), parent=parent)
    if run.reused:
        return run.id
    with run:
        describe_run(run, task.dataset, config, _resolved_settings(task), "training")
        if config.labelled:
            run.set_tags({f"bench.labelled_{task.data.kind}": ", ".join(task.data.names)})
        run.keep_warnings(f"its source: {warning}" for warning in task.source.warnings)
        size_nm = task.dataset.pixel_size_nm
        warn_of_scales(run, [task.source.info], [size_nm], rescale=config.rescale)
        if isinstance(task.data, TrainingData):
            warn_of_patches(run, task.data, task.config.patch_px or 0)
            warn_of_overlaps(run, task.class_weights)
        else:
            patches = _volume_patches(task)
            run.set_tags({"bench.augmentation": str(patches.augmentation)})
            warn_of_small_volumes(run, task.data, task.info, patches.shape)
        if task.config.loss != task.method.loss:
            run.add_warning(
                f"trained with loss={task.config.loss}, method {task.method.name} stands for "
                f"{task.method.loss}: what tables call it is not what it is"
            )
        task = dataclasses.replace(task, info=note_grey_values(task.info, task.dataset))
        progress = _train_task(task, run)
        conclude_run(run, f"{task.method.name} {task.structure.name}", progress, task.compute)
    return run.id


def resolve_finetune(config: FinetuneConfig, store: Store) -> _Task:
    """Finds and checks everything that a config names."""
    structure = find_structure(config.structure)
    given = source_of(structure.name, config.source)
    method, given = choose_method(
        config.method, source=given, loss=config.loss, classes=config.structures != AUTO
    )
    network = find_trainable(method.network, "finetune")
    typed, config = config, with_defaults(config, method)
    check_class_settings(config, method)
    # What is wrong with the settings is told before anything is read; a source may take other
    # sizes, and names of structures in it are compared once the dataset says which there are.
    _fit_sizes(config, network, network.arguments(config))
    kept_iterations(config)
    check_transfer(config, network, given)
    compute = choose_compute(config.device, config.precision)
    dataset, structure = _open_dataset(config, structure, method)
    if given == AUTO:
        given = find_adapted(
            store,
            method.name,
            structure=structure.name,
            dataset=dataset.content_hash,
            seed=config.seed,
        )
    source = resolve_source(store, given, trust=config.trust_checkpoint)
    check_source(source, method, typed)
    normalisation = choose_normalisation(typed, config, source, dataset)
    data = _choose_data(config, structure, network, source, dataset)
    arguments = source.info.arguments if source.info else network.arguments(config)
    width = arguments.get("width")
    config = dataclasses.replace(config, normalisation=normalisation, width=width)
    config, geometry = _fit_sizes(config, network, arguments)
    info = _describe_model(config, method, data, arguments, geometry)
    if normalisation == FIXED and source.info:
        info = dataclasses.replace(info, grey_scale=source.info.grey_scale)
    if network.dims == 3:
        info = describe_volume_model(info, source.info, dataset, rescale=config.rescale)
    if network.name not in set(OurNetworks):
        # Ours have tests. Once for all, at both sizes, while nothing has begun.
        tried = build_model(info.architecture, info.arguments)
        for edge in dict.fromkeys((config.patch_px or 0, info.tile_px + 2 * info.halo_px)):
            check_network(tried, network.name, len(info.outputs), edge)
    weight, origin = _weigh_foreground(config, method, structure, data)
    classes = ClassWeights()
    if method.of_classes and isinstance(data, TrainingData):
        classes = weigh_classes(config, data)
    return _Task(
        config, dataset, structure, method, source, info, compute, data, weight, origin, classes
    )


def _open_dataset(
    config: FinetuneConfig, structure: Structure, method: Method
) -> tuple[PreparedDataset, Structure]:
    dataset = PreparedDataset.open(config.dataset)
    if method.of_classes:
        structure = find_classes(config, method, dataset)
    if find_network(method.network).dims == 3:
        check_volumes(dataset, method)
    source_of(structure.name, config.source, dataset.structures)
    for split in ("train", "val"):
        for name in split_structures(structure.name):
            dataset.instances(split, name)
    return dataset, structure


def _choose_data(
    config: FinetuneConfig,
    structure: Structure,
    network: Network,
    source: Source,
    dataset: PreparedDataset,
) -> TrainingData | VolumeTrainingData:
    kind = TrainingData if network.dims == 2 else VolumeTrainingData
    return kind.choose(
        dataset,
        structure.name,
        labelled=config.labelled,
        seed=config.seed,
        fed_nm=fed_pixel_size(source.info, dataset, rescale=config.rescale),
    )


def _fit_sizes(
    config: FinetuneConfig, network: Network, arguments: dict[str, Any]
) -> tuple[FinetuneConfig, Geometry]:
    patch_px = network.fit_patch(config.patch_px, arguments)
    geometry = network.fit_geometry(config.tile_px, config.halo_px, arguments)
    batch_size = config.batch_size or network.batch_size
    config = dataclasses.replace(config, patch_px=patch_px, batch_size=batch_size)
    check_folds(config, arguments)
    return config, geometry


def _describe_model(
    config: FinetuneConfig,
    method: Method,
    data: TrainingData | VolumeTrainingData,
    arguments: dict[str, Any],
    geometry: Geometry,
) -> ModelInfo:
    """What the model will be; its tile and halo are those of the validations in training."""
    outputs = method.outputs
    if method.of_classes:
        outputs = (BACKGROUND, *split_structures(data.structure))
    return ModelInfo(
        architecture=method.network,
        arguments=arguments | {"out_channels": len(outputs)},
        outputs=outputs,
        structure=data.structure,
        input_pixel_size_nm=data.fed_nm,
        normalisation=config.normalisation,
        tile_px=geometry[0],
        halo_px=geometry[1],
        training={"method": method.name, "dataset": data.dataset.content_hash},
    )


def identify_finetune(task: _Task) -> Identity:
    """What the run of a task is."""
    settings = transfer_identity(task.config.identity(_resolved_settings(task)))
    settings |= identify_snapshots(task.config)
    # Said beside the settings, or by the hash of the source.
    for elsewhere in ("method", "structure", "seed", "source", "labelled"):
        del settings[elsewhere]
    # The separation of instances is chosen on validation as well.
    separated = "boundary" in task.method.outputs
    of_volumes = isinstance(task.data, VolumeTrainingData)
    # Of the only network that has any, so that the others' runs stay what they are.
    folds = {name: task.info.arguments[name] for name in ("folds",) if name in task.info.arguments}
    return Identity(
        step="finetune",
        settings=settings | {"outputs": task.info.outputs} | folds,
        inputs={"source": task.source.sha256},
        method=task.method.name,
        structure=task.structure.name,
        dataset=task.dataset.content_hash,
        seed=task.config.seed,
        labelled=task.config.labelled,
        parts=(
            f"network {task.info.architecture}",
            *(("post-processing", "metrics") if separated else ()),
            *(("volume patches",) if of_volumes else ()),
            *(("classes",) if task.method.of_classes else ()),
        ),
    )


def _resolved_settings(task: _Task) -> dict[str, object]:
    settings = dataclasses.asdict(task.config) | {
        **vars(loop_settings(task.config)),
        "structure": task.structure.name,
        "method": task.method.name,
        "source": task.source.name,
        "source_sha256": task.source.sha256 or "none",
        "foreground_weight": task.foreground_weight,
        "foreground_weight_origin": task.weight_origin,
        "device": str(task.compute.device),
        "precision": task.compute.precision,
        "pixel_size_nm": task.dataset.pixel_size_nm or "unknown",
        "fed_pixel_size_nm": task.data.fed_nm or "unknown",
        "labelled": len(task.data.names),
        **resolved_class_settings(task.class_weights, task.structure.name),
    }
    if isinstance(task.data, VolumeTrainingData):
        settings |= describe_patches(task.info, _volume_patches(task), _threshold(task))
    return settings


def _weigh_foreground(
    config: FinetuneConfig,
    method: Method,
    structure: Structure,
    data: TrainingData | VolumeTrainingData,
) -> tuple[float, str]:
    """The weight of foreground in the loss, and where it comes from, one sentence."""
    if method.of_classes:
        return 1.0, "Not used: classes have weights of their own."
    if config.foreground_weight is not None:
        return config.foreground_weight, "Set by the user."
    if method.foreground_weight is not None:
        return method.foreground_weight, f"That of method {method.name}."
    if structure.foreground_weight is not None:
        return structure.foreground_weight, f"The paper's value for {structure.name}."
    fraction = data.foreground_fraction()
    return weight_of_frequency(fraction), (
        f"From its frequency: {structure.name} fills {100 * fraction:.3g} % of "
        f"{len(data.names)} training {data.kind}."
    )


def _train_task(task: _Task, run: Run) -> Progress:
    config, settings = task.config, loop_settings(task.config)
    torch.manual_seed(config.seed)
    network = start_network(config, task.info, task.source, run)
    measure_network(run, network, task.compute)
    trainee = make_trainee(network, settings, task.compute)
    feed = _make_feed(task)
    loss = make_loss(
        config.loss,
        gamma=config.focal_gamma,
        foreground_weight=task.foreground_weight,
        class_weights=task.class_weights.values,
    )
    with (
        show_progress(f"{task.method.name} {task.structure.name}") as advance,
        draw_ahead(feed, task.compute.device) as batches,
    ):
        report = _make_report(
            task, run, lambda done, remark: advance(done, settings.iterations, remark)
        )
        progress = train(
            trainee,
            supervised(network, batches, loss, task.compute),
            settings,
            state_file=run.work / "state.safetensors",
            reports=report.callbacks(),
            snapshots=kept_iterations(config),
        )
    tile_px, halo_px = _choose_inference(task, run, report)
    info = report.describe(progress.iteration, None)
    info = dataclasses.replace(info, tile_px=tile_px, halo_px=halo_px)
    save_checkpoint(run.work / "last.safetensors", network, info)
    log_checkpoints(run, ("best", "last", *finish_snapshots(run.work, config)))
    return progress


def _make_feed(task: _Task) -> Feed:
    device = task.compute.device
    if isinstance(task.data, VolumeTrainingData):
        return make_volume_feed(task.data, task.info, _volume_patches(task), device)
    moments = fixed_moments(task.info)
    patches = patch_settings(task.config)
    return PatchFeed(task.data.train(), patches, device, task.info.outputs, moments)


def _volume_patches(task: _Task) -> VolumePatchSettings:
    assert isinstance(task.data, VolumeTrainingData)
    return volume_patch_settings(task.config, find_network(task.info.architecture), task.data)


def _threshold(task: _Task) -> float:
    return even_odds(task.config.loss, task.foreground_weight)


def _make_report(task: _Task, run: Run, advance: Callable[[int, str], None]) -> TrainingReport:
    common: dict[str, Any] = {"run": run, "info": task.info, "compute": task.compute}
    common["advance"] = advance
    if isinstance(task.data, VolumeTrainingData):
        return VolumeTrainingReport(
            dataset=task.dataset,
            structure=task.structure.name,
            threshold=_threshold(task),
            **common,
        )
    report = ClassTrainingReport if task.info.classes else TrainingReport
    return report(
        sections=task.data.validation(), pixel_size_nm=task.dataset.pixel_size_nm, **common
    )


def _choose_inference(task: _Task, run: Run, report: TrainingReport) -> Geometry:
    """Chooses what is auto of how the best model is applied; returns its tile and halo."""
    info = task.info
    if isinstance(task.data, VolumeTrainingData):
        # One tile by default, and no separation.
        return info.tile_px, info.halo_px
    geometries: tuple[Geometry, ...] = ((info.tile_px, info.halo_px),)
    if task.config.tile_px is None and task.config.halo_px is None:
        geometries = find_network(info.architecture).choices(info.arguments)
    validation = Validation(task.data, report.sections, task.compute, run)
    return choose_inference(
        report.best, validation, geometries, separation="boundary" in info.outputs
    )


def patch_settings(config: FinetuneConfig) -> PatchSettings:
    """How the patches of a training are drawn."""
    assert config.patch_px is not None
    assert config.batch_size is not None
    return PatchSettings(
        patch_px=config.patch_px,
        batch_size=config.batch_size,
        foreground_fraction=config.foreground_fraction,
        augmentation=Augmentation(config.rotate, config.flip, config.elastic_px, config.noise),
        seed=config.seed,
    )
