"""How fast a network is on this device: a training step and a prediction tile, timed."""

import logging
import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from bench.config.detection import DetectConfig
from bench.config.pretraining import PretrainConfig
from bench.config.training import DomainAdaptConfig, FinetuneConfig
from bench.inference.device import Compute
from bench.inference.prediction import model_shape
from bench.inference.prompts.masks import prompt_objects
from bench.inference.prompts.objects import PromptSettings, settings_of
from bench.inference.sam.embeddings import KeptEncoder
from bench.inference.sam.masks import MaskSettings, make_predictor
from bench.inference.sam.windows import place_windows
from bench.inference.tiles import fit_batch, start_tiles
from bench.inference.volumes import predict_volume
from bench.models.checkpoint import ModelInfo, build_model
from bench.models.networks import Network, find_network
from bench.models.pixels.pixel_classifier import PixelClassifier
from bench.steps.detection.detect_task import DetectTask, box_patch_settings, start_detector
from bench.steps.pretrain import make_view_feeds
from bench.steps.training.data import TrainingData, loop_settings
from bench.steps.training.finetune_task import patch_settings
from bench.steps.training.microsam_task import (
    instance_patches,
    sam_loop_settings,
    start_sam,
)
from bench.steps.training.volumes import (
    VolumeTrainingData,
    make_volume_feed,
    volume_patch_settings,
)
from bench.training.ahead import Feed
from bench.training.augment import Augmentation
from bench.training.box_patches import BoxPatchFeed, detecting
from bench.training.loop import make_trainee
from bench.training.objectives import make_loss, supervised
from bench.training.patches import PatchFeed, PatchSettings
from bench.training.pixels.pace import PixelSpeed, time_features
from bench.training.sam.interactive import (
    SamTrainingSettings,
    interactive,
    prepare_network,
)
from bench.training.sam.patches import InstancePatchFeed
from bench.training.speed import time_calls, time_steps

log = logging.getLogger(__name__)

# Prompts along a window's side while automatic segmentation is timed; their number counts squared.
_POINTS = 8
_TRIED = Augmentation(rotate=True, flip=True, elastic_px=4.0, noise=0.1)


