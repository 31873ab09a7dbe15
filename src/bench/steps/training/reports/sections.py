"""What a training or adaptation shows while it runs: curves, overlays, the best checkpoint."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from bench.inference.prediction import foreground_channel, predict_all_at_model_scale
from bench.metrics.overlap import cut_open, find_open
from bench.metrics.table import HEADLINE
from bench.models.checkpoint import ModelInfo, save_checkpoint
from bench.report.figures.overlays import draw_overlay, hatch_ignored
from bench.report.figures.scale_bar import draw_scale_bar
from bench.search.candidates import pixel_curve
from bench.steps.training.balance import FOUND_LEVEL, best_level, pool_levels
from bench.steps.training.reports.curves import CurveReport
from bench.steps.training.snapshots import snapshot_name
from bench.tracking.queries import ELAPSED, SPEED
from bench.training.loop import Reports
from bench.training.mean_teacher import MeanTeacher
from bench.training.unlabelled import UnlabelledFeed

# The probability, as stored, from which a pixel counts as foreground while training.
HALF = 128
# Overlays: sections shown, and the edge of the piece of each (px).
SHOWN_SECTIONS = 3
_SHOWN_PX = 512
# Patches in the picture of the pseudo-labels.
_SHOWN_PATCHES = 4
_REMEDY = (
    "try confidence=auto or a lower confidence, a source that knows the structure, and see that "
    "the pixel sizes of source and dataset are right"
)


class TrainingReport(CurveReport):
    """Callbacks of the training loop that keep an MLflow run informed."""

    scored = HEADLINE

    def __init__(
        self,
        *,
        sections: dict[str, tuple[np.ndarray, np.ndarray]],
        levels: Mapping[str, np.ndarray] = MappingProxyType({}),
        pixel_size_nm: float | None,
        balanced: bool = False,
        **others: Any,
    ) -> None:
        """Starts a report.

        Args:
            sections: Raw and labels (y, x) of the validation sections, by name.
            levels: What of them is not annotated, of those of which not all is.
            pixel_size_nm: Pixel size of these sections; None if not known.
            balanced: Whether a model is scored at the limit that it would be moved to.
            others: As for ``CurveReport``.
        """
        super().__init__(**others)
        self.sections, self.levels, self.pixel_size_nm = sections, levels, pixel_size_nm
        self.balanced, self.found_level = balanced, HALF
        self.predictions: dict[str, np.ndarray] = {}
        if self.run.state == "new":
            # The slider of the MLflow UI starts at 0 and would show nothing there.
            self.log_overlays(0)

    def callbacks(self) -> Reports:
        """What the loop calls."""
        return Reports(
            self.on_iteration, self.validate, self.on_epoch, self.on_saving, self.on_snapshot
        )

    def validate(self, network: torch.nn.Module) -> float:
        """Predicts the validation sections; returns Dice over all their pixels."""
        self.found_level, curve = self.score_levels(network, balanced=self.balanced)
        return float(curve[self.found_level])

    def score_levels(self, network: torch.nn.Module, *, balanced: bool) -> tuple[int, np.ndarray]:
        """Predicts the validation sections; where foreground begins, and Dice at every level."""
        self.network = network
        channel = foreground_channel(self.info, self.info.structure)
        maps = {
            name: self.predict(network, raw)[channel] for name, (raw, _) in self.sections.items()
        }
        pooled = pool_levels(self.sections, self.levels, maps.values())
        level = best_level(pooled) if balanced else HALF
        self.predictions = {name: found >= level for name, found in maps.items()}
        return level, pixel_curve(pooled, HEADLINE)

    def describe(self, iteration: int, score: float | None) -> ModelInfo:
        """What the model is; of one that was scored at its own limit, where that is."""
        info = super().describe(iteration, score)
        if not self.balanced or score is None:
            return info
        return dataclasses.replace(info, training=info.training | {FOUND_LEVEL: self.found_level})

    def predict(self, network: torch.nn.Module, raw: np.ndarray) -> np.ndarray:
        """Probabilities (channels, y, x) uint8 of a section."""
        (probability,) = predict_all_at_model_scale(
            network,
            [raw],
            info=self.info,
            pixel_size_nm=self.pixel_size_nm,
            compute=self.compute,
        )
        return probability

    def on_epoch(self, iteration: int, score: float, best: bool) -> None:
        """Keeps the best checkpoint; logs the score and overlays of the same few sections."""
        assert self.network is not None
        self.remark = f"validation Dice {score:.3f}"
        if best:
            save_checkpoint(self.best, self.network, self.describe(iteration, score))
        if iteration > self.validated:
            self.log_overlays(iteration)
        self.log_score(iteration, score)
        if self.iterations:
            # Without validations. Every epoch, as a session may end before its first iteration.
            self.run.log_facts({SPEED: self.seconds / self.iterations})
        self.flush()

    def log_score(self, iteration: int, score: float) -> None:
        """Logs the score of a validation once, with the seconds trained until then."""
        if iteration > self.validated:
            numbers = {f"val/{HEADLINE}": score, ELAPSED: self.elapsed_s}
            self.series.append((iteration, numbers))
            self.validated = iteration

    def on_snapshot(self, iteration: int, score: float) -> None:
        """Keeps the weights of an iteration and logs their score."""
        assert self.network is not None
        file = self.run.work / f"{snapshot_name(iteration)}.safetensors"
        save_checkpoint(file, self.network, self.describe(iteration, score))
        self.log_score(iteration, score)
        self.flush()

    def log_overlays(self, iteration: int) -> None:
        """Logs the predictions of the same few sections; before training, all is still missed."""
        for name in list(self.sections)[:SHOWN_SECTIONS]:
            raw, labels = self.sections[name]
            view = window_of_interest(labels)
            prediction = self.predictions.get(name, np.zeros(labels.shape, dtype=bool))
            opened = self.levels[name][view] if name in self.levels else None
            overlay = draw_overlay(
                hatch_ignored(raw[view], find_open(opened)),
                truth=labels[view],
                prediction=cut_open(prediction[view], opened),
            )
            shown = draw_scale_bar(overlay, self.pixel_size_nm)
            self.run.log_image(shown, key=f"val/{name}", step=iteration)


def window_of_interest(labels: np.ndarray) -> tuple[slice, slice]:
    """The window of _SHOWN_PX around the middle of a section's foreground, inside the section."""
    slices = []
    foreground = np.argwhere(labels)
    middle = np.median(foreground, axis=0) if len(foreground) else np.array(labels.shape) / 2
    for centre, side in zip(middle, labels.shape, strict=True):
        start = int(min(max(centre - _SHOWN_PX // 2, 0), max(side - _SHOWN_PX, 0)))
        slices.append(slice(start, start + _SHOWN_PX))
    return slices[0], slices[1]


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
        warning = f"for {self.empty} iterations (until {iteration}) {state}. To mend it, {_REMEDY}"
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
        patches = patches[:_SHOWN_PATCHES]
        with self.compute.autocast():
            labels, accepted = self.pair.labeller(self.pair.teacher, patches)
        channel = self.pair.channel
        planes = [patches[:, 0], labels[:, channel] >= 0.5, accepted[:, channel] > 0]
        overlays = [
            draw_overlay(patch, truth=foreground, prediction=foreground == sure)
            for patch, foreground, sure in zip(*(p.cpu().numpy() for p in planes), strict=True)
        ]
        overlays[0] = draw_scale_bar(overlays[0], self.info.input_pixel_size_nm)
        return np.concatenate(overlays, axis=1)
