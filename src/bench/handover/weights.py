"""The weights of a model in the formats of bioimage.io: plain tensors, and TorchScript."""

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from bench.core.files import write_text, write_whole
from bench.core.hashing import file_sha256
from bench.handover.architectures import ARCHITECTURES
from bench.handover.blended import BlendedNetwork
from bench.handover.contents import HandoverModel
from bench.inference.converted import explain_conversion
from bench.models.unet2d import replace_modules, without_own_kernels

_TENSORS, SCRIPT_FILE, _SOURCE = "weights.pt", "weights_torchscript.pt", "architecture.py"
_ENVIRONMENT = "environment.yaml"
STATE_DICT, TORCHSCRIPT = "pytorch_state_dict", "torchscript"


def describe_file(folder: Path, name: str) -> dict[str, Any]:
    """A file as a description names it."""
    return {"source": name, "sha256": file_sha256(folder / name)}


def write_weights(
    folder: Path, model: HandoverModel, networks: Sequence[torch.nn.Module]
) -> dict[str, Any]:
    """Writes the weights, and returns what the description says of them.

    Args:
        folder: Where they are written.
        model: The models.
        networks: Each of them, on the CPU.

    Raises:
        BenchError: If TorchScript cannot hold a network.
    """
    version = torch.__version__.partition("+")[0]
    described: dict[str, Any] = {}
    if model.plain and model.info.architecture in ARCHITECTURES:
        described[STATE_DICT] = _write_tensors(folder, model, networks[0], version)
    _write_script(folder / SCRIPT_FILE, model, networks)
    script = {**describe_file(folder, SCRIPT_FILE), "pytorch_version": version}
    if described:
        script["parent"] = STATE_DICT
    return {**described, TORCHSCRIPT: script}


def _write_tensors(
    folder: Path, model: HandoverModel, network: torch.nn.Module, version: str
) -> dict[str, Any]:
    row = ARCHITECTURES[model.info.architecture]
    tensors = {name: t.detach().contiguous() for name, t in network.state_dict().items()}
    write_whole(folder / _TENSORS, lambda path: torch.save(tensors, path))
    architecture: dict[str, Any] = {
        "callable": row.callable,
        "kwargs": row.arguments(model.info.arguments),
    }
    described: dict[str, Any] = {**describe_file(folder, _TENSORS), "pytorch_version": version}
    if row.library:
        architecture["import_from"] = row.library
        versions = [f"{name}=={importlib.metadata.version(name)}" for name in row.packages]
        _write_environment(folder / _ENVIRONMENT, version, versions)
        described["dependencies"] = describe_file(folder, _ENVIRONMENT)
    else:
        write_text(folder / _SOURCE, row.read_file())
        architecture |= describe_file(folder, _SOURCE)
    return {**described, "architecture": architecture}


def _write_environment(path: Path, version: str, packages: Sequence[str]) -> None:
    dependencies = ["python>=3.11", f"pytorch=={version}", *packages]
    content = {"name": path.stem, "channels": ["conda-forge"], "dependencies": dependencies}
    write_text(path, yaml.safe_dump(content, sort_keys=False))


def _write_script(path: Path, model: HandoverModel, networks: Sequence[torch.nn.Module]) -> None:
    """Traces the models on noise: what depends on the values it sees shows on the test image."""
    module = _as_module(model, [_make_portable(network) for network in networks])
    noise = np.random.default_rng(0).normal(size=(1, 1, model.window_px, model.window_px))
    example = torch.from_numpy(noise.astype(np.float32))
    fault = f"a network is handed over as TorchScript, {model.info.architecture} cannot be"
    with explain_conversion(fault, "give run_id of another model"):
        traced: Any = torch.jit.trace(module, example, check_trace=False)
        if model.has_trees:
            traced = torch.jit.script(_OneByOne(traced))
        write_whole(path, lambda temporary: torch.jit.save(traced, str(temporary)))


class _OneByOne(torch.nn.Module):
    """Windows one after the other, for a network that was traced for one: pixels are its batch."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.network(windows[i : i + 1]) for i in range(windows.size(0))])


def _make_portable(network: torch.nn.Module) -> torch.nn.Module:
    """A copy of a network that has nothing but operations of torch's."""
    # With them comes numba, which other networks do without.
    from bench.models.pixels.trees import BoostedTrees, PortableTrees

    portable = without_own_kernels(network)
    replace_modules(portable, BoostedTrees, PortableTrees)
    return portable.eval()


def _as_module(model: HandoverModel, networks: Sequence[torch.nn.Module]) -> torch.nn.Module:
    if model.plain:
        return networks[0]
    return BlendedNetwork(
        networks,
        model.recipe.blend,
        foregrounds=model.foregrounds,
        boundaries=model.boundaries,
        classes=[bool(info.classes) for info in model.infos],
    ).eval()
