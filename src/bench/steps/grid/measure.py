"""How fast a network is on this device: a training step and a prediction tile, timed."""

import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from bench.config.training import DomainAdaptConfig, FinetuneConfig
from bench.inference.device import Compute
from bench.inference.prediction import model_shape
from bench.inference.sam_masks import MaskSettings, make_predictor
from bench.inference.sam_windows import place_windows
from bench.inference.tiles import fit_batch, start_tiles
from bench.models.checkpoint import ModelInfo, build_model
from bench.models.networks import Network, find_network
from bench.steps.finetune import patch_settings
from bench.steps.microsam import sam_loop_settings, start_sam
from bench.steps.training.data import TrainingData, loop_settings
from bench.training.augment import Augmentation
from bench.training.loop import LoopSettings, make_trainee, train_batch
from bench.training.objectives import Objective, make_loss, supervised
from bench.training.patches import PatchFeed, PatchSettings
from bench.training.sam_training import (
    InstancePatchFeed,
    InstancePatchSettings,
    SamTrainingSettings,
    interactive,
    prepare_network,
)

log = logging.getLogger(__name__)

# Seconds of timing, at least one call, after the first, which is slower; and what the first must
# take at most if there is to be a second.
_SECONDS, _LONGEST_FIRST_S = 2.0, 15.0
# A minute that many calls would not fill need not be known better.
_SHORT_S = 60.0
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
        tile_s: Seconds of a tile (of a SAM: a window).
        parameters: Of the network.
    """

    compute: Compute
    info: ModelInfo
    iteration_s: float
    batch_size: int
    patch_px: int
    tile_s: float
    parameters: int

    def network(self) -> Network:
        """The row of its network."""
        return find_network(self.info.architecture)

    def __str__(self) -> str:
        """What was measured, for people."""
        tile = f"a tile of {self.info.tile_px} px {self.tile_s:.2g} s"
        if not self.iteration_s:
            return f"{self.info.architecture}: {tile}"
        patch = f"batch {self.batch_size}, patch {self.patch_px} px"
        return f"{self.info.architecture}: an iteration ({patch}) {self.iteration_s:.2g} s, {tile}"

    def count_tiles(
        self, shapes: list[tuple[int, ...]], pixel_size_nm: float | None, fed_nm: float | None
    ) -> int:
        """Tiles of sections (y, x), at the pixel size in nm at which the model is fed."""
        fed = [model_shape(shape, fed_nm, pixel_size_nm) for shape in shapes]
        tile_px, halo_px = self.info.tile_px, self.info.halo_px
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
    log.info("timing an iteration of %s on this device ...", task.method.network)
    with torch.random.fork_rng(devices=[]):
        if isinstance(task.config, FinetuneConfig | DomainAdaptConfig):
            return _measure_tiled_training(task, calls)
        return _measure_sam(task, calls)


def measure_prediction(info: ModelInfo, compute: Compute, calls: int) -> Speed:
    """Times a tile of a model that is not trained; ``calls`` will be predicted."""
    network = build_model(info.architecture, info.arguments)
    network.to(compute.device)
    tile_s = _time_tile(network, info, compute, calls)
    return Speed(compute, info, 0.0, 0, 0, tile_s, _size(network))


def _measure_tiled_training(task: Any, calls: int) -> Speed:
    config, info, compute = task.config, task.info, task.compute
    if isinstance(config, FinetuneConfig):
        names, patches = task.data.names, patch_settings(config)
    else:
        # A mean teacher's student does such a step; what its teacher adds is a share of it.
        names = task.dataset.sections("val")
        patches = PatchSettings(config.patch_px, config.batch_size, 0.5, _TRIED, config.seed)
    data = TrainingData(task.dataset, task.structure.name, names[:1], info.input_pixel_size_nm)
    network = build_model(info.architecture, info.arguments)
    settings = loop_settings(config)
    trainee = make_trainee(network, settings, compute)
    # Targets of any channels take the same time.
    feed = PatchFeed(data.train(), patches, compute.device, ("foreground",) * len(info.outputs))
    loss = make_loss("focal_dice", gamma=2.0, foreground_weight=1.0)
    iteration_s = _time_steps(trainee, supervised(network, feed, loss, compute), settings, calls)
    tile_s = _time_tile(network, info, compute, calls)
    return Speed(
        compute, info, iteration_s, patches.batch_size, patches.patch_px, tile_s, _size(network)
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
    distances = network.unetr is not None
    patches = InstancePatchSettings(config.patch_px, config.batch_size, distances, config.seed)
    feed = InstancePatchFeed(task.data.train(), patches)
    prompts = SamTrainingSettings(config.sub_iterations, config.objects_per_batch)
    objective = interactive(network, feed, prompts, compute)
    iteration_s = _time_steps(trainee, objective, settings, calls)
    return Speed(
        compute, info, iteration_s, config.batch_size, config.patch_px, tile_s, _size(network)
    )


def _time_steps(trainee: Any, objective: Objective, settings: LoopSettings, calls: int) -> float:
    iteration = itertools.count()
    device = next(trainee.network.parameters()).device

    def step() -> None:
        train_batch(trainee, objective, replace(settings, schedule="plateau"), next(iteration))
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return time_calls(step, calls)


def _time_tile(network: torch.nn.Module, info: ModelInfo, compute: Compute, calls: int) -> float:
    """Seconds of a tile with its halo, in a batch as large as predictions have."""
    if not find_network(info.architecture).tiled:
        return 0.0
    edge = info.tile_px + 2 * info.halo_px
    size = fit_batch(compute, edge)
    tiles = np.random.default_rng(0).standard_normal((size, edge, edge), dtype=np.float32)
    network.eval()
    predict = partial(start_tiles, network, tiles, info.halo_px, compute)
    return time_calls(lambda: predict().cpu(), calls) / size


def _time_window(network: Any, info: ModelInfo, task: Any, calls: int) -> float:
    """Seconds of a window; of many points few are tried, as each takes as long."""
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


def _size(network: torch.nn.Module) -> int:
    return sum(part.numel() for part in network.parameters())


def time_calls(call: Callable[[], object], calls: int) -> float:
    """Seconds of one of many calls, of which as few are made as tell it.

    Args:
        call: What is timed.
        calls: How often it will be called.

    Returns:
        The mean after the first call, which also allocates and chooses kernels; the first where it
        takes longer than _LONGEST_FIRST_S, or all of them less than _SHORT_S.
    """
    started = time.monotonic()
    call()
    first = time.monotonic() - started
    if first > _LONGEST_FIRST_S or first * calls < _SHORT_S:
        return first
    started, done = time.monotonic(), 0
    while time.monotonic() - started < _SECONDS:
        call()
        done += 1
    return (time.monotonic() - started) / done