@dataclass(frozen=True)
class Speed:
    """How fast a network is.

    Attributes:
        compute: Where it was measured.
        info: What the model is.
        iteration_s: Seconds of a training iteration; 0 if none was timed.
        batch_size: Patches in it.
        patch_px: Their edge.
        tile_s: Seconds of a tile (of a SAM: a window; of volumes: a tile of all its planes).
        parameters: Of the network.
        pixels: Of what is fitted on pixels: how fast its features are; None of others.
    """

    compute: Compute
    info: ModelInfo
    iteration_s: float
    batch_size: int
    patch_px: int
    tile_s: float
    parameters: int
    pixels: PixelSpeed | None = None

    def network(self) -> Network:
        """The row of its network."""
        return find_network(self.info.architecture)

    def __str__(self) -> str:
        """What was measured, for people."""
        planes = f" x {self.info.tile_planes} planes" if self.info.tile_planes else ""
        tile = f"a tile of {self.info.tile_px} px{planes} {self.tile_s:.2g} s"
        if self.pixels:
            return (
                f"{self.info.architecture}: a million pixels {self.pixels.feature_s:.2g} s, {tile}"
            )
        if not self.iteration_s:
            return f"{self.info.architecture}: {tile}"
        patch = f"batch {self.batch_size}, patch {self.patch_px} px"
        return f"{self.info.architecture}: an iteration ({patch}) {self.iteration_s:.2g} s, {tile}"

    def count_tiles(
        self,
        shapes: list[tuple[int, ...]],
        pixel_size_nm: float | None,
        fed_nm: float | None,
        planes: float = 1.0,
    ) -> int:
        """Tiles of sections (y, x), at the pixel size in nm at which the model is fed.

        Args:
            shapes: Of the sections, or the planes of volumes.
            pixel_size_nm: Their pixel size; None if not known.
            fed_nm: That of the model; None if not known.
            planes: Of volumes: planes that are fed for each of theirs.
        """
        fed = [model_shape(shape, fed_nm, pixel_size_nm) for shape in shapes]
        tile_px, halo_px = self.info.tile_px, self.info.halo_px
        if self.network().dims == 3:
            voxels = planes * sum(y * x for y, x in fed)
            return math.ceil(voxels / ((self.info.tile_planes or tile_px) * tile_px**2))
        if self.network().tiled:
            return sum(-(-y // tile_px) * -(-x // tile_px) for y, x in fed)
        return sum(len(place_windows(s, tile_px=tile_px, halo_px=halo_px)) for s in fed)


def measure_training(task: Any, calls: int) -> Speed:
    """Times a training of a task as its step would begin it, and a tile.

    Args:
        task: What finetune, domain_adapt or microsam works with.
        calls: Iterations that will be done.

    Raises:
        BenchError: If a batch or a tile does not fit into the memory.
    """
    if isinstance(task.config, FinetuneConfig) and find_network(task.info.architecture).one_fit:
        return _measure_pixels(task.info, task.compute)
    log.info("timing an iteration of %s on this device ...", task.method.network)
    with torch.random.fork_rng(devices=[]):
        if isinstance(task.config, FinetuneConfig | DomainAdaptConfig | PretrainConfig):
            return _measure_tiled_training(task, calls)
        if isinstance(task.config, DetectConfig):
            return _measure_detector(task, calls)
        return _measure_sam(task, calls)


def measure_prediction(info: ModelInfo, compute: Compute, calls: int) -> Speed:
    """Times a tile of a model that is not trained; ``calls`` will be predicted."""
    if find_network(info.architecture).one_fit:
        return _measure_pixels(info, compute)
    network = build_model(info.architecture, info.arguments)
    network.to(compute.device)
    tile_s = _time_tile(network, info, compute, calls)
    return Speed(compute, info, 0.0, 0, 0, tile_s, _size(network))


def _measure_pixels(info: ModelInfo, compute: Compute) -> Speed:
    """Times what trees see; the trees themselves follow from that."""
    log.info("timing the features of %s on this device ...", info.architecture)
    network = build_model(info.architecture, info.arguments).to(compute.device)
    assert isinstance(network, PixelClassifier)
    pixels = time_features(network.find_maps, compute.device)
    tile_s = pixels.tile_s(info.tile_px)
    return Speed(compute, info, 0.0, 0, 0, tile_s, _size(network), pixels)


def _measure_tiled_training(task: Any, calls: int) -> Speed:
    config, info, compute = task.config, task.info, task.compute
    network = build_model(info.architecture, info.arguments)
    settings = loop_settings(config)
    trainee = make_trainee(network, settings, compute)
    feed = _feed_of_one(task)
    patches = feed.settings
    loss = make_loss("focal_dice", gamma=2.0, foreground_weight=1.0)
    iteration_s = time_steps(trainee, supervised(network, feed, loss, compute), settings, calls)
    tile_s = _time_tile(network, info, compute, calls)
    return Speed(
        compute, info, iteration_s, patches.batch_size, patches.patch_px, tile_s, _size(network)
    )


def _feed_of_one(task: Any) -> Feed:
    """Patches as a training draws them, of its first section or volume."""
    config, info, device = task.config, task.info, task.compute.device
    if isinstance(config, PretrainConfig):
        return make_view_feeds(task)[0]
    if isinstance(config, FinetuneConfig):
        if isinstance(task.data, VolumeTrainingData):
            volumes = replace(task.data, volumes=task.data.volumes[:1])
            drawn = volume_patch_settings(config, find_network(info.architecture), volumes)
            return make_volume_feed(volumes, info, drawn, device)
        first = replace(task.data, names=task.data.names[:1])
        return PatchFeed(first.train(), patch_settings(config), device, info.outputs)
    # A mean teacher's student does such a step; what its teacher adds is a share of it.
    names = task.dataset.sections("val")[:1]
    patches = PatchSettings(task.config.patch_px, config.batch_size, 0.5, _TRIED, config.seed)
    data = TrainingData(task.dataset, task.structure.name, names, info.input_pixel_size_nm)
    # Targets of any channels take the same time.
    return PatchFeed(data.train(), patches, device, ("foreground",) * len(info.outputs))


def _measure_detector(task: DetectTask, calls: int) -> Speed:
    config, info, compute = task.config, task.info, task.compute
    network, _ = start_detector(task)
    settings = loop_settings(config)
    trainee = make_trainee(network, settings, compute)
    first = replace(task.data, names=task.data.names[:1])
    feed = BoxPatchFeed(first.train(), box_patch_settings(config), config.zoom)
    iteration_s = time_steps(trainee, detecting(network, feed, compute), settings, calls)
    return Speed(
        compute, info, iteration_s, config.batch_size, config.patch_px, 0.0, _size(network)
    )


def _measure_sam(task: Any, calls: int) -> Speed:
    config, compute = task.config, task.compute
    network, info = start_sam(task)
    network.to(compute.device)
    tile_s = _time_window(network, info, task, calls)
    if config.mode != "finetune":
        return Speed(compute, info, 0.0, 0, 0, tile_s, _size(network))
    prepare_network(network, freeze=config.freeze, lora_rank=config.lora_rank)
    settings = sam_loop_settings(config)
    trainee = make_trainee(network, settings, compute)
    feed = InstancePatchFeed(task.data.train(), instance_patches(config, network))
    prompts = SamTrainingSettings(config.sub_iterations, config.objects_per_batch)
    objective = interactive(network, feed, prompts, compute)
    iteration_s = time_steps(trainee, objective, settings, calls)
    return Speed(
        compute, info, iteration_s, config.batch_size, config.patch_px, tile_s, _size(network)
    )


def _time_tile(network: torch.nn.Module, info: ModelInfo, compute: Compute, calls: int) -> float:
    """Seconds of a tile with its halo, in a batch as large as predictions have."""
    row = find_network(info.architecture)
    if row.dims == 3:
        return time_calls(partial(_predict_noise, network, info, compute), calls)
    if not row.tiled:
        return 0.0
    edge = info.tile_px + 2 * info.halo_px
    size = fit_batch(compute, edge)
    tiles = np.random.default_rng(0).standard_normal((size, edge, edge), dtype=np.float32)
    network.eval()
    predict = partial(start_tiles, network, tiles, info.halo_px, compute)
    return time_calls(lambda: predict().cpu(), calls) / size


def _predict_noise(network: torch.nn.Module, info: ModelInfo, compute: Compute) -> None:
    """Predicts a volume of the size of a tile."""
    shape = (info.tile_planes or info.tile_px, info.tile_px, info.tile_px)
    noise = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    predict_volume(
        network,
        info,
        compute,
        read_planes=lambda start, stop: noise[start:stop],
        shape=shape,
        voxel_size_nm=None,
        write_planes=lambda start, levels: None,
    )


def _time_window(network: Any, info: ModelInfo, task: Any, calls: int) -> float:
    """Seconds of a window; of many points few are tried, as each takes as long."""
    if prompts := settings_of(info):
        return _time_prompts(network, info, prompts, task, calls)
    settings = MaskSettings(**info.inference)
    points = settings.points_per_side if settings.segmentation == "amg" else 0
    tried = replace(
        info, inference=info.inference | {"points_per_side": min(points or _POINTS, _POINTS)}
    )
    raw = task.dataset.read_raw(task.dataset.sections("val")[0])
    edge = info.tile_px + 2 * info.halo_px
    predict = make_predictor(network, tried)
    seconds = time_calls(lambda: predict(raw[:edge, :edge], None), calls)
    return seconds * max(1.0, (points / _POINTS) ** 2)


def _time_prompts(
    network: Any, info: ModelInfo, prompts: PromptSettings, task: Any, calls: int
) -> float:
    """Seconds of a window whose objects are prompted."""
    name = task.dataset.sections("val")[0]
    labels = task.dataset.read_labels(name, task.structure.name)
    edge = info.tile_px + 2 * info.halo_px
    y, x = np.argwhere(labels)[0] if labels.any() else (0, 0)
    window = np.s_[y : y + edge, x : x + edge]
    raw, labels = task.dataset.read_raw(name)[window], labels[window]
    sizes = {"tile_px": info.tile_px, "halo_px": info.halo_px}
    encoder = KeptEncoder(network, None)
    with torch.inference_mode():
        return time_calls(
            lambda: list(prompt_objects(encoder, raw, labels, prompts, **sizes, section=0)), calls
        )


def _size(network: torch.nn.Module) -> int:
    return sum(part.numel() for part in network.parameters())
