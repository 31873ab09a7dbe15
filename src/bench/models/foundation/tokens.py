"""Tokens of a frozen transformer as maps: what it makes of each patch, at every second pixel.

A patch of 14 or 16 px is larger than a membrane is wide. So a section is seen twice, as it is and
at twice its size, and tokens are interpolated between the centres of their patches; what is thinner
than a patch of 7 or 8 px is left to the filters, which are joined with them. Of a token's hundreds
of numbers the few along which the tokens of the training sections differ most are kept.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from bench.models.foundation.encoders import build_encoder, geometry_of, patch_tokens
from bench.models.pixels.filters import STRIDE, Maps

# How many times its size a section is seen at.
ZOOMS = (1, 2)
# Numbers kept of a token.
_KEPT = 48
# Of a window's side on either end, in patches: as an eighth, whose tokens see too little around.
_RIM_SHARE = 8
_WINDOWS_AT_A_TIME = 4


class TokenMaps(torch.nn.Module):
    """From a normalised image (1, 1, y, x) to maps (y / STRIDE, x / STRIDE) by name.

    Attributes:
        encoder: The transformer.
        mean: Of the tokens of each zoom, (zooms, numbers).
        axes: Along which they are kept, (zooms, kept, numbers).
    """

    mean: torch.Tensor
    axes: torch.Tensor

    def __init__(self, encoder: Mapping[str, Any]) -> None:
        """Builds the transformer of ``build_encoder``'s arguments, with random weights."""
        super().__init__()
        self.encoder = build_encoder(encoder).eval().requires_grad_(False)
        self.grid, self.patch_px, width = geometry_of(self.encoder)
        self.register_buffer("mean", torch.zeros(len(ZOOMS), width))
        self.register_buffer("axes", torch.zeros(len(ZOOMS), min(_KEPT, width), width))

    def forward(self, image: torch.Tensor) -> Maps:
        """Computes the maps."""
        maps: Maps = {}
        grid = [side // STRIDE for side in image.shape[-2:]]
        for number, zoom in enumerate(ZOOMS):
            tokens = self._see(image, zoom, number)
            # Places of the grid's centres between those of patches, from -1 to 1 at the ends.
            places = [
                (torch.arange(side, device=image.device) + 0.5)
                * (2 * STRIDE * zoom / (self.patch_px * tokens.shape[axis]))
                - 1
                for axis, side in enumerate(grid)
            ]
            where = torch.stack(torch.meshgrid(*places, indexing="ij")[::-1], dim=-1)
            found = functional.grid_sample(
                tokens.permute(2, 0, 1)[None],
                where[None],
                padding_mode="border",
                align_corners=False,
            )[0]
            size = f"patch of {self.patch_px / zoom:g} px"
            maps |= {f"{size}, {place}": each for place, each in enumerate(found, start=1)}
        return maps

    @torch.no_grad()
    def _see(self, image: torch.Tensor, zoom: int, projected: int | None) -> torch.Tensor:
        """Tokens (rows, columns, numbers) of an enlarged image and a little more at its ends."""
        if zoom > 1:
            image = functional.interpolate(
                image, scale_factor=zoom, mode="bilinear", align_corners=False
            )
        rim = self.grid // _RIM_SHARE
        rows, columns = (self._place(side, rim) for side in image.shape[-2:])
        windows = [image[0, :, y][:, :, x] for y in rows for x in columns]
        found = []
        for first in range(0, len(windows), _WINDOWS_AT_A_TIME):
            batch = torch.stack(windows[first : first + _WINDOWS_AT_A_TIME])
            tokens = patch_tokens(self.encoder, batch)
            tokens = tokens[:, rim : self.grid - rim, rim : self.grid - rim]
            if projected is not None:
                tokens = (tokens - self.mean[projected]) @ self.axes[projected].T
            found.append(tokens)
        inner = self.grid - 2 * rim
        joined = torch.cat(found).reshape(len(rows), len(columns), inner, inner, -1)
        return joined.transpose(1, 2).reshape(len(rows) * inner, len(columns) * inner, -1)

    def _place(self, side: int, rim: int) -> list[np.ndarray]:
        """Where to read each window along a side, which is mirrored at its ends (px)."""
        step, around = (self.grid - 2 * rim) * self.patch_px, rim * self.patch_px
        count = -(-side // step)
        padded = np.pad(np.arange(side), (around, around + count * step - side), mode="reflect")
        return [padded[n * step : n * step + self.grid * self.patch_px] for n in range(count)]

    @torch.no_grad()
    def fit_axes(self, images: Iterable[torch.Tensor]) -> None:
        """Finds along which axes tokens differ most: those of images (1, 1, y, x), all alike."""
        seen = list(images)
        for number, zoom in enumerate(ZOOMS):
            tokens = torch.cat([self._see(each, zoom, None).flatten(0, 1) for each in seen])
            tokens = tokens.double()
            self.mean[number] = tokens.mean(0)
            centred = tokens - tokens.mean(0)
            _, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
            axes = vectors.T.flip(0)[: self.axes.shape[1]]
            # Either sign would do: that of its largest number is positive.
            largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
            self.axes[number] = axes * largest.sign()
