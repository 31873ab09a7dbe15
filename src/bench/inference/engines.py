"""What computes a network of sections on a CPU: torch, or OpenVINO where that is faster.

OpenVINO's maps differ from torch's in the last digits, so that a level may be another; in eight
bits by more. What made an evaluation is kept in its recipe, and followed wherever that is applied.
"""

import dataclasses
import importlib.metadata
import importlib.util
import logging
import time
from pathlib import Path

import numpy as np
import torch

from bench.errors import BenchError
from bench.inference.converted import (
    WatchedNetwork,
    convert,
    convert_watched,
    make_noise,
    read_limits,
    write_limits,
)
from bench.inference.device import Compute
from bench.models.checkpoint import ModelInfo, load_checkpoint, load_info
from bench.models.networks import find_network
from bench.words import AUTO, INT8, OPENVINO, TORCH

log = logging.getLogger(__name__)
_INSTALLED_BY = "pip install --no-deps -r requirements-openvino.txt"
# OpenVINO is taken where it needs at most this share of torch's time: what is nearly as fast would
# be chosen by chance, and another time not.
_WORTH = 0.9
_ROUNDS = 2
# Mean difference of probabilities on noise from which a network was not converted but broken: one
# whose computation leaves torch becomes a constant. In bf16 two engines differ by up to 0.005.
_BROKEN = 0.02


def choose_engine(wanted: str, compute: Compute, path: Path) -> Compute:
    """Resolves what computes a model of sections; ``auto`` measures both on one tile.

    Args:
        wanted: ``auto``, ``torch`` or ``openvino``.
        compute: The device and precision.
        path: The model's checkpoint.

    Raises:
        BenchError: If OpenVINO is asked for, and cannot compute the model here.
    """
    if wanted == TORCH:
        return compute
    if wanted == AUTO and not _is_installed():
        # Whoever did not ask for it is not told at every evaluation that he might.
        return compute
    try:
        check_possible(compute, load_info(path))
        seconds = _measure(compute, path)
    except BenchError as error:
        if wanted == OPENVINO:
            raise
        log.info("engine torch: %s", error)
        return compute
    engine = wanted
    if wanted == AUTO:
        engine = OPENVINO if seconds[OPENVINO] <= _WORTH * seconds[TORCH] else TORCH
    log.info(
        "engine %s: a tile takes %.2f CPU s of torch, %.2f of openvino",
        *(engine, seconds[TORCH], seconds[OPENVINO]),
    )
    return dataclasses.replace(compute, engine=engine)


def with_recorded(compute: Compute, engine: str | None) -> Compute:
    """The engine that a recipe says of a model, or torch and a warning where it is not here."""
    if engine is None:
        return compute
    try:
        check_recorded(compute, engine)
    except BenchError as error:
        name = engine.split()[0]
        log.warning("warning: evaluated with %s, applied with torch: %s", name, error)
        return compute
    return dataclasses.replace(compute, engine=engine)


def check_recorded(compute: Compute, engine: str) -> None:
    """Raises BenchError where what a recipe says of an engine cannot be had on this device."""
    check_engine(compute)
    # Another version may order the convolutions otherwise.
    found = read_limits(engine)
    if found and found[0] != (installed := importlib.metadata.version("openvino")):
        raise BenchError(
            f"engine={INT8} must be of the version that measured its limits, {found[0]}, installed "
            f"is {installed}: evaluate the model again, or install that version"
        )


def open_watched(path: Path, compute: Compute) -> WatchedNetwork:
    """Reads a network into OpenVINO, as one that remembers what entered its convolutions.

    Raises:
        BenchError: If OpenVINO cannot compute the model here.
    """
    network, info = load_checkpoint(path)
    check_possible(compute, info)
    return convert_watched(network.eval(), info, compute)


def in_eight_bits(compute: Compute, watched: WatchedNetwork) -> Compute:
    """OpenVINO in eight bits, by what entered the convolutions of a model so far.

    Raises:
        BenchError: If some of that was no number.
    """
    if not np.isfinite(watched.limits).all():
        raise BenchError(
            f"engine={INT8} must have finite values in the network, received others: its training "
            "failed, or use engine=openvino"
        )
    version = importlib.metadata.version("openvino")
    return dataclasses.replace(compute, engine=write_limits(watched.limits, version))


def recorded(compute: Compute) -> str | None:
    """What a recipe says of an engine: nothing of torch, as before there was a choice."""
    return None if compute.engine == TORCH else compute.engine


def check_engine(compute: Compute) -> None:
    """Raises BenchError where OpenVINO cannot compute on this device."""
    if not _is_installed():
        raise BenchError(
            "engine=openvino needs the package openvino, which is not installed: install it "
            f"({_INSTALLED_BY}), or use engine=torch"
        )
    if compute.device.type != "cpu":
        raise BenchError(
            f"engine=openvino computes on a CPU, the device is {compute.device}: add device=cpu, "
            "or use engine=torch"
        )


def _is_installed() -> bool:
    return importlib.util.find_spec("openvino") is not None


def open_network(path: Path, compute: Compute) -> torch.nn.Module:
    """Reads a network that is applied tile by tile, onto its device and into its engine.

    Returns:
        From normalised tiles (batch, 1, y, x) with their halo to logits (batch, channels, y, x).
    """
    network, info = load_checkpoint(path)
    network = network.to(compute.device).eval()
    return network if compute.engine == TORCH else convert(network, info, compute)


def check_possible(compute: Compute, info: ModelInfo) -> None:
    """Raises BenchError where OpenVINO cannot compute a model here."""
    check_engine(compute)
    network = find_network(info.architecture)
    if not network.tiled or network.dims == 3:
        raise BenchError(
            "engine=openvino is for networks of sections that are applied tile by tile, "
            f"{info.architecture} is none: use engine=torch"
        )


def _measure(compute: Compute, path: Path) -> dict[str, float]:
    """CPU seconds of a tile by engine, the best of some; checks that both say the same."""
    info = load_info(path)
    ways = {
        engine: open_network(path, dataclasses.replace(compute, engine=engine))
        for engine in (TORCH, OPENVINO)
    }
    tile = torch.from_numpy(make_noise(info.tile_px + 2 * info.halo_px, seed=1))
    seconds = dict.fromkeys(ways, np.inf)
    found = {}
    with torch.inference_mode(), compute.autocast():
        for _ in range(_ROUNDS):
            for name, way in ways.items():
                started = time.process_time()
                found[name] = way(tile).float().sigmoid()
                seconds[name] = min(seconds[name], time.process_time() - started)
    apart = float((found[TORCH] - found[OPENVINO]).abs().mean())
    if not apart <= _BROKEN:
        raise BenchError(
            f"engine=openvino must predict what torch does, {info.architecture} differs by "
            f"{apart:.3f} on a tile of noise: use engine=torch"
        )
    return seconds
