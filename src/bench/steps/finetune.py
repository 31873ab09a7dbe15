"""Train a network on the annotated sections of one structure."""

import dataclasses

import torch

from bench.config.training import FinetuneConfig
from bench.core.progress import show_progress
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.inference.device import Compute, choose_compute
from bench.methods import Method, choose_method
from bench.models.checkpoint import ModelInfo, build_model, save_checkpoint, transfer_weights
from bench.steps.training.choices import GEOMETRIES, choose_geometry, choose_separation
from bench.steps.training.data import (
    TrainingData,
    conclude_run,
    describe_run,
    fed_pixel_size,
    log_checkpoints,
    loop_settings,
    measure_network,
)
from bench.steps.training.report import TrainingReport
from bench.steps.training.source import Source, find_adapted, resolve_source, source_of
from bench.structures import Structure, find_structure
from bench.tracking.opening import open_run
from bench.tracking.runs import Identity, Run
from bench.tracking.store import Store, open_store
from bench.training.ahead import draw_ahead
from bench.training.augment import Augmentation
from bench.training.loop import Progress, Reports, make_trainee, train
from bench.training.objectives import make_loss, supervised
from bench.training.patches import PatchFeed, PatchSettings
from bench.words import AUTO

# Depth of the U-Net of SynapseNet and of the paper.
_DEPTH = 4


@dataclasses.dataclass(frozen=True)
class _Task:
    """What is trained, resolved from the config."""

    config: FinetuneConfig
    dataset: PreparedDataset
    structure: Structure
    method: Method
    source: Source
    compute: Compute
    data: TrainingData


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
    task = _resolve_task(config, store)
    with_source = {"source": task.source.sha256}
    run = open_run(store, _identify(task, with_source), parent=parent)
    if run.reused:
        return run.id
    with run:
        describe_run(run, task.dataset, _resolved_settings(task), "training")
        if config.labelled:
            run.set_tags({"bench.labelled_sections": ", ".join(task.data.names)})
        run.keep_warnings(f"its source: {warning}" for warning in task.source.warnings)
        progress = _train_task(task, run)
        conclude_run(run, f"{task.method.name} {task.structure.name}", progress, task.compute)
    return run.id


def _resolve_task(config: FinetuneConfig, store: Store) -> _Task:
    """Finds and checks everything that a config names."""
    structure = find_structure(config.structure)
    given = source_of(structure.name, config.source)
    method, source = choose_method(config.method, source=given, loss=config.loss)
    tile_px, halo_px = _training_geometry(config)
    for name, value in (
        ("patch_px", config.patch_px),
        ("tile_px + 2 halo_px", tile_px + 2 * halo_px),
    ):
        if value % 2**_DEPTH:
            raise BenchError(f"{name} must be a multiple of {2**_DEPTH}, received {value}")
    compute = choose_compute(config.device, config.precision)
    dataset = PreparedDataset.open(config.dataset)
    for split in ("train", "val"):
        dataset.instances(split, structure.name)
    if source == AUTO:
        source = find_adapted(
            store,
            method.name,
            structure=structure.name,
            dataset=dataset.content_hash,
            seed=config.seed,
        )
    resolved = resolve_source(store, source, trust=config.trust_checkpoint)
    _check_architecture(resolved)
    data = TrainingData.choose(
        dataset,
        structure.name,
        labelled=config.labelled,
        seed=config.seed,
        fed_nm=fed_pixel_size(resolved.info, dataset, rescale=config.rescale),
    )
    return _Task(config, dataset, structure, method, resolved, compute, data)


def _check_architecture(source: Source) -> None:
    """Raises BenchError where the source is no 2D U-Net."""
    if source.info and source.info.architecture != "unet2d":
        raise BenchError(
            f"finetune trains 2D U-Nets, source {source.name} is a {source.info.architecture}: "
            "choose a 2D source such as synapsenet:vesicles_2d, or evaluate it as it is with "
            "method=unadapted"
        )


def _training_geometry(config: FinetuneConfig) -> tuple[int, int]:
    """Tile and halo (px) of the validations in training, and of the model if one is given."""
    tile_px, halo_px = GEOMETRIES[0]
    return (
        tile_px if config.tile_px is None else config.tile_px,
        halo_px if config.halo_px is None else config.halo_px,
    )


def _identify(task: _Task, inputs: dict[str, str]) -> Identity:
    """The identity of a training."""
    settings = task.config.identity(_resolved_settings(task))
    # Said beside the settings, or by the hash of the source.
    for elsewhere in ("method", "structure", "seed", "source", "labelled"):
        del settings[elsewhere]
    # The separation of instances is chosen on validation as well.
    separated = "boundary" in task.method.outputs
    return Identity(
        step="finetune",
        settings=settings | {"outputs": task.method.outputs},
        inputs=inputs,
        method=task.method.name,
        structure=task.structure.name,
        dataset=task.dataset.content_hash,
        seed=task.config.seed,
        labelled=task.config.labelled,
        parts=("network unet2d", *(("post-processing", "metrics") if separated else ())),
    )


