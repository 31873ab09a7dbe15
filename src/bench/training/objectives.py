"""What a step of training minimises: losses of logits; the first channel is the foreground."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn import functional

from bench.inference.device import Compute
from bench.methods import CLASS_LOSS
from bench.training.ahead import Feed, wait_for_batch

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_PixelLoss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
# Weight of a boundary pixel in the focal term, 1 as background's: few as they are, the boundary's
# own Dice keeps them from being ignored, and what threshold separates best is chosen on validation.
# On a phantom, a weight of 5 gave the same instance F1 (0.856 against 0.854).
BOUNDARY_WEIGHT = 1.0
# Keeps the Dice of nothing in nothing defined, as published.
_SMOOTH = 1e-5
# Less than what a single pixel weighs in a batch.
_NOTHING = 1e-12
# torch's own number of a pixel that counts for nothing.
_NO_CLASS = -100
# More than iterations there are: no two seeds drop the same.
_SEEDS_APART = 10**9


def dice_loss(
    logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Computes 1 - Dice over all pixels of a batch, with squares in the denominator.

    The Dice of every channel is computed on its own and averaged, so that a rare class counts as
    much as a common one. Same as the mean over channels of torch_em's DiceLoss (which takes the
    sum) except for one pixel added above and below the line, so that a channel that is empty in
    the batch still has a gradient (theirs is 0 there).

    Args:
        logits: (batch, channels, y, x), any floating type; computed in fp32.
        target: (batch, channels, y, x), 0 or 1.
        weight: (batch, 1, y, x), as how many pixels each one counts; None: as one.

    Returns:
        A scalar from 0 (perfect) to 1.
    """
    probability = torch.sigmoid(logits.float())
    target = target.float()
    if weight is not None:
        # Squares and products of the roots are weighted once.
        probability, target = probability * weight.sqrt(), target * weight.sqrt()
    losses = []
    for found, wanted in zip(probability.unbind(1), target.unbind(1), strict=True):
        overlap = (found * wanted).sum()
        # As it is 0 or 1, its square is itself.
        wanted_size = wanted.sum() if weight is None else (wanted * wanted).sum()
        sizes = (found * found).sum() + wanted_size
        losses.append(1 - (2 * overlap + 1) / (sizes + 1))
    return torch.stack(losses).mean()


def focal_loss(
    logits: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None = None,
    *,
    gamma: float,
    foreground_weight: float,
) -> torch.Tensor:
    """Computes the focal loss (Lin et al. 2017), weighted by class.

    Each pixel's cross-entropy is scaled by (1 - p_t) ** gamma and by the weight of its class;
    the sum is divided by the sum of weights, so that a heavier foreground shifts the balance and
    not the size of the loss. This is done for every channel, and the channels are averaged.

    Args:
        logits: (batch, channels, y, x), any floating type; computed in fp32.
        target: (batch, channels, y, x), 0 or 1.
        weight: (batch, 1, y, x), as how many pixels each one counts; None: as one.
        gamma: Focusing exponent; 0 is weighted cross-entropy.
        foreground_weight: Weight of a foreground pixel, in the first channel; background has 1.
            The pixels that further channels mark have ``BOUNDARY_WEIGHT``.
    """
    logits, target = logits.float(), target.float()
    towards = logits * (2 * target - 1)
    cross_entropy = -functional.logsigmoid(towards)
    # In logarithms: the power itself has an infinite gradient at 0 for a gamma below 1.
    focused = torch.exp(gamma * functional.logsigmoid(-towards)) * cross_entropy
    losses = []
    for channel, (each, wanted) in enumerate(zip(focused.unbind(1), target.unbind(1), strict=True)):
        balance = 1 + ((BOUNDARY_WEIGHT if channel else foreground_weight) - 1) * wanted
        if weight is not None:
            balance = balance * weight[:, 0]
        # Of a batch nothing of which is sure, nothing is learned.
        total = balance.sum() if weight is None else balance.sum().clamp(min=_NOTHING)
        losses.append((balance * each).sum() / total)
    return torch.stack(losses).mean()


