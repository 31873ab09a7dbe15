"""What a pretraining shows while it runs: curves, reconstructions, the best checkpoint."""

from typing import Any

import numpy as np
import torch

from bench.models.checkpoint import save_checkpoint
from bench.report.figures.reconstruction import draw_reconstructions
from bench.steps.training.reports.curves import CurveReport
from bench.training.loop import Reports
from bench.training.reconstruction import HeldOutViews, squared_error

# Patches in a picture.
_SHOWN_PATCHES = 5


class PretrainReport(CurveReport):
    """Callbacks of the training loop that keep the MLflow run of a pretraining informed."""

    scored = "mse"

    def __init__(self, *, views: HeldOutViews, **others: Any) -> None:
        """Starts a report.

        Args:
            views: Views of images that are not trained on; the same at every validation.
            others: As for ``CurveReport``.
        """
        super().__init__(**others)
        self.views = views
        self.shown: np.ndarray | None = None
        self.run.log_facts({"val/mean_mse": views.mean_mse, "val/view_mse": views.view_mse})

    def callbacks(self) -> Reports:
        """What the loop calls."""
        return Reports(self.on_iteration, self.validate, self.on_epoch, self.on_saving)

    @torch.no_grad()
    def validate(self, network: torch.nn.Module) -> float:
        """Reconstructs the held-out views; returns a score from 0 to 1, of an error of 0."""
        self.network = network.eval()
        errors, layout = [], self.compute.memory_format(network, 4)
        for number, (view, whole) in enumerate(self.views.pairs):
            image = view.to(self.compute.device).contiguous(memory_format=layout)
            with self.compute.autocast():
                found = network(image).float().cpu()
            errors.append(float(squared_error(found, whole)))
            if number == 0:
                self.shown = found[:_SHOWN_PATCHES, 0].numpy()
        network.train()
        # Higher is better to the loop, whose first score is to be above -1.
        return 1 / (1 + float(np.mean(errors)))

    @staticmethod
    def mse_of(score: float) -> float:
        """The error that a score stands for."""
        return 1 / score - 1

    def on_epoch(self, iteration: int, score: float, best: bool) -> None:
        """Keeps the best checkpoint; logs the error and the same few reconstructions."""
        assert self.network is not None
        mse = self.mse_of(score)
        self.remark = f"held-out error {mse:.3f} (mean image {self.views.mean_mse:.3f})"
        if best:
            save_checkpoint(self.best, self.network, self.describe(iteration, mse))
        if iteration > self.validated:
            self.series.append((iteration, {"val/mse": mse}))
            self.run.log_image(self._draw(), key="val/reconstruction", step=iteration)
        self.flush()

    def _draw(self) -> np.ndarray:
        assert self.shown is not None
        view, whole = (pair[:_SHOWN_PATCHES, 0].numpy() for pair in self.views.pairs[0])
        return draw_reconstructions(whole, view, self.shown)
