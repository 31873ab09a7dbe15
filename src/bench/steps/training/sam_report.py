"""What the training of a Segment Anything model shows: scores of its automatic segmentation."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from bench.inference.sam_masks import make_predictor
from bench.models.sam import SamNetwork
from bench.postprocess.instances import Instances
from bench.recipe.scores import SplitResult
from bench.steps.training.report import HALF, TrainingReport, window_of_interest

# Automatic segmentation by a grid of points takes minutes a window without a GPU.
VALIDATED_SECTIONS = 4


class SamReport(TrainingReport):
    """Callbacks of the training loop that score the instances SAM finds by itself."""

    def __init__(
        self, *, plain: Callable[[torch.nn.Module], torch.nn.Module], **arguments: Any
    ) -> None:
        """Starts a report.

        Args:
            plain: Makes of the trained network the one that is saved.
            arguments: Those of TrainingReport; ``sections`` are windows, see choose_windows.
        """
        self.plain = plain
        self.scores: dict[str, float] = {}
        super().__init__(**arguments)

    def validate(self, network: torch.nn.Module) -> float:
        """Segments the windows; returns Dice over all their pixels."""
        assert isinstance(network, SamNetwork)
        predict = make_predictor(network, self.info)
        result = SplitResult()
        for name, (raw, labels) in self.sections.items():
            prediction = predict(raw, self.pixel_size_nm)
            assert prediction.instances is not None
            self.predictions[name] = prediction.foreground >= HALF
            found = int(np.count_nonzero(prediction.instances))
            result.add(
                name,
                truth=labels,
                probability=prediction.foreground,
                instances=Instances(prediction.instances, found, found),
            )
        self.network = self.plain(network)
        self.scores = result.scores()
        return self.scores["dice"]

    def on_epoch(self, iteration: int, score: float, best: bool) -> None:
        """Keeps the best checkpoint; logs the scores and overlays."""
        if iteration > self.validated:
            self.series.append((iteration, {"val/instance_f1": self.scores["instance_f1"]}))
        super().on_epoch(iteration, score, best)

    def found_nothing(self) -> bool:
        """Whether the last validation found no instance at all."""
        return not any(prediction.any() for prediction in self.predictions.values())


def choose_windows(
    sections: dict[str, tuple[np.ndarray, np.ndarray]],
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Cuts the window around the foreground out of the first few sections with any."""
    annotated = {name: pair for name, pair in sections.items() if pair[1].any()}
    windows = {}
    for name, (raw, labels) in list(annotated.items())[:VALIDATED_SECTIONS]:
        window = window_of_interest(labels)
        windows[name] = raw[window], labels[window]
    return windows
