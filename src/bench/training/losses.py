"""Losses of a foreground channel, from logits."""

from collections.abc import Callable

import torch
from torch.nn import functional

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def dice_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Computes 1 - Dice over all pixels of a batch, with squares in the denominator.

    Same as torch_em's DiceLoss except for one pixel added above and below the line, so that a
    batch without foreground still has a gradient (theirs is 0 there).

    Args:
        logits: (batch, 1, y, x), any floating type; computed in fp32.
        target: (batch, 1, y, x), 0 or 1.

    Returns:
        A scalar from 0 (perfect) to 1.
    """
    probability = torch.sigmoid(logits.float())
    target = target.float()
    overlap = (probability * target).sum()
    sizes = (probability * probability).sum() + target.sum()
    return 1 - (2 * overlap + 1) / (sizes + 1)


def focal_loss(
    logits: torch.Tensor, target: torch.Tensor, *, gamma: float, foreground_weight: float
) -> torch.Tensor:
    """Computes the focal loss (Lin et al. 2017), weighted by class.

    Each pixel's cross-entropy is scaled by (1 - p_t) ** gamma and by the weight of its class;
    the sum is divided by the sum of weights, so that a heavier foreground shifts the balance and
    not the size of the loss.

    Args:
        logits: (batch, 1, y, x), any floating type; computed in fp32.
        target: (batch, 1, y, x), 0 or 1.
        gamma: Focusing exponent; 0 is weighted cross-entropy.
        foreground_weight: Weight of a foreground pixel; background has 1.
    """
    logits, target = logits.float(), target.float()
    towards = logits * (2 * target - 1)
    cross_entropy = -functional.logsigmoid(towards)
    # In logarithms: the power itself has an infinite gradient at 0 for a gamma below 1.
    focused = torch.exp(gamma * functional.logsigmoid(-towards)) * cross_entropy
    weight = 1 + (foreground_weight - 1) * target
    return (weight * focused).sum() / weight.sum()


def make_loss(name: str, *, gamma: float, foreground_weight: float) -> Loss:
    """Returns the loss of a name: ``dice``, or ``focal_dice``, the sum of both."""

    def focal_dice(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        focal = focal_loss(logits, target, gamma=gamma, foreground_weight=foreground_weight)
        return focal + dice_loss(logits, target)

    return {"dice": dice_loss, "focal_dice": focal_dice}[name]
