"""The U-Net with a ResNet-50 as its encoder: the only importer of segmentation_models_pytorch."""

from typing import Any


def build_unet_resnet50(*, out_channels: int) -> Any:
    """Builds the U-Net with random weights, whose outputs are logits.

    Its BatchNorm has statistics of its own once it is trained, so that a prediction depends on
    what the network sees of the surroundings, and not on the tile as such.

    Args:
        out_channels: Channels of the output.

    Returns:
        A ``torch.nn.Module`` from (batch, 1, y, x), sides multiples of 32, to (batch,
        out_channels, y, x).
    """
    from segmentation_models_pytorch import Unet

    return Unet("resnet50", encoder_weights=None, in_channels=1, classes=out_channels)
