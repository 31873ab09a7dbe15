"""The annotated volumes that a training reads, and how patches are drawn from them."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from bench.config.training import FinetuneConfig
from bench.dataset.partial import foreground_of_annotated, is_partial
from bench.dataset.prepared import PreparedDataset
from bench.dataset.volumes import (
    Volume,
    find_volumes,
    read_volume,
    read_volume_labels,
    read_volume_levels,
)
from bench.errors import BenchError
from bench.inference.symmetries import are_serial_sections
from bench.inference.volume_feed import VolumeFeed
from bench.inference.volumes import volume_at_model_scale
from bench.methods import Method
from bench.metrics.overlap import find_open
from bench.models.checkpoint import ModelInfo
from bench.models.networks import Network, find_network
from bench.tracking.runs import Run
from bench.training.volume_folds import FoldedPatchFeed
from bench.training.volume_patches import (
    HeldVolume,
    VolumeAugmentation,
    VolumePatchFeed,
    VolumePatchSettings,
    hold_volume,
)

_SMOOTHING = "smoothing_px"


@dataclass(frozen=True)
class VolumeTrainingData:
    """The volumes of a training, and the scale at which the network sees them.

    Attributes:
        dataset: The prepared dataset.
        structure: Name of the structure.
        volumes: Training volumes whose annotation is used.
        fed_nm: Pixel size (nm) at which they are fed; None if not known.
    """

    dataset: PreparedDataset
    structure: str
    volumes: tuple[Volume, ...]
    fed_nm: float | None

    @classmethod
    def choose(
        cls,
        dataset: PreparedDataset,
        structure: str,
        *,
        labelled: int | None,
        seed: int,
        fed_nm: float | None,
    ) -> "VolumeTrainingData":
        """Chooses the training volumes: all, or as many as ``labelled`` says.

        The few are drawn by the seed, those with instances first, and a larger number keeps the
        volumes of a smaller one.

        Raises:
            BenchError: If the structure is annotated in none, or there are fewer.
        """
        volumes = find_volumes(dataset, "train")
        if dataset.instances("train", structure) == 0:
            raise BenchError(
                f"training needs instances of {structure}, the {len(volumes)} training volumes "
                "have none: annotate some, or choose another split"
            )
        if labelled is None:
            return cls(dataset, structure, volumes, fed_nm)
        if labelled > len(volumes):
            raise BenchError(
                f"labelled must be at most the {len(volumes)} training volumes there are, "
                f"received {labelled}: lower it, or annotate more"
            )
        drawn = [volumes[i] for i in np.random.default_rng(seed).permutation(len(volumes))]
        drawn.sort(key=lambda volume: not _has_instances(dataset, volume, structure))
        return cls(dataset, structure, tuple(drawn[:labelled]), fed_nm)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the training volumes whose annotation is used."""
        return tuple(volume.name for volume in self.volumes)

    @property
    def kind(self) -> str:
        """What they are, for people."""
        return "volumes"

    def foreground_fraction(self) -> float:
        """Share of the voxels of the training volumes that are in the structure."""
        if self.volumes == find_volumes(self.dataset, "train"):
            return self.dataset.foreground_fraction("train", self.structure)
        names = (name for volume in self.volumes for name in volume.sections)
        return foreground_of_annotated(self.dataset, names, self.structure)


def _has_instances(dataset: PreparedDataset, volume: Volume, structure: str) -> bool:
    return any(dataset.read_labels(name, structure).any() for name in volume.sections)


def check_folds(config: FinetuneConfig, arguments: dict[str, Any]) -> None:
    """Raises BenchError where a batch cannot be shared by the networks of folds."""
    folds = arguments.get("folds", 1)
    if (config.batch_size or folds) % folds:
        raise BenchError(
            f"batch_size must be a multiple of the {folds} folds, whose networks share a batch, "
            f"received {config.batch_size}: change one of both"
        )


def check_volumes(dataset: PreparedDataset, method: Method) -> None:
    """Raises BenchError where a method of volumes is given sections, or learns more than them."""
    if not find_volumes(dataset, "train"):
        raise BenchError(
            f"method {method.name} trains the network {method.network}, which takes volumes, "
            f"received the sections of {dataset.root}: prepare stacks with -P volumes=true, or "
            "choose a method of sections"
        )
    if method.outputs != ("foreground",):
        raise BenchError(
            f"a network of volumes learns the foreground, method {method.name} has the outputs "
            f"{', '.join(method.outputs)}: leave out the others"
        )


