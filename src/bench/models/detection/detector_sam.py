"""A detector and the SAM that its boxes prompt, as one network: one file has all that it needs."""

from typing import Any

import torch

from bench.models.checkpoint import build_model
from bench.models.sam import SamNetwork, build_sam


class DetectorSam(torch.nn.Module):
    """Both networks; bench.inference.detection.prompted applies one after the other.

    Attributes:
        detector: What finds boxes.
        prompted: The SAM.
    """

    def __init__(self, detector: torch.nn.Module, prompted: SamNetwork) -> None:
        """Takes both as they are."""
        super().__init__()
        self.detector, self.prompted = detector, prompted


def build_detector_sam(*, detector: dict[str, Any], sam: dict[str, Any]) -> DetectorSam:
    """Builds both with random weights.

    Args:
        detector: ``architecture`` and ``arguments`` of the detector.
        sam: Arguments of the SAM.
    """
    found = build_model(detector["architecture"], detector["arguments"])
    return DetectorSam(found, build_sam(**sam))
