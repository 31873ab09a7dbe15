"""What a domain adaptation shows: the teacher's score, the pseudo-labels, and when they fail."""

from typing import Any

import numpy as np
import torch

from bench.report.figures.overlays import draw_overlay
from bench.steps.training.report import TrainingReport
from bench.training.mean_teacher import MeanTeacher
from bench.training.unlabelled import UnlabelledFeed

# Patches in the picture of the pseudo-labels.
SHOWN_PATCHES = 4

REMEDY = (
    "try confidence=auto or a lower confidence, a source that knows the structure, and see that "
    "the pixel sizes of source and dataset are right"
)


class AdaptationReport(TrainingReport):
    """A training report whose model is the teacher."""

    def __init__(
        self, *, pair: MeanTeacher, feed: UnlabelledFeed, warn_after: int, **others: Any
    ) -> None:
        """Starts a report.

        Args:
            pair: Student and teacher.
            feed: Where the pictured patches come from.
            warn_after: Iterations in a row without pseudo-foreground after which it warns.
            others: As for ``TrainingReport``.
        """
        self.pair, self.feed, self.warn_after = pair, feed, warn_after
        self.empty = 0
        self.teacher_score: float | None = None
        self.student_score = 0.0
        super().__init__(**others)
        history = self.run.client.get_metric_history(self.run.id, "val/dice")
        self.validated = max((point.step for point in history), default=-1)

    def on_iteration(self, iteration: int, numbers: dict[str, float]) -> None:
        """Collects the numbers of an iteration; warns where nothing is learned."""
        super().on_iteration(iteration, numbers)
        self.empty = 0 if numbers["accepted_foreground"] else self.empty + 1
        if self.empty != self.warn_after:
            return
        if numbers["accepted"]:
            state = "all accepted pseudo-labels are background: the model may forget the structure"
        else:
            state = "no pseudo-label is accepted: nothing is learned, the loss is constant"
        warning = f"for {self.empty} iterations (until {iteration}) {state}. To mend it, {REMEDY}"
        self.run.add_warning(warning)

    def validate(self, network: torch.nn.Module) -> float:
        """Predicts the validation sections; returns the teacher's Dice over all their pixels."""
        self.student_score = super().validate(network)
        self.teacher_score = super().validate(self.pair.teacher)
        return self.teacher_score

    def log_overlays(self, iteration: int) -> None:
        """Logs the teacher's predictions, and its pseudo-labels on the same unlabelled patches."""
        if not self.predictions:
            return
        self.series.append((iteration, {"val/student_dice": self.student_score}))
        super().log_overlays(iteration)
        self.run.log_image(self.draw_labels(), key="unlabelled/pseudo-labels", step=iteration)

    @torch.no_grad()
    def draw_labels(self) -> np.ndarray:
        """Draws the pseudo-labels of a few patches, side by side; (y, x, 3) uint8.

        In the colours of the other overlays: blue is accepted foreground, yellow foreground of
        which the teacher is not sure enough, red background of which it is not.
        """
        patches, _ = self.feed.batch(0)
        patches = patches[:SHOWN_PATCHES]
        with self.compute.autocast():
            labels, accepted = self.pair.labeller(self.pair.teacher, patches)
        channel = self.pair.channel
        planes = [patches[:, 0], labels[:, channel] >= 0.5, accepted[:, channel] > 0]
        overlays = [
            draw_overlay(patch, truth=foreground, prediction=foreground == sure)
            for patch, foreground, sure in zip(*(p.cpu().numpy() for p in planes), strict=True)
        ]
        return np.concatenate(overlays, axis=1)