def _bce_dice_loss(
    logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Computes half the cross-entropy and half 1 - Dice, without squares in the denominator.

    RETINA's loss of one structure. The Dice is of all pixels of a batch; several channels are
    averaged.

    Args:
        logits: (batch, channels, y, x), any floating type; computed in fp32.
        target: (batch, channels, y, x), 0 or 1.
        weight: (batch, 1, y, x), as how many pixels each one counts; None: as one.
    """
    logits, target = logits.float(), target.float()
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, target, weight)
    pixels = [0, *range(2, target.ndim)]
    probability = torch.sigmoid(logits)
    if weight is not None:
        cross_entropy = cross_entropy / weight.mean().clamp(min=_NOTHING)
        probability = probability * weight
    wanted = target if weight is None else target * weight
    sizes = probability.sum(pixels) + wanted.sum(pixels)
    dice = (2 * (probability * target).sum(pixels) + _SMOOTH) / (sizes + _SMOOTH)
    return 0.5 * cross_entropy + 0.5 * (1 - dice.mean())


def make_loss(
    name: str,
    *,
    gamma: float,
    foreground_weight: float,
    class_weights: Sequence[float] = (),
    weighted: bool = False,
) -> Loss:
    """Returns the loss of a name, one of LOSSES.

    ``focal_dice`` is the sum of both; ``weighted_bce`` is cross-entropy in which foreground has
    its weight: a focal loss of exponent 0. ``ce_dice`` is that of classes, see ``class_loss``.

    Where it is ``weighted``, the last channel of a target is as how many pixels each one counts;
    in that of classes a pixel of no class counts for nothing.
    """
    if name == CLASS_LOSS:
        return partial(class_loss, weights=tuple(class_weights), partly=weighted)

    focal = partial(focal_loss, gamma=gamma, foreground_weight=foreground_weight)

    def focal_dice(
        logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None
    ) -> torch.Tensor:
        return focal(logits, target, weight) + dice_loss(logits, target, weight)

    losses: dict[str, _PixelLoss] = {
        "dice": dice_loss,
        "focal_dice": focal_dice,
        "weighted_bce": partial(focal_loss, gamma=0.0, foreground_weight=foreground_weight),
        "bce_dice": _bce_dice_loss,
    }
    loss = losses[name]
    if weighted:
        return lambda logits, target: loss(logits, target[:, :-1], target[:, -1:])
    return lambda logits, target: loss(logits, target, None)


@dataclass(frozen=True)
class Objective:
    """The loss of an iteration.

    Attributes:
        compute: Returns the loss of an iteration (from 0), a scalar with gradients, and numbers
            for the curves; ``data_wait_s`` among them is the time (s) until the batch was there,
            which the loop reports as a share. The loss must be a function of the iteration and the
            trainee's state alone: a resumed run repeats it.
        images: Images that one call sees.
        remedy: What to lower where the memory does not suffice.
        after_step: Called after the optimiser's step.
    """

    compute: Callable[[int], tuple[torch.Tensor, dict[str, float]]]
    images: int
    remedy: str
    after_step: Callable[[], None] = lambda: None


def _seed_dropout(seed: int, iteration: int) -> None:
    """Makes what a network drops a function of the iteration, which a resumed run repeats."""
    torch.manual_seed(seed * _SEEDS_APART + iteration)


def supervised(network: torch.nn.Module, feed: Feed, loss: Loss, compute: Compute) -> Objective:
    """The loss of a network's logits on patches with targets."""

    def compute_loss(iteration: int) -> tuple[torch.Tensor, dict[str, float]]:
        (image, target), waited_s = wait_for_batch(feed, iteration)
        _seed_dropout(feed.settings.seed, iteration)
        with compute.autocast():
            layout = compute.memory_format(network, image.ndim)
            logits = network(image.contiguous(memory_format=layout))
        return loss(logits, target), {"data_wait_s": waited_s}

    settings = feed.settings
    remedy = f"lower batch_size (now {settings.batch_size}) or patch_px (now {settings.patch_px})"
    return Objective(compute_loss, settings.batch_size, remedy)


def class_loss(
    logits: torch.Tensor, target: torch.Tensor, *, weights: Sequence[float], partly: bool = False
) -> torch.Tensor:
    """Computes half the weighted cross-entropy and half 1 - Dice of classes, of a softmax.

    The cross-entropy of each pixel has the weight of its class, and the sum is divided by the sum
    of weights. The Dice of every class has squares below the line, and the classes, background
    among them, are averaged; one that is not in the batch counts as 0, without a gradient, and
    is pushed down by the cross-entropy alone. This is RETINA's loss of several classes.

    Args:
        logits: (batch, classes, y, x), any floating type; computed in fp32.
        target: (batch, classes, y, x), 1 in the class of a pixel and 0 in all others.
        weights: Of each class; empty for ones.
        partly: Whether pixels may be of no class, which count for nothing.
    """
    logits, target = logits.float(), target.float()
    balance = torch.tensor(weights, dtype=torch.float32, device=logits.device) if weights else None
    if partly:
        known = target.sum(1, keepdim=True)
        classes = torch.where(known[:, 0] > 0, target.argmax(1), _NO_CLASS)
        if not known.any():
            # The mean of nothing is not defined; so it is 0, with gradients of 0.
            return 0 * logits.sum()
        cross_entropy = functional.cross_entropy(
            logits, classes, weight=balance, ignore_index=_NO_CLASS
        )
        dice = soft_dice_of_classes(logits.softmax(1) * known, target)
        return 0.5 * cross_entropy + 0.5 * dice
    cross_entropy = functional.cross_entropy(logits, target.argmax(1), weight=balance)
    return 0.5 * cross_entropy + 0.5 * soft_dice_of_classes(logits.softmax(1), target)


def soft_dice_of_classes(probability: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """1 - Dice of (batch, classes, ..) over all pixels of a batch, mean over the classes."""
    pixels = [0, *range(2, target.ndim)]
    overlap = (probability * target).sum(pixels)
    sizes = probability.square().sum(pixels) + target.sum(pixels)
    return (1 - 2 * overlap / sizes.clamp(min=1e-6)).mean()
