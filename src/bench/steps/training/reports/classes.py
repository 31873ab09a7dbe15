"""What a training of several structures in one model shows while it runs: a curve of each."""

import statistics

import numpy as np
import torch

from bench.metrics.overlap import PixelCounts, count_pixels, cut_open, dice_score, find_open
from bench.metrics.table import HEADLINE
from bench.report.figures.overlays import draw_classes, hatch_ignored
from bench.report.figures.scale_bar import draw_scale_bar
from bench.steps.training.reports.sections import (
    HALF,
    SHOWN_SECTIONS,
    TrainingReport,
    window_of_interest,
)
from bench.training.targets import make_classes


class ClassTrainingReport(TrainingReport):
    """Callbacks of the training loop whose model has classes.

    The labels of its sections are (structures, y, x). The best model is the one whose mean Dice
    over structures is highest.
    """

    scores: dict[str, float]

    def validate(self, network: torch.nn.Module) -> float:
        """Predicts the validation sections; returns the mean of the Dice of every structure.

        A pixel counts where the structure's own probability is at least 0.5, as an evaluation
        counts it.
        """
        self.network = network
        counts = dict.fromkeys(self.info.classes, PixelCounts(0, 0, 0, 0))
        for name, (raw, labels) in self.sections.items():
            probability = self.predict(network, raw)
            self.predictions[name] = probability.argmax(axis=0).astype(np.uint8)
            ignored = find_open(self.levels.get(name))
            for structure, truth, found in zip(counts, labels, probability[1:], strict=True):
                counts[structure] += count_pixels(
                    truth=truth, prediction=found >= HALF, ignored=ignored
                )
        self.scores = {
            f"val/{HEADLINE}_{name}": dice_score(count) for name, count in counts.items()
        }
        return statistics.fmean(self.scores.values())

    def log_score(self, iteration: int, score: float) -> None:
        """Logs the score of a validation once, with those of each structure."""
        if iteration > self.validated:
            self.series.append((iteration, dict(self.scores)))
        super().log_score(iteration, score)

    def log_overlays(self, iteration: int) -> None:
        """Logs annotation and prediction side by side, in the colours of the classes."""
        for name in list(self.sections)[:SHOWN_SECTIONS]:
            raw, labels = self.sections[name]
            truth = make_classes(labels)
            view = window_of_interest(truth)
            prediction = self.predictions.get(name, np.zeros_like(truth))
            opened = self.levels[name][view] if name in self.levels else None
            shown = hatch_ignored(raw[view], find_open(opened))
            panels = [
                draw_classes(shown, cut_open(each[view], opened)) for each in (truth, prediction)
            ]
            panels[0] = draw_scale_bar(panels[0], self.pixel_size_nm)
            self.run.log_image(np.concatenate(panels, axis=1), key=f"val/{name}", step=iteration)
