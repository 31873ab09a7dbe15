"""What a pretraining shows while it runs: curves, reconstructions, the best checkpoint."""

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import torch

from bench.inference.device import Compute
from bench.models.checkpoint import ModelInfo, save_checkpoint
from bench.report.figures.reconstruction import draw_reconstructions
from bench.tracking.runs import Run
from bench.training.loop import Reports
from bench.training.objectives import fast_layout
from bench.training.reconstruction import HeldOutViews, squared_error

# Patches in a picture, and seconds between flushes.
_SHOWN_PATCHES = 5
_FLUSH_S = 5.0
# Numbers of an iteration that say how fast it was: their charts come last.
_SPEED = ("images_per_second", "data_wait_fraction")


class PretrainReport:
    """Callbacks of the training loop that keep the MLflow run of a pretraining informed."""

    def __init__(
        self,
        *,
        run: Run,
        views: HeldOutViews,
        info: ModelInfo,
        compute: Compute,
        advance: Callable[[int, str], None],
    ) -> None:
        """Starts a report.

        Args:
            run: The run that is informed.
            views: Views of images that are not trained on; the same at every validation.
            info: What the model is.
            compute: Where it runs.
            advance: Called with the iterations done and a remark for the progress bar.
        """
        self.run, self.views, self.info, self.compute = run, views, info, compute
        self.best, self.advance = run.work / "best.safetensors", advance
        self.network: torch.nn.Module | None = None
        self.shown: np.ndarray | None = None
        self.series: list[tuple[int, dict[str, float]]] = []
        self.flushed, self.remark = time.monotonic(), ""
        # A resumed run repeats the iterations after its last state; they are in the curves.
        self.logged = run.last_step("train/loss") if run.state == "resumed" else 0
        self.validated = run.last_step("val/mse") if run.state == "resumed" else 0
        run.log_facts({"val/mean_mse": views.mean_mse, "val/view_mse": views.view_mse})

    def callbacks(self) -> Reports:
        """What the loop calls."""
        return Reports(self.on_iteration, self.validate, self.on_epoch, self.on_saving)

    def on_iteration(self, iteration: int, numbers: dict[str, float]) -> None:
        """Collects the numbers of an iteration for the curves."""
        if iteration > self.logged:
            curves = {
                f"{'work' if name in _SPEED else 'train'}/{name}": value
                for name, value in numbers.items()
            }
            self.series.append((iteration, curves))
        self.advance(iteration, f"loss {numbers['loss']:.3f} {self.remark}")
        if time.monotonic() - self.flushed > _FLUSH_S:
            self.flush()

    @torch.no_grad()
    def validate(self, network: torch.nn.Module) -> float:
        """Reconstructs the held-out views; returns a score from 0 to 1, of an error of 0."""
        self.network = network.eval()
        errors = []
        for number, (view, whole) in enumerate(self.views.pairs):
            image = view.to(self.compute.device).contiguous(memory_format=fast_layout(4))
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

    def on_saving(self, iteration: int) -> None:
        """Sends the curves before the state that follows them is saved."""
        self.flush()

    def describe(self, iteration: int, mse: float | None) -> ModelInfo:
        """What the model is, with the iteration and its error on held-out images."""
        training = {**self.info.training, "iteration": iteration, "val_mse": mse}
        return dataclasses.replace(self.info, training=training)

    def flush(self) -> None:
        """Sends what was collected."""
        self.run.log_series(list(self.series))
        self.series.clear()
        self.flushed = time.monotonic()
