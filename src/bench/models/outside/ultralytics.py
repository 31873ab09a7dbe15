"""The package ultralytics (AGPL-3.0): its networks of YOLO and their loss, and nothing else of it.

The package is optional, and imported when a network is built. Importing it looks for the internet,
writes settings into the home directory, and changes how this process prints, warns and saves: here
none of that happens, or it is undone.
"""

import contextlib
import functools
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from bench.errors import BenchError

# Read by ultralytics while it is imported. Its settings, by which it may send reports, go with the
# folder that they lie in.
_QUIET = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}
_SETTINGS_FOLDER = "YOLO_CONFIG_DIR"


@dataclass(frozen=True)
class Ultralytics:
    """What is used of the package.

    Attributes:
        detection_model: Class of a network, built of a description.
        detection_loss: Class of its loss, made of a network.
        make_anchors: From maps and strides to places, and the stride of each.
        gains: Its default settings, among them the weights of the loss's parts.
        descriptions: Folder of its descriptions of networks.
    """

    detection_model: Callable[..., torch.nn.Module]
    detection_loss: Callable[..., Any]
    make_anchors: Callable[..., tuple[torch.Tensor, torch.Tensor]]
    gains: Any
    descriptions: Path

    def describe(self, family: str, scale: str) -> dict[str, Any]:
        """Its description of a network.

        Args:
            family: Such as ``11/yolo11``.
            scale: How deep and wide it is: ``n``, ``s``.
        """
        text = (self.descriptions / f"{family}.yaml").read_text(encoding="utf-8")
        return {**yaml.safe_load(text), "scale": scale}


@functools.cache
def import_ultralytics() -> Ultralytics:
    """Imports the package without what else it does.

    Raises:
        BenchError: If something that it needs is missing.
    """
    try:
        with _kept_as_it_is():
            import ultralytics
            from ultralytics.nn.tasks import DetectionModel
            from ultralytics.utils import DEFAULT_CFG
            from ultralytics.utils.loss import v8DetectionLoss
            from ultralytics.utils.tal import make_anchors
    except ImportError as error:
        raise BenchError(
            f"ultralytics must be installed with what it needs, it cannot be imported ({error}): "
            "pip install --no-deps -r requirements-yolo.txt"
        ) from error
    folder = Path(ultralytics.__file__).parent / "cfg" / "models"
    return Ultralytics(DetectionModel, v8DetectionLoss, make_anchors, DEFAULT_CFG, folder)


@contextlib.contextmanager
def _kept_as_it_is() -> Iterator[None]:
    """Keeps environment, printing, warnings and torch.save, whatever is imported meanwhile."""
    before, save = dict(os.environ), torch.save
    with (
        tempfile.TemporaryDirectory() as folder,
        np.printoptions(),
        warnings.catch_warnings(),
    ):
        os.environ.update(_QUIET | {_SETTINGS_FOLDER: folder})
        try:
            yield
        finally:
            torch.save = save
            torch.set_printoptions(profile="default")
            os.environ.clear()
            os.environ.update(before)
