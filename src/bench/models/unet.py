"""The 2D U-Net of torch_em: the only importer of torch_em's models."""

from typing import Any

import torch
from torch.nn import functional


class InstanceNorm(torch.nn.InstanceNorm2d):
    """InstanceNorm without weights that keeps channels_last on a CPU.

    torch computes it as batch norm of an image with batch * channels channels, for which it copies
    what is channels_last there and back: half of the time of the whole network in bf16. One group
    per channel is the same, and its kernel takes channels_last. A GPU computes groups in fp32.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalises every channel of every image (batch, channels, y, x) by itself."""
        if input.device.type == "cpu":
            return functional.group_norm(input, self.num_features, eps=self.eps)
        return super().forward(input)


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
    network = build_torch_em_unet2d(in_channels, out_channels, depth, features, activation=None)
    replace_norms(network)
    return network


def build_torch_em_unet2d(
    in_channels: int, out_channels: int, depth: int, features: int, *, activation: str | None
) -> Any:
    """Builds the U-Net as torch_em has it, of nothing but its own and torch's modules."""
    from torch_em.model import UNet2d

    network: torch.nn.Module = UNet2d(
        in_channels=in_channels,
        out_channels=out_channels,
        depth=depth,
        initial_features=features,
        final_activation=activation,
    )
    return network


def replace_norms(network: torch.nn.Module) -> None:
    """Replaces torch's InstanceNorm by ours, within all modules; neither has weights."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is torch.nn.InstanceNorm2d:
                setattr(module, name, InstanceNorm(child.num_features, eps=child.eps))
