"""The 2D U-Net of torch_em: the only importer of torch_em's models."""

from typing import Any

import torch


def build_unet2d(*, in_channels: int, out_channels: int, depth: int, features: int) -> Any:
    """Builds a U-Net whose output are logits.

    torch_em's checkpoints end in a Sigmoid, which has no weights: the tensors are the same. Here
    the loss and the prediction apply it, in fp32 where logits of bf16 would saturate.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the output.
        depth: Number of poolings; the input's sides are multiples of 2 ** depth.
        features: Features of the first level, doubled at every further one.

    Returns:
        A ``torch.nn.Module`` from (batch, in_channels, y, x) to (batch, out_channels, y, x).
    """
    from torch_em.model import UNet2d

    network: torch.nn.Module = UNet2d(
        in_channels=in_channels,
        out_channels=out_channels,
        depth=depth,
        initial_features=features,
        final_activation=None,
    )
    return network
