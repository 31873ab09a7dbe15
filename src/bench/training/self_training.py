"""Pseudo-labels and the self-training loss of torch_em: the only importer of its self-training."""

from typing import Any

import torch


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
