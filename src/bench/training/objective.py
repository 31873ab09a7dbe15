"""What a step of training minimises."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from bench.inference.device import Compute
from bench.training.ahead import Feed, wait_for_batch
from bench.training.objectives import Loss


def nothing() -> None:
    """Does nothing."""


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
    after_step: Callable[[], None] = nothing


def supervised(network: torch.nn.Module, feed: Feed, loss: Loss, compute: Compute) -> Objective:
    """The loss of a network's logits on patches with targets."""

    def compute_loss(iteration: int) -> tuple[torch.Tensor, dict[str, float]]:
        (image, target), waited_s = wait_for_batch(feed, iteration)
        with compute.autocast():
            logits = network(image.contiguous(memory_format=torch.channels_last))
        return loss(logits, target), {"data_wait_s": waited_s}

    settings = feed.settings
    remedy = f"lower batch_size (now {settings.batch_size}) or patch_px (now {settings.patch_px})"
    return Objective(compute_loss, settings.batch_size, remedy)
