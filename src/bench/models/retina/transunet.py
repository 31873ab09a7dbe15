"""TransUNet (Chen et al. 2021): a ResNet, a transformer on its coarsest features, a decoder.

Tensors are named as in the files that TransUNet and RETINA publish, so that these load as they
are. From there too: a pooling without padding, weights of convolutions that are standardised, one
group a channel where a block halves the sides, and the small numbers under roots.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from bench.models.unet2d import InstanceNorm

# Of the ResNet: units of its three blocks, features of the first, and what the last one returns.
_UNITS = (3, 4, 9)
_FEATURES = 64
_COARSEST = 16 * _FEATURES
_GROUPS = 32
_HEADS = 12
_MLP_RATIO = 4
_DROPOUT = 0.1
# Channels between transformer and decoder, of its blocks, and of what each is joined with.
_BRIDGE = 512
_DECODER = (256, 128, 64, 16)
_SKIPS = (8 * _FEATURES, 4 * _FEATURES, _FEATURES, 0)
_CONV_EPS, _NORM_EPS, _JOINT_EPS = 1e-5, 1e-6, 1e-5


class _StandardisedConv(torch.nn.Conv2d):
    """A convolution whose kernel of every output has mean 0 and variance 1."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Convolves images (batch, channels, y, x)."""
        variance, mean = torch.var_mean(self.weight, (1, 2, 3), correction=0, keepdim=True)
        kernel = (self.weight - mean) / torch.sqrt(variance + _CONV_EPS)
        convolved: torch.Tensor = self._conv_forward(input, kernel, self.bias)
        return convolved


def _resize(image: torch.Tensor, **to: Any) -> torch.Tensor:
    """Bilinear from corner to corner, as published."""
    resized: torch.Tensor = functional.interpolate(image, **to, mode="bilinear", align_corners=True)
    return resized


