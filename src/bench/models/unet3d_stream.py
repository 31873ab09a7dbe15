"""The 3D U-Net applied some planes at a time: nothing is computed twice, and few planes are held.

Every convolution keeps the last two planes that it was given and goes on where it stopped; what
waits for a coarser level waits in a queue. The result is that of one pass over the whole volume,
around which, as around every layer's input, there are zeros.

Planes are a batch (planes, channels, y, x), and a 3D convolution is a 2D one of the channels of
three planes: on a CPU it is twice as fast as torch's own, on one thread in fp32 many times.
"""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Protocol

import torch
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from bench.models.unet3d import UNet3d

# Voxels of which the channels of three planes are beside each other at a time.
_STACKED = 2**19


@torch.inference_mode()
def stream_unet3d(
    network: UNet3d, slabs: Iterable[torch.Tensor], dtype: torch.dtype
) -> Iterator[torch.Tensor]:
    """Applies a network to a volume of which some planes are given at a time.

    Args:
        network: The network in evaluation mode, on its device; it is not changed.
        slabs: Planes in order of z, each (planes, in_channels, y, x) on the network's device. y
            and x, and the planes of all slabs together, are multiples of 2 ** depth.
        dtype: In which convolutions compute.

    Yields:
        Logits (planes, out_channels, y, x) in order of z; how many planes at a time is not how
        many were given.
    """
    stage: _Stage = _Block(network.middle, dtype)
    for down, up in zip(reversed(network.down), network.up, strict=True):
        stage = _Level(_Block(down, dtype), stage, _Block(up, dtype))
    weight = network.out.weight[:, :, 0].to(dtype, memory_format=torch.channels_last)
    bias = None if network.out.bias is None else network.out.bias.to(dtype)
    given = itertools.chain(slabs, [None])
    now = next(given)
    for coming in given:
        assert now is not None
        planes = now.to(dtype, memory_format=torch.channels_last)
        features = stage.push(planes, last=coming is None)
        if features is not None:
            yield functional.conv2d(features, weight, bias)
        now = coming


class _Stage(Protocol):
    """A part of the network that is given planes in order of z."""

    def push(self, planes: torch.Tensor | None, *, last: bool) -> torch.Tensor | None:
        """Takes the next planes and returns those that are finished; None where none are."""


class _Layer:
    """A convolution with its BatchNorm and ReLU."""

    def __init__(self, layer: torch.nn.Module, dtype: torch.dtype) -> None:
        convolution, norm, _ = layer.children()
        assert isinstance(convolution, torch.nn.Conv3d)
        assert isinstance(norm, torch.nn.BatchNorm3d)
        fused = fuse_conv_bn_eval(convolution, norm)
        # The channels of the plane before, of the plane, and of the plane after.
        weight = fused.weight.movedim(2, 1).flatten(1, 2)
        self._weight = weight.to(dtype, memory_format=torch.channels_last)
        self._bias = None if fused.bias is None else fused.bias.to(dtype)
        self._before: torch.Tensor | None = None

    def push(self, planes: torch.Tensor | None, *, last: bool) -> torch.Tensor | None:
        """Returns as many planes as were given but the last, which needs the one after it."""
        seen = [part for part in (self._before, planes) if part is not None]
        # Beyond the first and the last plane there is one of zeros.
        outside = [torch.zeros_like(seen[0][:1])]
        seen = [*([] if self._before is not None else outside), *seen, *(outside if last else [])]
        joined = torch.cat(seen)
        self._before = joined[-2:].clone()
        return self._convolve(joined) if len(joined) > 2 else None

    def _convolve(self, planes: torch.Tensor) -> torch.Tensor:
        """The planes between the first and the last, some at a time."""
        step = max(1, _STACKED // planes[0, 0].numel())
        found = []
        for start in range(0, len(planes) - 2, step):
            part = planes[start : start + step + 2]
            stacked = torch.cat([part[:-2], part[1:-1], part[2:]], dim=1)
            found.append(functional.conv2d(stacked, self._weight, self._bias, padding=1).relu_())
        return found[0] if len(found) == 1 else torch.cat(found)


class _Block:
    """Layers one after the other."""

    def __init__(self, block: torch.nn.Module, dtype: torch.dtype) -> None:
        self._layers = [_Layer(layer, dtype) for layer in block.children()]

    def push(self, planes: torch.Tensor | None, *, last: bool) -> torch.Tensor | None:
        for layer in self._layers:
            if planes is None and not last:
                return None
            planes = layer.push(planes, last=last)
        return planes


class _Level:
    """A level and all that is coarser."""

    def __init__(self, down: _Block, coarser: _Stage, up: _Block) -> None:
        self._down, self._coarser, self._up = down, coarser, up
        self._unpooled, self._skipped = _Queue(), _Queue()

    def push(self, planes: torch.Tensor | None, *, last: bool) -> torch.Tensor | None:
        planes = self._down.push(planes, last=last)
        self._unpooled.put(planes)
        self._skipped.put(planes)
        pairs = self._unpooled.take(self._unpooled.planes // 2 * 2)
        if pairs is None and not last:
            return None
        coarse = self._coarser.push(None if pairs is None else _pool(pairs), last=last)
        if coarse is None:
            return None
        skip = self._skipped.take(2 * len(coarse))
        assert skip is not None
        return self._up.push(torch.cat([_enlarge(coarse), skip], dim=1), last=last)


class _Queue:
    """Planes that wait, in order of z."""

    def __init__(self) -> None:
        self._parts: deque[torch.Tensor] = deque()
        self.planes = 0

    def put(self, planes: torch.Tensor | None) -> None:
        if planes is not None:
            self._parts.append(planes)
            self.planes += len(planes)

    def take(self, wanted: int) -> torch.Tensor | None:
        """The first planes, of which there must be as many; None for none."""
        self.planes -= wanted
        taken = []
        while wanted:
            part = self._parts.popleft()
            if len(part) > wanted:
                self._parts.appendleft(part[wanted:])
                part = part[:wanted]
            taken.append(part)
            wanted -= len(part)
        if not taken:
            return None
        return taken[0] if len(taken) == 1 else torch.cat(taken)


def _pool(planes: torch.Tensor) -> torch.Tensor:
    """The maximum of every 2 x 2 x 2 voxels of an even number of planes."""
    flat = functional.max_pool2d(planes, 2)
    return torch.maximum(flat[0::2], flat[1::2])


def _enlarge(planes: torch.Tensor) -> torch.Tensor:
    """Every voxel as 2 x 2 x 2 of its value."""
    return functional.interpolate(planes, scale_factor=2.0).repeat_interleave(2, dim=0)
