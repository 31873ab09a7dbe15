"""The mean teacher: a student learns the pseudo-labels of a teacher that follows it.

The algorithm is torch_em's ``MeanTeacherTrainer`` (Tarvainen and Valpola 2017), which a test
compares it with; only the loop around it is ours, because theirs does not resume.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from bench.inference.device import Compute
from bench.training.ahead import Feed, wait_for_batch
from bench.training.objectives import Objective

# From a teacher and its images to labels and accepted pixels, both (batch, channels, y, x).
PseudoLabeller = Callable[[torch.nn.Module, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


class Probability(torch.nn.Module):
    """Makes probabilities of logits, in fp32: those of bf16 would all be 1 above 0.998."""

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        """Applies the sigmoid."""
        return torch.sigmoid(logits.float())


def make_pseudo_labeller(confidence: float) -> Any:
    """Makes torch_em's pseudo-labeller, for a teacher that gives logits.

    Args:
        confidence: Pixels whose probability is at least this, or at most 1 less this, are
            accepted.

    Returns:
        A callable from the teacher and images (batch, 1, y, x) to the teacher's probabilities,
        which are the labels, and to the accepted pixels (0 or 1); both (batch, channels, y, x).
    """
    from torch_em.self_training import DefaultPseudoLabeler

    return DefaultPseudoLabeler(
        activation=Probability(), confidence_threshold=confidence, threshold_from_both_sides=True
    )


def make_self_training_loss() -> Any:
    """Makes torch_em's self-training loss, for a student that gives logits.

    It is the sum over channels of 1 - Dice (with squares) between the student's probabilities
    and the labels, both set to 0 where a pixel is not accepted. Where no pixel of a channel is
    accepted it is 1, without a gradient.

    Returns:
        A callable from the student, its images, the labels and the accepted pixels to a scalar.
    """
    from torch_em.self_training import DefaultSelfTrainingLoss

    return DefaultSelfTrainingLoss(activation=Probability())


@dataclass(frozen=True)
class MeanTeacher:
    """What a mean teacher consists of.

    Attributes:
        student: The network that is trained, from images to logits (batch, channels, y, x).
        teacher: A network of the same shape, without gradients.
        labeller: Makes pseudo-labels.
        ema: Share of the teacher's weights that an iteration keeps; the rest is the student's.
        channel: The channel of the foreground, which the numbers are about.
    """

    student: torch.nn.Module
    teacher: torch.nn.Module
    labeller: PseudoLabeller
    ema: float
    channel: int = 0

    def follow(self) -> None:
        """Moves the teacher's weights towards the student's."""
        with torch.no_grad():
            pairs = zip(self.teacher.parameters(), self.student.parameters(), strict=True)
            for slow, fast in pairs:
                slow.mul_(self.ema).add_(fast, alpha=1 - self.ema)


def self_training(pair: MeanTeacher, feed: Feed, compute: Compute) -> Objective:
    """The loss of the student on the teacher's pseudo-labels.

    The teacher sees the weak view of a batch and the student the strong one, of the same pixels.
    """
    loss = make_self_training_loss()
    pair.teacher.requires_grad_(False).eval()

    def compute_loss(iteration: int) -> tuple[torch.Tensor, dict[str, float]]:
        views, waited_s = wait_for_batch(feed, iteration)
        layout = compute.memory_format(pair.student, 4)
        weak, strong = (view.contiguous(memory_format=layout) for view in views)
        with compute.autocast(), torch.no_grad():
            labels, accepted = pair.labeller(pair.teacher, weak)
        with compute.autocast():
            logits = pair.student(strong)
            # Theirs calls the network itself; the logits are also needed for the numbers.
            value = loss(lambda _: logits, strong, labels, accepted)
        numbers = describe_batch(labels, accepted, logits.detach(), pair.channel)
        return value, numbers | {"data_wait_s": waited_s}

    settings = feed.settings
    remedy = f"lower batch_size (now {settings.batch_size}) or patch_px (now {settings.patch_px})"
    return Objective(compute_loss, settings.batch_size, remedy, pair.follow)


def describe_batch(
    labels: torch.Tensor, accepted: torch.Tensor, logits: torch.Tensor, channel: int
) -> dict[str, float]:
    """Measures the pseudo-labels of a batch, and whether the student agrees with them.

    Args:
        labels: Pseudo-labels (batch, channels, y, x), 0 to 1.
        accepted: Pixels that the loss counts, 0 or 1, of the same shape.
        logits: Of the student, of the same shape.
        channel: The channel of the foreground.

    Returns:
        ``accepted``, the share of accepted pixels; ``accepted_foreground``, the share of
        foreground among these (0 where there are none); ``pseudo_foreground``, the share of
        foreground among all, accepted or not; ``agreement``, the Dice of the student's foreground
        and the teacher's (1 where both are empty).
    """
    teacher = labels[:, channel] >= 0.5
    student = logits[:, channel] >= 0
    sure = accepted[:, channel] > 0
    masks = (sure, sure & teacher, teacher, student, teacher & student)
    counts = torch.stack([mask.sum() for mask in masks]).tolist()
    taken, taken_foreground, found, student_found, both = counts
    sizes = found + student_found
    return {
        "accepted": taken / teacher.numel(),
        "accepted_foreground": taken_foreground / taken if taken else 0.0,
        "pseudo_foreground": found / teacher.numel(),
        "agreement": 2 * both / sizes if sizes else 1.0,
    }