def _resolved_settings(task: _Task) -> dict[str, object]:
    """All settings as they are used, for the run's parameters."""
    settings = dataclasses.asdict(task.config)
    settings |= vars(loop_settings(task.config))
    settings |= {
        "structure": task.structure.name,
        "method": task.method.name,
        "source": task.source.name,
        "source_sha256": task.source.sha256 or "none",
        "loss": task.method.loss,
        "foreground_weight": _foreground_weight(task),
        "device": str(task.compute.device),
        "precision": task.compute.precision,
        "pixel_size_nm": task.dataset.pixel_size_nm or "unknown",
        "fed_pixel_size_nm": task.data.fed_nm or "unknown",
        "labelled": len(task.data.names),
    }
    return settings


def _foreground_weight(task: _Task) -> float:
    """Weight of foreground in the focal term."""
    if task.config.foreground_weight is None:
        return task.structure.foreground_weight
    return task.config.foreground_weight


def _train_task(task: _Task, run: Run) -> Progress:
    """Trains, or goes on with it, and logs the checkpoints."""
    config, settings = task.config, loop_settings(task.config)
    torch.manual_seed(config.seed)
    network, info = _start_network(task, run)
    measure_network(run, network, task.compute)
    trainee = make_trainee(network, settings, task.compute)
    feed = PatchFeed(
        task.data.train(), _patch_settings(config), task.compute.device, task.method.outputs
    )
    loss = make_loss(
        task.method.loss, gamma=config.focal_gamma, foreground_weight=_foreground_weight(task)
    )
    best, last = (run.work / f"{name}.safetensors" for name in ("best", "last"))
    with (
        show_progress(f"{task.method.name} {task.structure.name}") as advance,
        draw_ahead(feed, task.compute.device) as batches,
    ):
        report = TrainingReport(
            run=run,
            sections=task.data.validation(),
            pixel_size_nm=task.dataset.pixel_size_nm,
            info=info,
            compute=task.compute,
            best=best,
            advance=lambda done, remark: advance(done, settings.iterations, remark),
        )
        progress = train(
            trainee,
            supervised(network, batches, loss, task.compute),
            settings,
            state_file=run.work / "state.safetensors",
            reports=Reports(
                report.on_iteration, report.validate, report.on_epoch, report.on_saving
            ),
        )
    info = report.describe(progress.iteration, None)
    if config.tile_px is None and config.halo_px is None:
        tile_px, halo_px = choose_geometry(best, task.data, task.compute, run)
        info = dataclasses.replace(info, tile_px=tile_px, halo_px=halo_px)
    if "boundary" in task.method.outputs:
        choose_separation(best, task.data, task.compute, run)
    save_checkpoint(last, network, info)
    log_checkpoints(run, ("best", "last"))
    return progress


def _start_network(task: _Task, run: Run) -> tuple[torch.nn.Module, ModelInfo]:
    """Builds the network, with the source's weights where there is one; says how many fitted."""
    config, source, outputs = task.config, task.source, task.method.outputs
    tile_px, halo_px = _training_geometry(config)
    arguments = {"in_channels": 1, "depth": _DEPTH, "features": config.features}
    arguments = (source.info.arguments if source.info else arguments) | {
        "out_channels": len(outputs)
    }
    network = build_model("unet2d", arguments)
    if source.info:
        transfer = transfer_weights(network, source.weights())
        run.log_metrics(
            {"source/tensors_transferred": transfer.transferred, "source/tensors": transfer.total}
        )
        run.set_tags({"bench.reinitialised": ", ".join(transfer.reinitialised) or "none"})
    info = ModelInfo(
        architecture="unet2d",
        arguments=arguments,
        outputs=outputs,
        structure=task.structure.name,
        input_pixel_size_nm=task.data.fed_nm,
        normalisation="section",
        tile_px=tile_px,
        halo_px=halo_px,
        training={"method": task.method.name, "dataset": task.dataset.content_hash},
    )
    return network, info


def _patch_settings(config: FinetuneConfig) -> PatchSettings:
    """How patches are drawn."""
    return PatchSettings(
        patch_px=config.patch_px,
        batch_size=config.batch_size,
        foreground_fraction=config.foreground_fraction,
        augmentation=Augmentation(config.rotate, config.flip, config.elastic_px, config.noise),
        seed=config.seed,
    )
