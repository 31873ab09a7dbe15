"""The 3D U-Net applied some planes at a time: nothing is computed twice, and few planes are held.

Every layer takes planes in order of z, keeps the last two, and goes on where it stopped; what the
coarser level is joined to waits in a queue. The result is that of one pass over the whole volume,
around which, as around every layer's input, there are zeros.
"""

from collections import deque
from collections.abc import Iterable, Iterator

import torch
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from bench.models.unet3d import UNet3d

# (1, channels, planes, y, x) in order of z, any number of planes at a time.
_Planes = Iterable[torch.Tensor]
# The channels of a voxel lie together, and planes one after the other as they come. On a CPU torch
# computes convolutions of this layout up to twice as fast as others, and joins planes at no cost.
_LAYOUT = torch.channels_last_3d
# Voxels of two levels that are joined at a time: where most memory is needed.
_JOINED_VOXELS = 2**21


@torch.inference_mode()
def stream_unet3d(
    network: UNet3d, slabs: Iterable[torch.Tensor], dtype: torch.dtype
) -> Iterator[torch.Tensor]:
    """Applies a network to a volume of which some planes are given at a time.

    Args:
        network: The network in evaluation mode, on its device; it is not changed.
        slabs: Planes in order of z, each (1, in_channels, planes, y, x) on the network's device. y
            and x, and the planes of all slabs together, are multiples of 2 ** depth.
        dtype: In which convolutions compute.

    Yields:
        Logits (1, out_channels, planes, y, x) in order of z; how many planes at a time is not how
        many were given.
    """
    weight = network.out.weight.to(dtype, memory_format=_LAYOUT)
    bias = None if network.out.bias is None else network.out.bias.to(dtype)
    given = (slab.to(dtype, memory_format=_LAYOUT) for slab in slabs)
    for features in _apply_levels(network, 0, given):
        yield functional.conv3d(features, weight, bias)


def _apply_levels(network: UNet3d, level: int, planes: _Planes) -> Iterator[torch.Tensor]:
    """A level, counted from the finest, and all that are coarser."""
    if level == len(network.down):
        yield from _apply_block(network.middle, planes)
        return
    skipped = _Queue()

    def pool() -> Iterator[torch.Tensor]:
        single = _Queue()
        for found in _apply_block(network.down[level], planes):
            skipped.put(found)
            single.put(found)
            if single.planes > 1:
                yield functional.max_pool3d(single.take(single.planes // 2 * 2), 2)

    def join() -> Iterator[torch.Tensor]:
        for coarse in _apply_levels(network, level + 1, pool()):
            step = max(1, _JOINED_VOXELS // (8 * coarse[0, 0, 0].numel()))
            for part in coarse.split(step, dim=2):
                skip = skipped.take(2 * part.shape[2])
                joined = [torch.cat([functional.interpolate(part, scale_factor=2.0), skip], dim=1)]
                del skip
                yield joined.pop()

    yield from _apply_block(network.up[-1 - level], join())


def _apply_block(block: torch.nn.Module, planes: _Planes) -> _Planes:
    for layer in block.children():
        planes = _apply_layer(layer, planes)
    return planes


def _apply_layer(layer: torch.nn.Module, planes: _Planes) -> Iterator[torch.Tensor]:
    """A convolution with its BatchNorm and ReLU; beyond the first and the last plane are zeros."""
    convolution, norm, _ = layer.children()
    assert isinstance(convolution, torch.nn.Conv3d)
    assert isinstance(norm, torch.nn.BatchNorm3d)
    fused = fuse_conv_bn_eval(convolution, norm)

    def convolve(image: torch.Tensor) -> torch.Tensor:
        weight = fused.weight.to(image.dtype, memory_format=_LAYOUT)
        bias = None if fused.bias is None else fused.bias.to(image.dtype)
        return functional.conv3d(image, weight, bias, padding=(0, 1, 1)).relu_()

    before: torch.Tensor | None = None
    for coming in planes:
        seen = torch.cat([_plane_of_zeros(coming) if before is None else before, coming], dim=2)
        before = seen[:, :, -2:].clone()
        found = [convolve(seen)] if seen.shape[2] > 2 else []
        # While others compute, this function would keep what its names stand for.
        del seen, coming
        while found:
            yield found.pop()
    if before is not None:
        yield convolve(torch.cat([before, _plane_of_zeros(before)], dim=2))


def _plane_of_zeros(planes: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(planes[:, :, :1])


class _Queue:
    """Planes that wait, in order of z."""

    def __init__(self) -> None:
        self._parts: deque[torch.Tensor] = deque()
        self.planes = 0

    def put(self, planes: torch.Tensor) -> None:
        self._parts.append(planes)
        self.planes += planes.shape[2]

    def take(self, wanted: int) -> torch.Tensor:
        """The first planes, of which there must be one and as many."""
        self.planes -= wanted
        taken = []
        while wanted:
            part = self._parts.popleft()
            if part.shape[2] > wanted:
                self._parts.appendleft(part[:, :, wanted:])
                part = part[:, :, :wanted]
            taken.append(part)
            wanted -= part.shape[2]
        return taken[0] if len(taken) == 1 else torch.cat(taken, dim=2)
