"""What a training of a detector is: all that its settings name, found and checked before."""

import dataclasses
from pathlib import Path

import torch

from bench.config.detection import DetectConfig
from bench.core.hashing import file_sha256
from bench.core.names import run_of
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.inference.detection.opening import check_detector
from bench.inference.device import Compute, choose_compute
from bench.methods import RANDOM, Method, detection_of
from bench.models.checkpoint import ModelInfo, build_model, load_info, load_weights
from bench.models.detection.detector import Detector
from bench.models.networks import find_network, find_trainable
from bench.models.outside.packages import check_packages, package_versions
from bench.steps.training.data import TrainingData, fed_pixel_size, loop_settings
from bench.steps.training.minutes import check_minutes, describe_loop
from bench.steps.training.source import fetch_weights_of
from bench.structures import Structure, find_structure
from bench.tracking.runs import Identity
from bench.tracking.store import Store
from bench.tracking.unlisted import get_detection
from bench.training.augment import Augmentation
from bench.training.patches import PatchSettings

_BOXES = ("boxes",)
_TORCH_FILES = (".pt", ".pth")


@dataclasses.dataclass(frozen=True)
class DetectTask:
    """A training of a detector, resolved.

    Attributes:
        config: The settings.
        dataset: The prepared dataset.
        structure: The structure.
        method: What the step makes of the network.
        source: File of the first weights; None for random ones.
        source_sha256: Its hash; empty for random ones.
        info: What the model will be.
        compute: Device and precision.
        data: The annotated sections.
    """

    config: DetectConfig
    dataset: PreparedDataset
    structure: Structure
    method: Method
    source: Path | None
    source_sha256: str
    info: ModelInfo
    compute: Compute
    data: TrainingData


def resolve_detection(config: DetectConfig, store: Store) -> DetectTask:
    """Finds and checks everything that a config names.

    Raises:
        BenchError: If the settings, the dataset or the source do not fit together.
    """
    check_minutes(config)
    dataset = PreparedDataset.open(config.dataset)
    structure = find_structure(config.structure, dataset.structures)
    network = find_trainable(config.network, "detect")
    check_packages(network)
    for split in ("train", "val"):
        if dataset.instances(split, structure.name) == 0:
            raise BenchError(
                f"detect needs instances of {structure.name} in train and val, {split} has none: "
                "annotate some, or choose another split or structure"
            )
    compute = choose_compute(config.device, config.precision)
    source, known = _find_source(config, store)
    fed_nm = fed_pixel_size(known, dataset, rescale=True)
    arguments = known.arguments if known else network.arguments(config)
    network.fit_patch(config.patch_px, arguments)
    data = TrainingData.choose(
        dataset, structure.name, labelled=config.labelled, seed=config.seed, fed_nm=fed_nm
    )
    method = detection_of(network.name)
    info = ModelInfo(
        architecture=network.name,
        arguments=arguments,
        outputs=_BOXES,
        structure=structure.name,
        input_pixel_size_nm=fed_nm,
        normalisation="section",
        tile_px=config.tile_px,
        halo_px=config.halo_px,
        training={"method": method.name, "dataset": dataset.content_hash}
        | ({"terms": network.terms} if network.terms else {}),
    )
    digest = file_sha256(source) if source else ""
    return DetectTask(config, dataset, structure, method, source, digest, info, compute, data)


def _find_source(config: DetectConfig, store: Store) -> tuple[Path | None, ModelInfo | None]:
    """The file of the first weights, and what it is if it is a checkpoint of ours."""
    if config.source == RANDOM:
        return None, None
    path = Path(config.source)
    if run_id := run_of(config.source):
        path = fetch_weights_of(store, get_detection(store, run_id))
    elif not path.is_file():
        raise BenchError(
            f"source must be random, runs:/ID of a detect run or a checkpoint file that exists, "
            f"received {config.source!r}: check the path"
        )
    if path.suffix in _TORCH_FILES:
        return path, None
    info = load_info(path)
    check_detector(info, f"source {config.source}")
    if info.architecture != config.network:
        raise BenchError(
            f"source {config.source} is a {info.architecture}, received network={config.network}: "
            f"give network={info.architecture}, or another source"
        )
    return path, info


def identify_detection(task: DetectTask) -> Identity:
    """What the run of a task is."""
    # Another program's numbers are those of its version.
    versions = package_versions(find_network(task.info.architecture))
    settings = task.config.identity(_resolved_settings(task)) | versions
    for elsewhere in ("structure", "seed", "labelled", "source"):
        del settings[elsewhere]
    return Identity(
        step="detect",
        settings=settings,
        inputs={"source": task.source_sha256},
        method=task.method.name,
        structure=task.structure.name,
        dataset=task.dataset.content_hash,
        seed=task.config.seed,
        labelled=task.config.labelled,
        parts=(f"network {task.info.architecture}",),
    )


def _resolved_settings(task: DetectTask) -> dict[str, object]:
    return dataclasses.asdict(task.config) | describe_loop(task.config, loop_settings(task.config))


def resolved_detection(task: DetectTask) -> dict[str, object]:
    """All settings of a task by name, with what was found for those that were ``auto``."""
    network = find_network(task.info.architecture)
    outside = package_versions(network)
    outside |= {"network_terms": network.terms} if network.terms else {}
    return (
        _resolved_settings(task)
        | outside
        | {
            "structure": task.structure.name,
            "method": task.method.name,
            "source_sha256": task.source_sha256 or "none",
            "device": str(task.compute.device),
            "precision": task.compute.precision,
            "pixel_size_nm": task.dataset.pixel_size_nm or "unknown",
            "fed_pixel_size_nm": task.info.input_pixel_size_nm or "unknown",
            "labelled": len(task.data.names),
        }
    )


def start_detector(task: DetectTask) -> tuple[Detector, tuple[int, int]]:
    """Builds the network with the source's weights.

    Returns:
        The network, and how many of its tensors came from the source, of how many.

    Raises:
        BenchError: If fewer than half of its tensors fit: the source is another network.
    """
    torch.manual_seed(task.config.seed)
    network = build_model(task.info.architecture, task.info.arguments)
    assert isinstance(network, Detector)
    target = network.state_dict()
    if task.source is None:
        return network, (0, len(target))
    foreign = task.source.suffix in _TORCH_FILES
    given = network.read_published(task.source) if foreign else load_weights(task.source)
    fitting = {n: t for n, t in given.items() if n in target and t.shape == target[n].shape}
    if 2 * len(fitting) < len(target):
        raise BenchError(
            f"source {task.config.source} must be of the network {task.info.architecture}, only "
            f"{len(fitting)} of its {len(target)} tensors fit: choose another source or network"
        )
    network.load_state_dict(fitting, strict=False)
    return network, (len(fitting), len(target))


def box_patch_settings(config: DetectConfig) -> PatchSettings:
    """How the patches of a training are drawn."""
    return PatchSettings(
        patch_px=config.patch_px,
        batch_size=config.batch_size,
        foreground_fraction=config.foreground_fraction,
        augmentation=Augmentation(config.rotate, config.flip, 0.0, config.noise),
        seed=config.seed,
    )
