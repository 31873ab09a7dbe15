"""What a training of a detector shows while it runs: curves, boxes on sections, the best model."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from bench.inference.detection.boxes import detect_boxes
from bench.metrics.detection import (
    Detections,
    box_precision,
    drop_open_boxes,
    label_boxes,
    mean_box_precision,
)
from bench.models.checkpoint import save_checkpoint
from bench.models.detection.detector import Detector
from bench.report.figures.boxes import draw_boxes
from bench.report.figures.scale_bar import draw_scale_bar
from bench.steps.training.reports.curves import CurveReport
from bench.steps.training.reports.sections import SHOWN_SECTIONS
from bench.training.loop import Reports

# Boxes of a lower score are not drawn.
_SHOWN_SCORE = 0.4
_AT_HALF = "box_ap50"


class DetectReport(CurveReport):
    """Callbacks of the training loop that keep the MLflow run of a detector informed."""

    scored = "box_ap"

    def __init__(
        self,
        *,
        sections: dict[str, tuple[np.ndarray, np.ndarray]],
        levels: Mapping[str, np.ndarray] = MappingProxyType({}),
        pixel_size_nm: float | None,
        **others: Any,
    ) -> None:
        """Starts a report.

        Args:
            sections: Raw and labels (y, x) of the validation sections, by name.
            levels: What of them is not annotated, of those of which not all is.
            pixel_size_nm: Pixel size of these sections; None if not known.
            others: As for ``CurveReport``.
        """
        super().__init__(**others)
        self.sections, self.pixel_size_nm = sections, pixel_size_nm
        self.void = {name: each > 0 for name, each in levels.items()}
        self.truth = {
            name: label_boxes(np.where(self.void[name], 0, labels) if name in levels else labels)
            for name, (_, labels) in sections.items()
        }
        self.found: dict[str, Detections] = {}
        # Average precision at an IoU of 0.5 of the last validation, and of the best model.
        self.at_half, self.best_at_half = 0.0, 0.0

    def callbacks(self) -> Reports:
        """What the loop calls."""
        return Reports(self.on_iteration, self.validate, self.on_epoch, self.on_saving)

    def validate(self, network: torch.nn.Module) -> float:
        """Finds the boxes of the validation sections; returns their mean average precision."""
        assert isinstance(network, Detector)
        self.network = network
        self.found = {
            name: detect_boxes(network, self.info, raw, self.pixel_size_nm, self.compute)
            for name, (raw, _) in self.sections.items()
        }
        for name, void in self.void.items():
            self.found[name] = drop_open_boxes(self.found[name], self.truth[name], void)
        pairs = [(self.found[name], self.truth[name]) for name in self.sections]
        self.at_half = box_precision(pairs, 0.5)
        return mean_box_precision(pairs)

    def on_epoch(self, iteration: int, score: float, best: bool) -> None:
        """Keeps the best checkpoint; logs the scores and boxes of the same few sections."""
        assert self.network is not None
        self.remark = f"validation AP {score:.3f}, at IoU 0.5 {self.at_half:.3f}"
        if best:
            self.best_at_half = self.at_half
            save_checkpoint(self.best, self.network, self._describe_best(iteration, score))
        if iteration > self.validated:
            scores = {f"val/{self.scored}": score, f"val/{_AT_HALF}": self.at_half}
            self.series.append((iteration, scores))
            self.validated = iteration
            self._log_boxes(iteration)
        self.flush()

    def _describe_best(self, iteration: int, score: float) -> Any:
        info = self.describe(iteration, score)
        info.training[f"val_{_AT_HALF}"] = self.at_half
        return info

    def _log_boxes(self, iteration: int) -> None:
        for name in list(self.sections)[:SHOWN_SECTIONS]:
            found = self.found[name]
            shown = found.take(found.scores >= _SHOWN_SCORE)
            picture = draw_boxes(self.sections[name][0], truth=self.truth[name], found=shown)
            picture = draw_scale_bar(picture, self.pixel_size_nm)
            self.run.log_image(picture, key=f"val/{name}", step=iteration)
