"""What a fine-tuning is: all that its settings name, found and checked before anything begins."""

import dataclasses
from typing import Any

from bench.config.training import FinetuneConfig
from bench.dataset.prepared import PreparedDataset
from bench.dataset.pseudo import check_annotated
from bench.inference.device import Compute, choose_compute
from bench.methods import VALIDATION, Method, choose_method
from bench.models.checkpoint import ModelInfo, build_model, check_network
from bench.models.networks import Geometry, Network, find_network, find_trainable
from bench.models.outside.packages import check_packages, package_versions
from bench.models.unet_residual import fit_to_objects
from bench.steps.training.balance import check_balance
from bench.steps.training.classes import (
    ClassWeights,
    check_class_settings,
    find_classes,
    resolved_class_settings,
    weigh_classes,
)
from bench.steps.training.data import (
    TrainingData,
    fed_pixel_size,
    loop_settings,
    with_defaults,
)
from bench.steps.training.minutes import describe_loop
from bench.steps.training.outside import check_settings, followed_settings
from bench.steps.training.pseudo import PseudoMasks, find_pseudo_masks, resolved_pseudo
from bench.steps.training.snapshots import identify_snapshots, kept_iterations
from bench.steps.training.source import Source, find_adapted, resolve_source, source_of
from bench.steps.training.transfer import (
    check_source,
    check_transfer,
    choose_normalisation,
    transfer_identity,
)
from bench.steps.training.volumes import (
    VolumeTrainingData,
    check_folds,
    check_volumes,
    describe_patches,
    describe_volume_model,
    even_odds,
    volume_patch_settings,
)
from bench.structures import Structure, find_structure, split_structures, weight_of_frequency
from bench.tracking.runs import Identity
from bench.tracking.store import Store
from bench.training.augment import Augmentation
from bench.training.patches import PatchSettings
from bench.training.volume_patches import VolumePatchSettings
from bench.words import AUTO, BACKGROUND, FIXED, NONE, OurNetworks


@dataclasses.dataclass(frozen=True)
class FinetuneTask:
    """A fine-tuning, resolved.

    Attributes:
        config: The settings, with the method's where they were ``auto``.
        dataset: The prepared dataset.
        structure: The structure, or several as one (``join_structures``).
        method: Its row.
        source: Where its first weights come from.
        info: What the model will be.
        compute: Device and precision.
        data: The annotated sections, or volumes.
        foreground_weight: Weight of foreground in the loss.
        weight_origin: Where that comes from, one sentence.
        class_weights: Those of classes; empty of other methods.
        pseudo: The pseudo-masks that are learned from besides; None without.
    """

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
    pseudo: PseudoMasks | None = None


def resolve_finetune(config: FinetuneConfig, store: Store) -> FinetuneTask:
    """Finds and checks everything that a config names.

    Raises:
        BenchError: If the settings, the dataset or the source do not fit together.
    """
    structure = find_structure(config.structure)
    given = source_of(structure.name, config.source, method=config.method)
    method, given = choose_method(
        config.method, source=given, loss=config.loss, classes=config.structures != AUTO
    )
    network = find_trainable(method.network, "finetune")
    check_settings(config, network)
    typed, config = config, with_defaults(config, method)
    _check_settings(config, method, network, given)
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
    source = resolve_source(store, given, trust=config.trust_checkpoint, network=method.network)
    check_source(source, method, typed)
    data = _choose_data(config, structure, network, source, dataset)
    arguments = source.info.arguments if source.info else _own_arguments(config, network, data)
    config = dataclasses.replace(
        config,
        normalisation=choose_normalisation(typed, config, source, dataset),
        width=arguments.get("width"),
    )
    config, geometry = _fit_sizes(config, network, arguments)
    info = _describe_model(config, method, source, data, arguments, geometry)
    check_balance(config, info)
    if network.name not in set(OurNetworks) and network.trained_by is None:
        _try_network(config, info)
    weight, origin = _weigh_foreground(config, method, structure, data)
    classes = ClassWeights()
    if method.of_classes and isinstance(data, TrainingData):
        classes = weigh_classes(config, data)
    pseudo = find_pseudo_masks(config, method, data, store)
    found = (config, dataset, structure, method, source, info, compute, data, weight, origin)
    return FinetuneTask(*found, classes, pseudo)


def _check_settings(config: FinetuneConfig, method: Method, network: Network, source: str) -> None:
    """Tells what is wrong with the settings before anything is read.

    A source may take other sizes, and names of structures in it are compared once the dataset says
    which there are.
    """
    check_packages(network)
    check_class_settings(config, method)
    _fit_sizes(config, network, network.arguments(config))
    kept_iterations(config)
    check_transfer(config, network, source)


