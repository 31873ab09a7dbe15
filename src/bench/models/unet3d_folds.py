"""Several 3D U-Nets as one, each of which saw other volumes; their mean is the prediction."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from bench.models.unet3d import build_unet3d
from bench.models.unet3d_stream import stream_unet3d


class _FoldedUNet3d(torch.nn.Module):
    """From (batch, in_channels, z, y, x) to logits (batch, out_channels, z, y, x).

    In training the batch is as many parts as there are networks, one after the other, and each
    learns from its own. In evaluation each sees all of it, and the logits are those of the mean
    of their probabilities.

    Attributes:
        members: The networks, of one shape.
    """

    def __init__(self, members: Iterable[torch.nn.Module]) -> None:
        """Takes the networks."""
        super().__init__()
        self.members = torch.nn.ModuleList(members)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Computes logits."""
        if self.training:
            parts = image.chunk(len(self.members))
            return torch.cat(
                [member(part) for member, part in zip(self.members, parts, strict=True)]
            )
        return _join([member(image) for member in self.members])


def _join(logits: list[torch.Tensor]) -> torch.Tensor:
    """Logits of the mean of probabilities."""
    mean = torch.stack([torch.sigmoid(each.float()) for each in logits]).mean(dim=0)
    return torch.logit(mean, eps=1e-6)


def build_unet3d_folds(
    *, in_channels: int, out_channels: int, depth: int, features: int, folds: int
) -> Any:
    """Builds so many 3D U-Nets with random weights of their own.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the output.
        depth: Number of poolings; the input's sides are multiples of 2 ** depth.
        features: Features of the first level, doubled at every further one.
        folds: How many there are.
    """
    shape = {"in_channels": in_channels, "out_channels": out_channels}
    return _FoldedUNet3d(
        build_unet3d(**shape, depth=depth, features=features) for _ in range(folds)
    )


@torch.inference_mode()
def stream_unet3d_folds(
    network: _FoldedUNet3d, slabs: Iterable[torch.Tensor], dtype: torch.dtype
) -> Iterator[torch.Tensor]:
    """Applies all networks to the same slabs, as ``stream_unet3d`` does one; yields their mean."""
    copies = itertools.tee(slabs, len(network.members))
    streams = [
        stream_unet3d(member, copy, dtype)  # type: ignore[arg-type]
        for member, copy in zip(network.members, copies, strict=True)
    ]
    for logits in zip(*streams, strict=True):
        yield _join(list(logits))
