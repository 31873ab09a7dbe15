"""What every training tells its run while it runs, whatever it learns: curves, the best model."""

import dataclasses
import time
from collections.abc import Callable

import torch

from bench.inference.device import Compute
from bench.models.checkpoint import ModelInfo
from bench.tracking.runs import Run

# Seconds between flushes.
_FLUSH_S = 5.0
# Numbers of an iteration that say how fast it was, not what it learned: their charts come last.
_SPEED = ("images_per_second", "data_wait_fraction")


class CurveReport:
    """Collects the curves of a training for its run, and sends them from time to time."""

    # What a validation measures, by its name in the curves and in the model's description.
    scored: str

    def __init__(
        self, *, run: Run, info: ModelInfo, compute: Compute, advance: Callable[[int, str], None]
    ) -> None:
        """Starts a report.

        Args:
            run: The run that is informed.
            info: What the model is.
            compute: Where it runs.
            advance: Called with the iterations done and a remark for the progress bar.
        """
        self.run, self.info, self.compute = run, info, compute
        self.best, self.advance = run.work / "best.safetensors", advance
        self.network: torch.nn.Module | None = None
        self.series: list[tuple[int, dict[str, float]]] = []
        self.flushed, self.remark = time.monotonic(), ""
        # A resumed run repeats the iterations after its last state; they are in the curves.
        resumed = run.state == "resumed"
        self.logged = run.last_step("train/loss") if resumed else 0
        self.validated = run.last_step(f"val/{self.scored}") if resumed else 0
        # Of this session, and of all.
        self.iterations, self.seconds, self.elapsed_s = 0, 0.0, 0.0

    def on_iteration(self, iteration: int, numbers: dict[str, float]) -> None:
        """Collects the numbers of an iteration for the curves."""
        self.iterations, self.seconds = self.iterations + 1, self.seconds + numbers.pop("seconds")
        self.elapsed_s = numbers.pop("elapsed_s")
        if iteration > self.logged:
            curves = {
                f"{'work' if name in _SPEED else 'train'}/{name}": value
                for name, value in numbers.items()
            }
            self.series.append((iteration, curves))
        self.advance(iteration, f"loss {numbers['loss']:.3f} {self.remark}")
        if time.monotonic() - self.flushed > _FLUSH_S:
            self.flush()

    def on_saving(self, iteration: int) -> None:
        """Sends the curves before the state that follows them is saved."""
        self.flush()

    def describe(self, iteration: int, score: float | None) -> ModelInfo:
        """What the model is, with the iteration and what its validation measured."""
        training = {**self.info.training, "iteration": iteration, f"val_{self.scored}": score}
        return dataclasses.replace(self.info, training=training)

    def flush(self) -> None:
        """Sends what was collected."""
        self.run.log_series(list(self.series))
        self.series.clear()
        self.flushed = time.monotonic()
