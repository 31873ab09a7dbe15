"""Checkpoints of detectors, read for their boxes."""

from pathlib import Path
from typing import NoReturn

from bench.errors import BenchError
from bench.inference.device import Compute
from bench.models.checkpoint import ModelInfo, load_info
from bench.models.networks import find_network

_DETECT_STEP = "detect"


def _is_detector(info: ModelInfo) -> bool:
    """Whether a model finds boxes."""
    return _DETECT_STEP in find_network(info.architecture).steps


def check_detector(info: ModelInfo, name: str) -> None:
    """Raises BenchError where a checkpoint of a name is not of a detector."""
    if not _is_detector(info):
        raise BenchError(
            f"boxes are found by a detector, {name} is a {info.architecture}: give a run of detect"
        )


def refuse_boxes(path: Path, compute: Compute, structure: str) -> NoReturn:
    """Opens a detector to segment, which it cannot.

    Raises:
        BenchError: Always.
    """
    raise BenchError(
        f"a model must segment, {load_info(path).architecture} finds boxes of {structure}: run "
        "microsam with mode=detector, which prompts a SAM with them, and take what that makes"
    )
