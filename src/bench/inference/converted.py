"""A network of sections that OpenVINO computes, called as torch calls one; in eight bits if asked.

In eight bits what enters a convolution becomes one of 256 levels between the smallest and the
largest value that it had on some sections, its weights become one of 255 levels per channel that
it makes. All else stays as it was. The first convolution, which sees the grey values, and the last
are left out: they take little time, and most of the difference was theirs. The name of such an
engine has these limits in it, so that a recipe says all of it.
"""

import contextlib
import importlib
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from bench.errors import BenchError
from bench.inference.device import Compute
from bench.models.checkpoint import ModelInfo
from bench.models.networks import find_network
from bench.models.unet2d import InstanceNorm, without_own_kernels
from bench.words import INT8

_EXAMPLE_PX = 64
_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
# The smallest and the largest value that enters each convolution, in the order of the computation.
_Limits = list[tuple[float, float]]
_LEVELS, _WEIGHT_LEVELS = 256, 255
# Limits are rounded outwards to hundredths: other machines have other last digits.
_ROUND = 100


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
        """Takes a compiled model of one input, whose first output are the logits."""
        super().__init__()
        self._request = compiled.create_infer_request()

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Computes logits of tiles of the size that it was compiled for."""
        found = self._request.infer([tiles.contiguous().numpy()])
        return torch.from_numpy(found[0])


class WatchedNetwork(_Converted):
    """A converted network that remembers what entered its convolutions."""

    def __init__(self, compiled: Any) -> None:
        """Takes a compiled model that is watched."""
        super().__init__(compiled)
        self._found: list[list[float]] = []

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Computes logits of a tile."""
        logits, *ends = self._request.infer([tiles.contiguous().numpy()]).to_tuple()
        self._found.append([float(end) for end in ends])
        return torch.from_numpy(logits)

    @property
    def limits(self) -> _Limits:
        """Of every convolution the smallest and the largest value of all tiles so far."""
        found = np.array(self._found)
        lows, highs = found[:, ::2].min(axis=0), found[:, 1::2].max(axis=0)
        return list(zip(lows.tolist(), highs.tolist(), strict=True))


def convert(network: torch.nn.Module, info: ModelInfo, compute: Compute) -> torch.nn.Module:
    """Compiles a network for one tile at a time, with as many threads as torch has.

    Args:
        network: The network.
        info: What it is.
        compute: Precision, and the engine: with limits, its convolutions are in eight bits.

    Raises:
        BenchError: If it does things that OpenVINO does not know.
    """
    model = _to_openvino(network, info, compute)
    if recorded := read_limits(compute.engine):
        _quantise(model, recorded[1])
    return _Converted(_compile(model, compute))


def convert_watched(network: torch.nn.Module, info: ModelInfo, compute: Compute) -> WatchedNetwork:
    """The same, with what enters its convolutions."""
    model = _to_openvino(network, info, compute)
    _watch(model)
    return WatchedNetwork(_compile(model, compute))


def _to_openvino(network: torch.nn.Module, info: ModelInfo, compute: Compute) -> Any:
    openvino = _import_openvino()
    edge = info.tile_px + 2 * info.halo_px
    example = torch.from_numpy(make_noise(_example_edge(info, edge), seed=0))
    # In bf16 sums are of single precision in its own alone.
    own = compute.precision == "fp32"
    plain = without_own_kernels(network, _NormByRows) if own else without_own_kernels(network)
    fault = (
        f"engine=openvino must know what a network does, {info.architecture} cannot be converted"
    )
    unknown = (openvino.frontend.OpConversionFailure, openvino.frontend.GeneralFailure)
    with explain_conversion(fault, "use engine=torch", unknown):
        traced = torch.jit.trace(plain, example, check_trace=False)
        return openvino.convert_model(traced, input=[(1, 1, edge, edge)])


