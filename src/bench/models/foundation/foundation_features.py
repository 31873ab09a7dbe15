"""The pixel classifier, which sees the tokens of a frozen transformer beside its filters."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from bench.models.foundation.tokens import TokenMaps
from bench.models.pixels.filters import Maps, filter_maps
from bench.models.pixels.pixel_classifier import PixelClassifier
from bench.models.pixels.trees import BoostedTrees, Size


class FoundationFeatures(PixelClassifier):
    """From a normalised image (batch, 1, y, x) to logits (batch, 1, y, x), as a pixel classifier.

    A token sees its whole window, whose place follows from that of the tile: other than a pixel
    classifier's, a prediction depends on the tile, which belongs to the model.

    Attributes:
        tokens: The transformer, and what is kept of its tokens.
    """

    def __init__(
        self, tokens: TokenMaps, first: Sequence[BoostedTrees], second: BoostedTrees
    ) -> None:
        """Takes a transformer, and fitted trees."""
        super().__init__(first, second)
        self.tokens = tokens

    def find_maps(self, image: torch.Tensor) -> Maps:
        """Filters, and tokens."""
        tokens: Maps = self.tokens(image)
        return filter_maps(image) | tokens


def build_foundation_features(
    *,
    out_channels: int,
    encoder: Mapping[str, Any],
    first: Sequence[Size] = (),
    second: Size = (0, 0),
) -> FoundationFeatures:
    """Builds a transformer with random weights and a classifier without trees, for those of a file.

    Args:
        out_channels: Must be 1.
        encoder: What build_encoder is called with.
        first: Trees and nodes of each member of the first stage.
        second: Those of the second.

    Raises:
        ValueError: If there is to be more than one output.
    """
    if out_channels != 1:
        raise ValueError(f"out_channels must be 1, received {out_channels}")
    trees = [BoostedTrees(size) for size in first]
    return FoundationFeatures(TokenMaps(encoder), trees, BoostedTrees(second))