def _conv(channels: int, out: int, edge: int, stride: int = 1) -> _StandardisedConv:
    return _StandardisedConv(channels, out, edge, stride, padding=edge // 2, bias=False)


class _ChannelScale(torch.nn.Module):
    """A group norm of one group a channel, by the kernels of InstanceNorm, fast on a CPU too."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(channels))
        self.bias = torch.nn.Parameter(torch.zeros(channels))
        self._norm = InstanceNorm(channels, eps=_JOINT_EPS)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        normalised: torch.Tensor = self._norm(image)
        return normalised * self.weight[:, None, None] + self.bias[:, None, None]


class _Unit(torch.nn.Module):
    """A bottleneck of the ResNet, with a joint where it changes channels or halves the sides."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        inside = out // 4
        self.gn1 = torch.nn.GroupNorm(_GROUPS, inside, eps=_NORM_EPS)
        self.conv1 = _conv(channels, inside, 1)
        self.gn2 = torch.nn.GroupNorm(_GROUPS, inside, eps=_NORM_EPS)
        self.conv2 = _conv(inside, inside, 3, stride)
        self.gn3 = torch.nn.GroupNorm(_GROUPS, out, eps=_NORM_EPS)
        self.conv3 = _conv(inside, out, 1)
        self.downsample: torch.nn.Module | None = None
        self.gn_proj: torch.nn.Module | None = None
        if stride != 1 or channels != out:
            self.downsample = _conv(channels, out, 1, stride)
            self.gn_proj = _ChannelScale(out)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        passed = image
        if self.downsample is not None and self.gn_proj is not None:
            passed = self.gn_proj(self.downsample(image))
        image = functional.relu(self.gn1(self.conv1(image)))
        image = functional.relu(self.gn2(self.conv2(image)))
        return functional.relu(passed + self.gn3(self.conv3(image)))


class _ResNet(torch.nn.Module):
    """From (batch, 3, y, x) to features at a 16th of the sides, and those at an 8th, 4th, 2nd."""

    def __init__(self) -> None:
        super().__init__()
        self.root = torch.nn.Sequential()
        self.root.add_module("conv", _conv(3, _FEATURES, 7, 2))
        self.root.add_module("gn", torch.nn.GroupNorm(_GROUPS, _FEATURES, eps=_NORM_EPS))
        self.body = torch.nn.Sequential()
        channels = _FEATURES
        for number, units in enumerate(_UNITS, start=1):
            out, block = 2 * _FEATURES * 2**number, torch.nn.Sequential()
            for unit in range(1, units + 1):
                stride = 2 if unit == 1 and number > 1 else 1
                block.add_module(f"unit{unit}", _Unit(channels, out, stride))
                channels = out
            self.body.add_module(f"block{number}", block)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        first, second, third = self.body
        finest = functional.relu(self.root(image))
        quarter = first(functional.max_pool2d(finest, 3, 2))
        eighth = second(quarter)
        # The pooling without padding loses a pixel, which the decoder sees as zeros.
        return third(eighth), [eighth, functional.pad(quarter, (0, 1, 0, 1)), finest]


class _Embeddings(torch.nn.Module):
    """From sections to tokens (batch, tokens, width), one of 16 x 16 px, and to finer features."""

    def __init__(self, width: int, grid: int) -> None:
        super().__init__()
        self.hybrid_model = _ResNet()
        self.patch_embeddings = torch.nn.Conv2d(_COARSEST, width, 1)
        self.position_embeddings = torch.nn.Parameter(torch.zeros(1, grid * grid, width))
        self.grid = grid

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        coarsest, skips = self.hybrid_model(image)
        embedded: torch.Tensor = self.patch_embeddings(coarsest)
        embedded = embedded + self._positions(coarsest.shape[-2:])
        return functional.dropout(embedded, _DROPOUT, self.training), skips

    def _positions(self, shape: Sequence[int]) -> torch.Tensor:
        """The learned positions as (1, width, y, x), interpolated where the window is another."""
        rows = self.position_embeddings.unflatten(1, (self.grid, self.grid))
        positions: torch.Tensor = rows.permute(0, 3, 1, 2)
        if tuple(shape) == (self.grid, self.grid):
            return positions
        return _resize(positions, size=tuple(shape))


class _Attention(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (
            torch.nn.Linear(width, width) for _ in range(4)
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        asked, keys, values = (
            each(tokens).unflatten(-1, (_HEADS, -1)).transpose(1, 2)
            for each in (self.query, self.key, self.value)
        )
        seen = functional.scaled_dot_product_attention(asked, keys, values)
        found: torch.Tensor = self.out(seen.transpose(1, 2).flatten(2))
        return found


class _Mlp(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = torch.nn.Linear(width, _MLP_RATIO * width)
        self.fc2 = torch.nn.Linear(_MLP_RATIO * width, width)
        for layer in (self.fc1, self.fc2):
            torch.nn.init.xavier_uniform_(layer.weight)
            torch.nn.init.normal_(layer.bias, std=1e-6)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = functional.dropout(functional.gelu(self.fc1(tokens)), _DROPOUT, self.training)
        return functional.dropout(self.fc2(tokens), _DROPOUT, self.training)


class _Block(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention_norm = torch.nn.LayerNorm(width, eps=_NORM_EPS)
        self.ffn_norm = torch.nn.LayerNorm(width, eps=_NORM_EPS)
        self.ffn = _Mlp(width)
        self.attn = _Attention(width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens + self.attn(self.attention_norm(tokens))
        result: torch.Tensor = tokens + self.ffn(self.ffn_norm(tokens))
        return result


class _Blocks(torch.nn.Module):
    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.layer = torch.nn.ModuleList(_Block(width) for _ in range(blocks))
        self.encoder_norm = torch.nn.LayerNorm(width, eps=_NORM_EPS)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        for block in self.layer:
            tokens = block(tokens)
        normalised: torch.Tensor = self.encoder_norm(tokens)
        return normalised


class _Transformer(torch.nn.Module):
    def __init__(self, width: int, blocks: int, grid: int) -> None:
        super().__init__()
        self.embeddings = _Embeddings(width, grid)
        self.encoder = _Blocks(width, blocks)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        embedded, skips = self.embeddings(image)
        shape = embedded.shape[-2:]
        tokens: torch.Tensor = self.encoder(embedded.flatten(2).transpose(1, 2))
        return tokens.transpose(1, 2).unflatten(2, tuple(shape)), skips


def _conv_norm_relu(channels: int, out: int) -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Conv2d(channels, out, 3, padding=1, bias=False),
        torch.nn.BatchNorm2d(out),
        torch.nn.ReLU(),
    )


class _DecoderBlock(torch.nn.Module):
    """Doubles the sides, and joins what the ResNet saw at that size."""

    def __init__(self, channels: int, out: int, skip: int) -> None:
        super().__init__()
        self.conv1 = _conv_norm_relu(channels + skip, out)
        self.conv2 = _conv_norm_relu(out, out)

    def forward(self, image: torch.Tensor, skip: torch.Tensor | None) -> torch.Tensor:
        image = _resize(image, scale_factor=2)
        if skip is not None:
            image = torch.cat((image, skip), dim=1)
        result: torch.Tensor = self.conv2(self.conv1(image))
        return result


class _Decoder(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_more = _conv_norm_relu(width, _BRIDGE)
        inputs = (_BRIDGE, *_DECODER[:-1])
        self.blocks = torch.nn.ModuleList(map(_DecoderBlock, inputs, _DECODER, _SKIPS))

    def forward(self, image: torch.Tensor, skips: list[torch.Tensor]) -> torch.Tensor:
        image = self.conv_more(image)
        for block, skip in zip(self.blocks, (*skips, None), strict=True):
            image = block(image, skip)
        return image


class _TransUNet(torch.nn.Module):
    def __init__(self, out_channels: int, width: int, blocks: int, grid: int) -> None:
        super().__init__()
        self.transformer = _Transformer(width, blocks, grid)
        self.decoder = _Decoder(width)
        head = torch.nn.Conv2d(_DECODER[-1], out_channels, 3, padding=1)
        self.segmentation_head = torch.nn.Sequential(head)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        # Its first layer is made for colours. Contiguous: expanded, it is no image in memory.
        colours = image.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        logits: torch.Tensor = self.segmentation_head(self.decoder(*self.transformer(colours)))
        return logits


def build_transunet(
    *, out_channels: int, width: int, blocks: int = 12, grid: int = 14
) -> torch.nn.Module:
    """Builds a TransUNet whose outputs are logits.

    Args:
        out_channels: Channels of the output.
        width: Numbers that a token has, a multiple of 12, the heads; 768 as published, or 192.
        blocks: Of the transformer.
        grid: Positions are learned for this many tokens along a side: 14 is a window of 224 px,
            and to others they are interpolated.

    Returns:
        A module from (batch, 1, y, x), sides multiples of 16, to (batch, out_channels, y, x).

    Raises:
        ValueError: If the heads do not share the width evenly.
    """
    if width < _HEADS or width % _HEADS:
        raise ValueError(f"width must be a multiple of {_HEADS}, the heads, received {width}")
    return _TransUNet(out_channels, width, blocks, grid)