def _compile(model: Any, compute: Compute) -> Any:
    settings = {
        "INFERENCE_PRECISION_HINT": _PRECISIONS[compute.precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        # Pinned, the workers of one machine would all be on its first cores.
        "ENABLE_CPU_PINNING": False,
    }
    return _import_openvino().Core().compile_model(model, "CPU", settings)


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


def _example_edge(info: ModelInfo, edge: int) -> int:
    """Edge of what a network is traced on, px: a small one, unless it takes one size alone."""
    network = find_network(info.architecture)
    multiple = max(network.multiples(info.arguments))
    small = -(-_EXAMPLE_PX // multiple) * multiple
    return edge if network.size_px is not None else min(small, edge)


def make_noise(edge: int, seed: int) -> np.ndarray:
    """A normalised tile (1, 1, y, x)."""
    noise = np.random.default_rng(seed).standard_normal((1, 1, edge, edge))
    return noise.astype(np.float32)


def write_limits(limits: _Limits, version: str) -> str:
    """The name of an engine with limits, and with the version of OpenVINO that ordered them.

    Examples:
        >>> write_limits([(-1.5, 2.25), (0.0, 7.003)], "2026.1")
        'openvino_int8 2026.1 -1.5:2.25 0:7.01'
    """
    rounded = [
        f"{np.floor(low * _ROUND) / _ROUND:g}:{np.ceil(high * _ROUND) / _ROUND:g}"
        for low, high in limits
    ]
    return " ".join([INT8, version, *rounded])


def read_limits(engine: str) -> tuple[str, _Limits] | None:
    """The version and the limits in the name of an engine; None where it has none.

    Examples:
        >>> read_limits("openvino_int8 2026.1 -1.5:2.25 0:7.01")
        ('2026.1', [(-1.5, 2.25), (0.0, 7.01)])
        >>> read_limits("openvino") is None
        True
    """
    name, *said = engine.split()
    if name != INT8 or not said:
        return None
    version, *limits = said
    pairs = (each.split(":") for each in limits)
    return version, [(float(low), float(high)) for low, high in pairs]


def _quantise(model: Any, limits: _Limits) -> None:
    """Puts convolutions of an OpenVINO model into eight bits, in place.

    Args:
        model: An ``openvino.Model``.
        limits: What `_watch` gave of the same network.

    Raises:
        BenchError: If the network has another number of convolutions.
    """
    operations = importlib.import_module("openvino.opset13")
    convolutions = _find_convolutions(model)
    if len(convolutions) != len(limits):
        raise BenchError(
            f"engine={INT8} must have limits of every convolution, received {len(limits)} of "
            f"{len(convolutions)}: evaluate the model again"
        )
    inner = list(zip(convolutions, limits, strict=True))[1:-1]
    for convolution, (low, high) in inner:
        entering, weights = convolution.input_value(0), convolution.input_value(1)
        ends = np.array(_with_exact_zero(low, high), dtype=np.float32)
        levels = operations.fake_quantize(entering, *ends, *ends, _LEVELS)
        convolution.input(0).replace_source_output(levels.output(0))
        largest = np.abs(weights.get_node().data).max(axis=(1, 2, 3), keepdims=True)
        largest = np.where(largest > 0, largest, 1).astype(np.float32)
        ends_of_weights = (-largest, largest)
        levels = operations.fake_quantize(
            weights, *ends_of_weights, *ends_of_weights, _WEIGHT_LEVELS
        )
        convolution.input(1).replace_source_output(levels.output(0))
    model.validate_nodes_and_infer_types()


def _watch(model: Any) -> None:
    """Gives an OpenVINO model two outputs more per convolution, in place.

    They are the smallest and the largest value that enters it, in the order of `_Limits`.
    """
    operations = importlib.import_module("openvino.opset13")
    axes = np.arange(4)
    ends = [
        reduce(convolution.input_value(0), axes, keep_dims=False).output(0)
        for convolution in _find_convolutions(model)
        for reduce in (operations.reduce_min, operations.reduce_max)
    ]
    model.add_outputs(ends)


def _find_convolutions(model: Any) -> list[Any]:
    """The convolutions whose weights are constants, in the order of the computation."""
    return [
        node
        for node in model.get_ordered_ops()
        if node.get_type_name() == "Convolution"
        and node.input_value(1).get_node().get_type_name() == "Constant"
    ]


def _with_exact_zero(low: float, high: float) -> tuple[float, float]:
    """Limits of which zero is a level, as padding is zero: the whole range shifts a little."""
    if low >= 0:
        return 0.0, max(high, 1 / _ROUND)
    low, high = min(low, -1 / _ROUND), max(high, 0.0)
    step = (high - low) / (_LEVELS - 1)
    below = round(-low / step)
    return -below * step, (_LEVELS - 1 - below) * step
