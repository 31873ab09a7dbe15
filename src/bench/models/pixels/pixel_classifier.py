"""Filters and boosted trees as a network: a pixel classifier as ilastik's and Labkit's, twice.

The second stage sees the filters, and what the first found around a pixel (auto-context, Tu and
Bai 2010): a dark spot is a vesicle among vesicles. The first has two members, each fitted on half
of the sections, so that the second learned from what is said of sections that were not seen.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from bench.models.pixels.filters import (
    CONTEXT_REACH_PX,
    FILTER_REACH_PX,
    MULTIPLE,
    STRIDE,
    Maps,
    context_maps,
    filter_maps,
    stack_maps,
)
from bench.models.pixels.trees import BoostedTrees, Size

# What lies further from a pixel does not change what is said of it.
HALO_PX = FILTER_REACH_PX + CONTEXT_REACH_PX
# Pixels of the grid around the inside of a tile, from which its border is interpolated.
_RIM = 4


class PixelClassifier(torch.nn.Module):
    """From a normalised image (batch, 1, y, x) to logits (batch, 1, y, x).

    Logits within HALO_PX of the border are 0: they would need more of the image.

    Attributes:
        first: The members of the first stage, whose probabilities are averaged.
        second: The second stage.
        shift: Added to its logits.
    """

    shift: torch.Tensor
    # What the trees see of an image (1, 1, y, x), on the grid of pixels that is classified.
    find_maps: Callable[[torch.Tensor], Maps] = staticmethod(filter_maps)

    def __init__(self, first: Sequence[BoostedTrees], second: BoostedTrees) -> None:
        """Takes fitted trees."""
        super().__init__()
        self.first, self.second = torch.nn.ModuleList(first), second
        self.register_buffer("shift", torch.zeros(()))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Computes logits, in single precision whatever the network is called in."""
        with (
            torch.autocast(image.device.type, enabled=False),
            torch.backends.cudnn.flags(allow_tf32=False),
        ):
            return torch.cat([self._classify(each[None]) for each in image.float().contiguous()])

    def _classify(self, image: torch.Tensor) -> torch.Tensor:
        maps = list(self.find_maps(image).values())
        around = FILTER_REACH_PX // STRIDE
        probability = self.find_context(maps, around)
        inside = CONTEXT_REACH_PX // STRIDE - _RIM
        context = context_maps(probability[None, None]).values()
        rows = [stack_maps(maps, around + inside), stack_maps(context, inside)]
        logits = self.second(torch.cat(rows, dim=1)) + self.shift
        grid = [side - 2 * inside for side in probability.shape]
        found = functional.interpolate(
            logits.reshape(1, 1, *grid), scale_factor=STRIDE, mode="bilinear", align_corners=False
        )
        rim = _RIM * STRIDE
        return functional.pad(found[..., rim:-rim, rim:-rim], (HALO_PX,) * 4)

    def find_context(self, maps: Sequence[torch.Tensor], margin: int) -> torch.Tensor:
        """What the first stage says of maps (y, x), without a margin around; (y, x) from 0 to 1."""
        rows = stack_maps(maps, margin)
        found = torch.stack([torch.sigmoid(member(rows)) for member in self.first]).mean(dim=0)
        height, width = maps[0].shape
        return found.reshape(height - 2 * margin, width - 2 * margin)

    @property
    def sizes(self) -> dict[str, Any]:
        """What ``build_pixel_classifier`` is called with to hold as many trees."""
        return {"first": [member.size for member in self._members()], "second": self.second.size}

    @property
    def nodes(self) -> int:
        """Nodes of all trees."""
        return sum(trees.size[1] for trees in (*self._members(), self.second))

    def _members(self) -> list[BoostedTrees]:
        return [member for member in self.first if isinstance(member, BoostedTrees)]


def build_pixel_classifier(
    *, out_channels: int, first: Sequence[Size] = (), second: Size = (0, 0)
) -> PixelClassifier:
    """Builds a classifier without trees, for those of a file.

    Args:
        out_channels: Must be 1.
        first: Trees and nodes of each member of the first stage.
        second: Those of the second.

    Raises:
        ValueError: If there is to be more than one output.
    """
    if out_channels != 1:
        raise ValueError(f"out_channels must be 1, received {out_channels}")
    return PixelClassifier([BoostedTrees(size) for size in first], BoostedTrees(second))


def fit_tile(sides: Sequence[int], largest: int) -> int:
    """Edge in px of a tile for sections of such sides: no larger than they need.

    Examples:
        >>> fit_tile([768, 1020], 1024), fit_tile([5000], 1024)
        (1024, 1024)
    """
    return min(largest, -(-max(sides) // MULTIPLE) * MULTIPLE)
