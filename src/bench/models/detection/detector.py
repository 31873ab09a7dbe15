"""What every network that finds boxes can do, and how many it gives."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch

# Of a window: more than torchvision's 100, as a window may show several hundred vesicles.
MOST_BOXES = 500
# Below this nothing is a candidate: what counts is chosen on validation, later.
LEAST_BOX_SCORE = 0.05
# Of boxes of a window that overlap more, the best is kept.
SAME_BOX_IOU = 0.6


class Detector(torch.nn.Module, ABC):
    """A network that finds boxes of one kind of object in images of any size."""

    @abstractmethod
    def measure(
        self, images: torch.Tensor, boxes: Sequence[torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """The losses of a batch by name; their sum is minimised.

        Args:
            images: Standardised patches (batch, 1, y, x).
            boxes: Of each patch (boxes, 4), x0 y0 x1 y1 in px, of positive area; none is (0, 4).
        """

    @abstractmethod
    def find(self, images: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Boxes (n, 4) and scores (n) of every standardised image of (batch, 1, y, x)."""

    @staticmethod
    @abstractmethod
    def read_published(path: Path) -> dict[str, torch.Tensor]:
        """Reads the tensors of a file as others publish such weights, by the names that ours have.

        No code in it is run.

        Raises:
            BenchError: If it is no such file.
        """
