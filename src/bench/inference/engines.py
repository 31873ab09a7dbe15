"""What computes a network of sections on a CPU: torch, or OpenVINO where that is faster.

OpenVINO's maps differ from torch's in the last digits, so that a level may be another. Which of
both made an evaluation is kept in its recipe, and followed wherever that is applied.
"""

import contextlib
import dataclasses
import importlib.util
import logging
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.errors import BenchError
from bench.inference.device import Compute
from bench.models.checkpoint import ModelInfo, load_checkpoint, load_info
from bench.models.networks import find_network
from bench.models.unet2d import InstanceNorm, without_own_kernels
from bench.words import AUTO, OPENVINO, TORCH

log = logging.getLogger(__name__)
_INSTALLED_BY = "pip install --no-deps -r requirements-openvino.txt"
# OpenVINO is taken where it needs at most this share of torch's time: what is nearly as fast would
# be chosen by chance, and another time not.
_WORTH = 0.9
_ROUNDS = 2
_EXAMPLE_PX = 64
# Mean difference of probabilities on noise from which a network was not converted but broken: one
# whose computation leaves torch becomes a constant. In bf16 two engines differ by up to 0.005.
_BROKEN = 0.02
_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}


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
        check_engine(compute)
    except BenchError as error:
        log.warning("warning: evaluated with %s, applied with torch: %s", engine, error)
        return compute
    return dataclasses.replace(compute, engine=engine)


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
    return network if compute.engine == TORCH else _convert(network, info, compute)


class _NormByRows(torch.nn.Module):
    """An InstanceNorm that adds up rows, and then their sums.

    OpenVINO's own adds up a whole channel in single precision, one value after the other: of a tile
    of 512 px what follows was wrong in the third digit, with this in the sixth, in the same time.
    """

    def __init__(self, norm: InstanceNorm) -> None:
        """Takes the place of one of ours."""
        super().__init__()
        self._eps = norm.eps

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Normalises every channel of every image (batch, channels, y, x) by itself."""
        shifted = image - _mean_by_rows(image)
        return shifted * torch.rsqrt(_mean_by_rows(shifted * shifted) + self._eps)


def _mean_by_rows(image: torch.Tensor) -> torch.Tensor:
    return image.mean(-1, keepdim=True).mean(-2, keepdim=True)


class _Converted(torch.nn.Module):
    """A network that OpenVINO computes, called as torch calls one."""

    def __init__(self, compiled: Any) -> None:
        """Takes a compiled model of one input and one output."""
        super().__init__()
        self._request = compiled.create_infer_request()

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Computes logits of tiles of the size that it was compiled for."""
        found = self._request.infer([tiles.contiguous().numpy()])
        return torch.from_numpy(found[0])


def _convert(network: torch.nn.Module, info: ModelInfo, compute: Compute) -> torch.nn.Module:
    """Compiles a network for one tile at a time, with as many threads as torch has.

    Raises:
        BenchError: If it does things that OpenVINO does not know.
    """
    openvino = _import_openvino()
    edge = info.tile_px + 2 * info.halo_px
    example = torch.from_numpy(_noise(_example_edge(info, edge), seed=0))
    # In bf16 sums are of single precision in its own alone.
    own = compute.precision == "fp32"
    plain = without_own_kernels(network, _NormByRows) if own else without_own_kernels(network)
    fault = (
        f"engine=openvino must know what a network does, {info.architecture} cannot be converted"
    )
    unknown = (openvino.frontend.OpConversionFailure, openvino.frontend.GeneralFailure)
    with explain_conversion(fault, "use engine=torch", unknown):
        traced = torch.jit.trace(plain, example, check_trace=False)
        model = openvino.convert_model(traced, input=[(1, 1, edge, edge)])
    settings = {
        "INFERENCE_PRECISION_HINT": _PRECISIONS[compute.precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        # Pinned, the workers of one machine would all be on its first cores.
        "ENABLE_CPU_PINNING": False,
    }
    return _Converted(openvino.Core().compile_model(model, "CPU", settings))


@contextlib.contextmanager
def explain_conversion(
    fault: str, remedy: str, failures: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Converts a network for another program within a block; what fails is one line.

    Args:
        fault: What must be possible, and is not.
        remedy: What to do instead.
        failures: What the other program raises, besides the usual errors of torch and Python.

    Raises:
        BenchError: If the network does what cannot be traced, or the other program does not know.
    """
    expected: tuple[type[Exception], ...] = (RuntimeError, TypeError, ValueError)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # torch.jit is deprecated in favour of formats that others do not read yet, and warns of
            # every size that becomes a constant.
            warnings.simplefilter("ignore")
            yield
    except expected + failures as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BenchError(f"{fault} ({first}): {remedy}") from error


def _import_openvino() -> Any:
    """OpenVINO without its telemetry, which where it is installed tells of every import."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


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
    tile = torch.from_numpy(_noise(info.tile_px + 2 * info.halo_px, seed=1))
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


def _example_edge(info: ModelInfo, edge: int) -> int:
    """Edge of what a network is traced on, px: a small one, unless it takes one size alone."""
    network = find_network(info.architecture)
    multiple = max(network.multiples(info.arguments))
    small = -(-_EXAMPLE_PX // multiple) * multiple
    return edge if network.size_px is not None else min(small, edge)


def _noise(edge: int, seed: int) -> np.ndarray:
    """A normalised tile (1, 1, y, x)."""
    noise = np.random.default_rng(seed).standard_normal((1, 1, edge, edge))
    return noise.astype(np.float32)
