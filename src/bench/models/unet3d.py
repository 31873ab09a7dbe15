"""The 3D U-Net of CryoVesNet: BatchNorm, nearest upsampling, two convolutions a level.

In evaluation its BatchNorm shifts and scales by constants, so that a voxel's prediction depends on
what lies within its reach (see its row of NETWORKS) and on nothing else: it may be computed in
windows of any size, or plane after plane (see bench.models.unet3d_stream).

Reference: Khosrozadeh et al., "CryoVesNet: a dedicated framework for synaptic vesicle segmentation
in cryo-electron tomograms", Journal of Cell Biology 224 (2025) e202402169.
"""

from typing import Any

import torch
from torch.nn import functional

# Keras's own, of which the published weights are; torch's is 1e-5.
NORM_EPS = 1e-3


class UNet3d(torch.nn.Module):
    """From (batch, in_channels, z, y, x) to logits (batch, out_channels, z, y, x).

    The order of its tensors is that in which the layers are applied.

    Attributes:
        down: A block of two convolutions per level, the finest first.
        middle: The block of the coarsest level, which is not pooled further.
        up: A block per level, the coarsest first.
        out: From the features of the finest level to the output.
    """

    def __init__(self, in_channels: int, out_channels: int, depth: int, features: int) -> None:
        """Takes the arguments of build_unet3d."""
        super().__init__()
        widths = [features * 2**level for level in range(depth + 1)]
        self.down = torch.nn.ModuleList(
            _make_block(before, width, width)
            for before, width in zip((in_channels, *widths), widths[:-1], strict=False)
        )
        # A block on the way up ends with the features of the level above, which it is joined to.
        ends = [widths[0], *widths[:-1]]
        self.middle = _make_block(widths[-2] if depth else in_channels, widths[-1], ends[-1])
        self.up = torch.nn.ModuleList(
            _make_block(2 * widths[level], widths[level], ends[level])
            for level in reversed(range(depth))
        )
        self.out = torch.nn.Conv3d(features, out_channels, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Computes logits; the sides of the image are multiples of 2 ** depth."""
        skips = []
        for block in self.down:
            skips.append(block(image))
            image = functional.max_pool3d(skips[-1], 2)
        image = self.middle(image)
        for block, skip in zip(self.up, reversed(skips), strict=True):
            coarse = functional.interpolate(image, scale_factor=2.0)
            image = block(torch.cat([coarse, skip], dim=1))
        logits: torch.Tensor = self.out(image)
        return logits


def _make_block(before: int, between: int, after: int) -> torch.nn.Sequential:
    """Two convolutions, each with BatchNorm and ReLU."""
    return torch.nn.Sequential(
        *(_make_layer(*each) for each in ((before, between), (between, after)))
    )


def _make_layer(before: int, after: int) -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Conv3d(before, after, 3, padding=1),
        torch.nn.BatchNorm3d(after, eps=NORM_EPS),
        torch.nn.ReLU(inplace=True),
    )


def build_unet3d(*, in_channels: int, out_channels: int, depth: int, features: int) -> Any:
    """Builds a U-Net of volumes whose output are logits.

    At depth 2 with 16 features it is CryoVesNet's network: 250,097 parameters.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the output.
        depth: Number of poolings; the input's sides are multiples of 2 ** depth.
        features: Features of the first level, doubled at every further one.

    Returns:
        A ``torch.nn.Module`` from (batch, in_channels, z, y, x) to (batch, out_channels, z, y, x).
    """
    return UNet3d(in_channels, out_channels, depth, features)
