"""Checkpoints of detectors, read for their boxes."""

from pathlib import Path
from typing import NoReturn

import torch

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


def read_torch_weights(path: Path) -> dict[str, torch.Tensor]:
    """Reads the tensors of torchvision's file of a detector; no code in it is run.

    Raises:
        BenchError: If it is no such file.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise BenchError(
            f"{path} must be a file of tensors by name, as torchvision publishes weights, it does "
            f"not read ({str(error).splitlines()[0][:120]}): give such a file"
        ) from error
    tensors = content if isinstance(content, dict) else {}
    if not tensors or not all(isinstance(t, torch.Tensor) for t in tensors.values()):
        raise BenchError(f"{path} must hold tensors by name, received something else")
    return tensors
