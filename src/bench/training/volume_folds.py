"""Patches for several networks, each of which is never shown one part of the volumes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from bench.training.volume_patches import HeldVolume, VolumePatchFeed, VolumePatchSettings


class FoldedPatchFeed:
    """Batches in as many parts as there are folds, each drawn without one part of the volumes.

    A part is every so many-th volume, or where there are fewer volumes than folds, a block of the
    planes of each.
    """

    def __init__(
        self,
        volumes: Sequence[HeldVolume],
        settings: VolumePatchSettings,
        device: torch.device,
        folds: int,
    ) -> None:
        """Takes the volumes.

        Args:
            volumes: What to draw from.
            settings: How to draw; the batch is a multiple of the folds.
            device: Where batches end up.
            folds: How many there are.
        """
        self.settings = settings
        self.feeds = [
            VolumePatchFeed(
                leave_out(volumes, fold, folds),
                replace(
                    settings,
                    batch_size=settings.batch_size // folds,
                    seed=settings.seed * folds + fold,
                ),
                device,
            )
            for fold in range(folds)
        ]

    def batch(self, iteration: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draws the batch of an iteration: images and targets (batch, 1, z, y, x)."""
        batches = [feed.batch(iteration) for feed in self.feeds]
        images, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
        return images, targets


def leave_out(volumes: Sequence[HeldVolume], fold: int, folds: int) -> list[HeldVolume]:
    """All volumes but those of a fold; nothing is copied."""
    if len(volumes) >= folds:
        return [volume for number, volume in enumerate(volumes) if number % folds != fold]
    left: list[HeldVolume] = []
    for volume in volumes:
        bounds = np.linspace(0, len(volume.image), folds + 1).round().astype(int).tolist()
        parts = (0, bounds[fold]), (bounds[fold + 1], bounds[-1])
        left += [_cut(volume, first, end) for first, end in parts if first < end]
    return left


def _cut(volume: HeldVolume, first: int, end: int) -> HeldVolume:
    """Some planes of a volume."""
    inside = (
        each[(each[:, 0] >= first) & (each[:, 0] < end)] - [first, 0, 0] for each in volume.centres
    )
    return replace(
        volume,
        image=volume.image[first:end],
        target=volume.target[first:end],
        sure=None if volume.sure is None else volume.sure[first:end],
        centres=[each for each in inside if len(each)],
    )
