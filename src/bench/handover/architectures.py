"""Networks that other programs can build for themselves, to load plain weights into."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.words import OurNetworks


def _as_they_are(arguments: dict[str, Any]) -> dict[str, Any]:
    return arguments


def _torch_em_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in arguments.items() if name != "features"}
    return {**kept, "initial_features": arguments["features"], "final_activation": None}


def _smp_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    channels = {"in_channels": 1, "classes": arguments["out_channels"]}
    return {"encoder_name": "resnet50", "encoder_weights": None, **channels}


@dataclass(frozen=True)
class _Architecture:
    """How a network is built without this suite.

    Attributes:
        callable: The class or function that is called.
        arguments: From our arguments to its own.
        library: The module that has it; empty where a file of ours does.
        module: Our module whose file has it, and imports torch alone.
        packages: The distributions of a library, as conda and pip name them.
    """

    callable: str
    arguments: Callable[[dict[str, Any]], dict[str, Any]] = _as_they_are
    library: str = ""
    module: str = ""
    packages: tuple[str, ...] = ()

    def read_file(self) -> str:
        """The text of the file that has it."""
        path = importlib.import_module(self.module).__file__
        assert path is not None
        return Path(path).read_text(encoding="utf-8")


# A network that is not here is handed over as TorchScript alone.
ARCHITECTURES: Mapping[str, _Architecture] = {
    OurNetworks.UNET2D: _Architecture(
        "UNet2d", _torch_em_arguments, library="torch_em.model", packages=("torch_em",)
    ),
    OurNetworks.UNET_RESIDUAL: _Architecture(
        "build_unet_residual", module="bench.models.unet_residual"
    ),
    OurNetworks.UNET_RESNET50: _Architecture(
        "Unet",
        _smp_arguments,
        library="segmentation_models_pytorch",
        packages=("segmentation_models_pytorch",),
    ),
}