def _try_network(config: FinetuneConfig, info: ModelInfo) -> None:
    """Tries a network from outside, at both its sizes, while nothing has begun; ours have tests."""
    network = build_model(info.architecture, info.arguments)
    for edge in dict.fromkeys((config.patch_px or 0, info.tile_px + 2 * info.halo_px)):
        check_network(network, info.architecture, len(info.outputs), edge)


def _open_dataset(
    config: FinetuneConfig, structure: Structure, method: Method
) -> tuple[PreparedDataset, Structure]:
    dataset = PreparedDataset.open(config.dataset)
    check_annotated(dataset)
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


def _own_arguments(
    config: FinetuneConfig, network: Network, data: TrainingData | VolumeTrainingData
) -> dict[str, Any]:
    """The arguments of a network of random weights, by the annotated objects where it asks."""
    arguments = network.arguments(config)
    if network.name == OurNetworks.UNET_RESIDUAL and isinstance(data, TrainingData):
        return fit_to_objects(arguments, data.usual_diameter_px())
    return arguments


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
    source: Source,
    data: TrainingData | VolumeTrainingData,
    arguments: dict[str, Any],
    geometry: Geometry,
) -> ModelInfo:
    """What the model will be; its tile and halo are those of the validations in training."""
    outputs = method.outputs
    if method.of_classes:
        outputs = (BACKGROUND, *split_structures(data.structure))
    info = ModelInfo(
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
    if config.normalisation == FIXED and source.info:
        info = dataclasses.replace(info, grey_scale=source.info.grey_scale)
    if isinstance(data, VolumeTrainingData):
        info = describe_volume_model(info, source.info, data.dataset, rescale=config.rescale)
    return info


def identify_finetune(task: FinetuneTask) -> Identity:
    """What the run of a task is."""
    network = find_network(task.info.architecture)
    settings = transfer_identity(task.config.identity(resolved_settings(task)))
    settings = followed_settings(settings, network)
    settings |= identify_snapshots(task.config)
    settings |= {} if task.config.balance == NONE else {"balance": task.config.balance}
    if not task.method.of_classes:
        # Of a network with a training of its own they were none.
        settings.pop("class_weights", None)
    # Said beside the settings, or by the hash of the source.
    for elsewhere in ("method", "structure", "seed", "source", "labelled"):
        del settings[elsewhere]
    # The separation of instances is chosen on validation as well.
    separated = "boundary" in task.method.outputs
    of_volumes = isinstance(task.data, VolumeTrainingData)
    # Of the only network that has any, so that the others' runs stay what they are.
    own = {name: task.info.arguments[name] for name in ("folds",) if name in task.info.arguments}
    # Blocks of 4 px are what all were of once.
    own |= {"stride": 2} if task.info.arguments.get("stride") == 2 else {}
    # Another program's numbers are those of its version.
    own |= package_versions(network) if network.trained_by else {}
    return Identity(
        step="finetune",
        settings=settings | {"outputs": task.info.outputs} | own,
        inputs={"source": task.source.sha256}
        | ({"pseudo": task.pseudo.digest} if task.pseudo else {}),
        method=task.method.name,
        structure=task.structure.name,
        dataset=task.dataset.content_hash,
        seed=task.config.seed,
        labelled=task.config.labelled,
        pseudo=task.pseudo.tag if task.pseudo else None,
        parts=(
            f"network {task.info.architecture}",
            *(("post-processing", "metrics") if separated else ()),
            *(("volume patches",) if of_volumes else ()),
            *(("classes",) if task.method.of_classes else ()),
            *(("limit",) if task.config.balance == VALIDATION else ()),
        ),
    )


def resolved_settings(task: FinetuneTask) -> dict[str, object]:
    """All settings of a task by name, with what was found for those that were ``auto``."""
    settings = dataclasses.asdict(task.config) | {
        **describe_loop(task.config, loop_settings(task.config)),
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
        **resolved_pseudo(task.pseudo),
        **{name: task.info.arguments[name] for name in ("stride",) if name in task.info.arguments},
    }
    if isinstance(task.data, VolumeTrainingData):
        settings |= describe_patches(task.info, volume_patches(task), mask_threshold(task))
    return followed_settings(settings, find_network(task.info.architecture))


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


def volume_patches(task: FinetuneTask) -> VolumePatchSettings:
    """How the patches of a training on volumes are drawn."""
    assert isinstance(task.data, VolumeTrainingData)
    return volume_patch_settings(task.config, find_network(task.info.architecture), task.data)


def mask_threshold(task: FinetuneTask) -> float:
    """The probability at which a pixel is as likely foreground as not, given the loss."""
    return even_odds(task.config.loss, task.foreground_weight)


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