def describe_volume_model(
    info: ModelInfo, source: ModelInfo | None, dataset: PreparedDataset, *, rescale: bool
) -> ModelInfo:
    """What a model of volumes is besides what one of sections is.

    It is fed at its source's distance of planes, and smooths volumes where its source did.

    Args:
        info: What it is, its tile and halo in y and x among it.
        source: What it starts from; None for random weights.
        dataset: What it is trained on.
        rescale: Whether volumes are resampled to the source's voxels.

    Raises:
        BenchError: If its source pools more planes than a patch has.
    """
    network = find_network(info.architecture)
    planes, halo = network.fit_planes((info.tile_px, info.halo_px))
    multiple = network.multiples(info.arguments)[0]
    if (planes + 2 * halo) % multiple:
        raise BenchError(
            f"a patch of {info.architecture} has {planes + 2 * halo} planes, received a source "
            f"whose planes must be a multiple of {multiple}: choose another source"
        )
    section_nm = float(dataset.manifest["section_nm"])
    if rescale and source and source.input_pixel_size_nm and dataset.pixel_size_nm:
        section_nm = source.input_section_nm or section_nm
    smoothing_px = source.inference.get(_SMOOTHING, 0.0) if source else 0.0
    return replace(
        info,
        tile_planes=planes,
        halo_planes=halo,
        input_section_nm=section_nm,
        inference={_SMOOTHING: smoothing_px} if smoothing_px else {},
    )


def describe_patches(
    info: ModelInfo, patches: VolumePatchSettings, threshold: float
) -> dict[str, object]:
    """What a run resolves of volumes, beside what it does of sections."""
    return {
        "validation_threshold": threshold,
        "patch_planes": patches.shape[0],
        "augmentation": str(patches.augmentation),
        _SMOOTHING: info.inference.get(_SMOOTHING, 0.0),
        "fed_section_nm": info.input_section_nm or "unknown",
    }


def even_odds(loss: str, foreground_weight: float) -> float:
    """The probability at which a voxel is as likely foreground as not, as a loss teaches it.

    Under cross-entropy in which foreground weighs w, that is w / (w + 1): 0.91 of a weight of 10.
    """
    return foreground_weight / (foreground_weight + 1) if loss == "weighted_bce" else 0.5


def known_voxel_size(volume: Volume) -> tuple[float, float, float] | None:
    """Edges of a volume's voxels along z, y, x in nm; None where its pixels' are not known."""
    return volume.voxel_size_nm if all(volume.voxel_size_nm) else None


def make_volume_feed(
    data: VolumeTrainingData, info: ModelInfo, settings: VolumePatchSettings, device: torch.device
) -> VolumePatchFeed | FoldedPatchFeed:
    """Reads the training volumes, as the model will be fed them, to draw patches from."""
    partly = is_partial(data.dataset, [data.structure], ("train",))
    volumes = [_hold(data, volume, info, partly=partly) for volume in data.volumes]
    if folds := info.arguments.get("folds"):
        return FoldedPatchFeed(volumes, settings, device, folds)
    return VolumePatchFeed(volumes, settings, device)


def _hold(data: VolumeTrainingData, volume: Volume, info: ModelInfo, *, partly: bool) -> HeldVolume:
    raw = read_volume(data.dataset, volume)
    feed = VolumeFeed(
        lambda start, stop: raw[start:stop],
        volume.shape,
        volume_at_model_scale(volume.shape, info, known_voxel_size(volume)),
        info.inference.get(_SMOOTHING, 0.0),
        info.normalisation,
    )
    labels = read_volume_labels(data.dataset, volume, data.structure)
    if not partly:
        return hold_volume(raw, labels, feed)
    opened = find_open(read_volume_levels(data.dataset, volume, data.structure))
    return hold_volume(raw, labels, feed, np.ones(raw.shape, bool) if opened is None else ~opened)


def volume_patch_settings(
    config: FinetuneConfig, network: Network, data: VolumeTrainingData
) -> VolumePatchSettings:
    """How the patches of a training are drawn."""
    assert config.patch_px is not None
    assert config.batch_size is not None
    serial = are_serial_sections(data.volumes[0].voxel_size_nm)
    return VolumePatchSettings(
        shape=(network.patch_planes(config.patch_px), config.patch_px, config.patch_px),
        batch_size=config.batch_size,
        foreground_fraction=config.foreground_fraction,
        augmentation=VolumeAugmentation(config.flip, config.rotate and serial, config.noise),
        seed=config.seed,
    )


def warn_of_small_volumes(
    run: Run, data: VolumeTrainingData, info: ModelInfo, patch: tuple[int, int, int]
) -> None:
    """Says in a run which training volumes are smaller than a patch, and are thus mirrored."""
    for volume in data.volumes:
        fed = volume_at_model_scale(volume.shape, info, known_voxel_size(volume))
        if any(side < wanted for side, wanted in zip(fed, patch, strict=True)):
            run.add_warning(
                f"volume {volume.name} has {_sides(fed)} voxels (z, y, x) as it is fed, a patch "
                f"{_sides(patch)}: it is mirrored beyond its border, which shows the network what "
                "is not there; a smaller patch_px may fit"
            )


def _sides(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
