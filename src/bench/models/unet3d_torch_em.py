"""The 3D U-Net of torch_em: of volumes, and applied to sections as a stopgap.

A published 3D model has seen neighbouring planes, and a section has none. The section is repeated
along z instead, so the model sees structures that do not end in z, and planes at the top and bottom
that are padded. It works, less well than on a volume; a 2D model of the same structure is better.
"""

from functools import partial
from math import prod
from typing import Any

import torch

from bench.errors import BenchError
from bench.models.unet2d import torch_em_unets

# Planes that a section is repeated to, at least: what SynapseNet's own smallest tile has in z.
_PLANES = 16


def build_unet3d_anisotropic(
    *, in_channels: int, out_channels: int, features: int, scale_factors: list[list[int]]
) -> Any:
    """Builds a 3D U-Net whose pooling differs between z and y, x, and whose output are logits.

    Made for serial sections: where planes lie ten times as far apart as pixels, pooling along z
    begins only where y and x are that coarse. It normalises with InstanceNorm, so that a
    prediction depends on the size of its window.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the output.
        features: Features of the first level, doubled at every further one.
        scale_factors: Pooling of every level along z, y, x.

    Returns:
        A ``torch.nn.Module`` from (batch, in_channels, z, y, x) to (batch, out_channels, z, y, x).
    """
    return torch_em_unets().AnisotropicUNet(
        in_channels=in_channels,
        out_channels=out_channels,
        scale_factors=scale_factors,
        initial_features=features,
        final_activation=None,
    )


def build_unet3d_planes(
    *,
    in_channels: int,
    out_channels: int,
    features: int,
    scale_factors: list[list[int]],
    planes: int,
) -> Any:
    """Builds a 3D U-Net that takes and returns sections.

    Its tensors have the names and shapes of torch_em's AnisotropicUNet, and its output are
    logits, as those of ``build_unet2d``. Time and memory are those of ``planes`` sections.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the output.
        features: Features of the first level, doubled at every further one.
        scale_factors: Pooling of every level along z, y, x.
        planes: How often a section is repeated; a multiple of the pooling along z.

    Returns:
        A ``torch.nn.Module`` from (batch, in_channels, y, x) to (batch, out_channels, y, x).

    Raises:
        BenchError: If the planes are no multiple of the pooling along z.
    """
    pooling = pool_planes(scale_factors)
    if planes < 1 or planes % pooling:
        raise BenchError(
            f"planes must be a multiple of the network's pooling along z, {pooling}, "
            f"received {planes}: use {needed_planes(scale_factors)}"
        )
    network: torch.nn.Module = build_unet3d_anisotropic(
        in_channels=in_channels,
        out_channels=out_channels,
        features=features,
        scale_factors=scale_factors,
    )
    # Hooks, because a module around it would change the names of the tensors.
    network.register_forward_pre_hook(partial(_repeat_section, planes))
    network.register_forward_hook(_take_middle_plane)
    return network


def pool_planes(scale_factors: list[list[int]]) -> int:
    """By how much a 3D U-Net reduces the number of planes."""
    return prod(factors[0] for factors in scale_factors)


def needed_planes(scale_factors: list[list[int]]) -> int:
    """The smallest multiple of the pooling along z that has _PLANES planes or more."""
    pooling = pool_planes(scale_factors)
    return -(-_PLANES // pooling) * pooling


def _repeat_section(
    planes: int, _: torch.nn.Module, inputs: tuple[torch.Tensor]
) -> tuple[torch.Tensor]:
    """From (batch, channels, y, x) to (batch, channels, planes, y, x)."""
    return (inputs[0].unsqueeze(2).repeat(1, 1, planes, 1, 1),)


def _take_middle_plane(_: torch.nn.Module, __: Any, volume: torch.Tensor) -> torch.Tensor:
    """From (batch, channels, planes, y, x) to (batch, channels, y, x)."""
    return volume[:, :, volume.shape[2] // 2]
