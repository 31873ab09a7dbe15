"""A residual U-Net that works at a fraction of an image's resolution: fast to train and to apply.

What a U-Net costs is what it does at full resolution, where it learns least. Here a stem joins
blocks of pixels into channels (space to depth), the U-Net works on these, and what it finds is
spread back over the pixels (sub-pixel convolution, Shi et al. 2016), where two narrow convolutions
draw the outlines with the image beside.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

# Objects that are fewer blocks across get finer ones.
_BLOCKS_ACROSS = 4


def fit_to_objects(arguments: dict[str, Any], diameter_px: float) -> dict[str, Any]:
    """The arguments of the network for objects of a usual diameter, as it will see them.

    Small objects get blocks of half the edge, and one level more, with half of the features, so
    that the network sees as far: measured in docs/best_practice.md.
    """
    if diameter_px >= _BLOCKS_ACROSS * arguments["stride"]:
        return arguments
    first, *others = arguments["features"]
    finer = {"features": [first // 2, first, *others], "stride": arguments["stride"] // 2}
    return arguments | finer


class _Block(torch.nn.Module):
    """Two convolutions past which the input is added (He et al. 2016).

    Normalised by statistics of the training (BatchNorm): what is predicted of a pixel depends on
    what the network sees around it, and not on the tile that it lies in.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.first_norm = torch.nn.BatchNorm2d(outputs)
        self.second = torch.nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = torch.nn.BatchNorm2d(outputs)
        self.past: torch.nn.Module = torch.nn.Identity()
        if inputs != outputs:
            self.past = torch.nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found = functional.relu(self.first_norm(self.first(image)), inplace=True)
        found = self.second_norm(self.second(found))
        return functional.relu(found + self.past(image), inplace=True)


class _ResidualUNet(torch.nn.Module):
    """The U-Net; see the module."""

    def __init__(
        self, in_channels: int, out_channels: int, features: Sequence[int], stride: int, detail: int
    ) -> None:
        """Builds it with random weights.

        Args:
            in_channels: Channels of the image.
            out_channels: Channels of the output, logits.
            features: Of every level, each of half the resolution of the one before.
            stride: Edge (px) of the blocks that the stem joins.
            detail: Features at full resolution.
        """
        super().__init__()
        self.stride = stride
        levels = list(zip([features[0], *features], features, strict=False))
        upwards = levels[:0:-1]
        self.stem = torch.nn.Conv2d(in_channels * stride**2, features[0], 3, padding=1)
        self.encoder = torch.nn.ModuleList(_Block(above, own) for above, own in levels)
        self.narrow = torch.nn.ModuleList(torch.nn.Conv2d(own, above, 1) for above, own in upwards)
        self.decoder = torch.nn.ModuleList(_Block(2 * above, above) for above, _ in upwards)
        self.spread = torch.nn.Conv2d(features[0], detail * stride**2, 1)
        self.beside = torch.nn.Conv2d(in_channels, detail, 3, padding=1)
        self.head = torch.nn.Sequential(
            torch.nn.Conv2d(2 * detail, detail, 3, padding=1, bias=False),
            torch.nn.BatchNorm2d(detail),
            torch.nn.ReLU(inplace=True),
            torch.nn.Conv2d(detail, out_channels, 1),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """From (batch, in_channels, y, x) to logits (batch, out_channels, y, x)."""
        found = self.stem(functional.pixel_unshuffle(image, self.stride))
        kept = []
        for level, block in enumerate(self.encoder):
            found = block(functional.max_pool2d(found, 2) if level else found)
            kept.append(found)
        for narrow, block, skipped in zip(self.narrow, self.decoder, kept[-2::-1], strict=True):
            found = functional.interpolate(narrow(found), scale_factor=2.0, mode="nearest")
            found = block(torch.cat([found, skipped], dim=1))
        found = functional.pixel_shuffle(self.spread(found), self.stride)
        logits: torch.Tensor = self.head(torch.cat([found, self.beside(image)], dim=1))
        return logits


def build_unet_residual(
    *, in_channels: int, out_channels: int, features: Sequence[int], stride: int, detail: int
) -> torch.nn.Module:
    """Builds the network with random weights, whose outputs are logits; see the module."""
    return _ResidualUNet(in_channels, out_channels, features, stride, detail)
