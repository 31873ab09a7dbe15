"""The files of torch_em: pickled modules, as SynapseNet publishes them, and checkpoints."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.models.pickles import attributes_of, name_of

log = logging.getLogger(__name__)

UNETS = frozenset(f"torch_em.model.unet.{name}" for name in ("UNet2d", "AnisotropicUNet", "UNet3d"))
# What such a U-Net is made of; with other parts, equal tensors would predict something else.
PARTS = frozenset(
    [f"torch_em.model.unet.{name}" for name in ("Encoder", "Decoder")]
    + [f"torch_em.model.unet.{name}{n}d" for name in ("ConvBlock", "Upsampler") for n in (2, 3)]
    + [f"torch.nn.modules.conv.Conv{n}d" for n in (2, 3)]
    + [f"torch.nn.modules.instancenorm.InstanceNorm{n}d" for n in (2, 3)]
    + [f"torch.nn.modules.pooling.MaxPool{n}d" for n in (2, 3)]
    + [f"torch.nn.modules.container.{name}" for name in ("ModuleList", "Sequential")]
    + [f"torch.nn.modules.activation.{name}" for name in ("ReLU", "Sigmoid")]
)
# The class that a checkpoint names after a training on many GPUs.
ON_MANY_GPUS = "torch_em.multi_gpu_training.DDP"
# Before the names of tensors, where a network was trained on many GPUs or compiled.
PREFIXES = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class Content:
    """What a file holds: tensors by name, the name of the last activation, poolings (z, y, x)."""

    weights: dict[str, Any]
    activation: Any
    scale_factors: list[Any]


def find_file(path: Path) -> Path:
    """Returns the file of a checkpoint that may be given as its folder."""
    if path.is_file():
        return path
    for name in ("best.pt", "latest.pt"):
        if (path / name).is_file():
            return path / name
    if not path.is_dir():
        raise BenchError(f"a checkpoint must exist, there is no {path}: check the path")
    below = sorted(str(file.parent) for file in path.glob("**/best.pt"))[:9]
    raise BenchError(
        f"the folder of a torch_em checkpoint must hold best.pt or latest.pt, {path} does not: "
        + (f"choose one of {', '.join(below)}" if below else "check the path")
    )


def read_checkpoint(file: Path, content: dict[Any, Any]) -> Content:
    """Finds the model in the checkpoint of a torch_em trainer."""
    weights = content.get("model_state")
    if not isinstance(weights, dict):
        keys = ", ".join(sorted(map(str, content))[:9])
        raise refuse(file, f"has the entries {keys} and no model_state")
    if "teacher_state" in content:
        log.info("%s holds a student and its teacher: the student is read", file)
    init = content.get("init")
    init = init if isinstance(init, dict) else {}
    settings = init.get("model_kwargs")
    kind = str(init.get("model_class"))
    if kind not in (*UNETS, ON_MANY_GPUS) or not isinstance(settings, dict):
        raise refuse(file, f"holds a network of class {kind}")
    strange = {key: name_of(value) for key, value in settings.items() if key.endswith("_impl")}
    for key, name in strange.items():
        if name not in PARTS:
            raise refuse(file, f"has the {key} {name}")
    if settings.get("postprocessing") is not None or settings.get("return_side_outputs"):
        raise refuse(file, "has more than one output or a postprocessing")
    activation = settings.get("final_activation")
    for prefix in PREFIXES:
        if all(str(name).startswith(prefix) for name in weights):
            weights = {str(name).removeprefix(prefix): t for name, t in weights.items()}
    return Content(
        weights=weights,
        activation=activation if isinstance(activation, str | None) else name_of(activation),
        scale_factors=settings.get("scale_factors") or [2] * int(settings.get("depth", 0)),
    )


def read_module(file: Path, module: Any) -> Content:
    """Finds the model in a pickled module."""
    if name_of(module) not in UNETS:
        raise refuse(file, f"is a {name_of(module)}")
    attributes = attributes_of(module)
    children = attributes.get("_modules", {})
    if attributes.get("postprocessing") or children.get("postprocessing"):
        raise refuse(file, "has a postprocessing")
    activation = children.get("final_activation", attributes.get("final_activation"))
    weights: dict[str, Any] = {}
    collect_tensors(file, module, "", weights)
    poolers = attributes_of(attributes_of(children["encoder"])["_modules"]["poolers"])
    factors = [attributes_of(pooler)["kernel_size"] for pooler in poolers["_modules"].values()]
    return Content(weights, None if activation is None else name_of(activation), factors)


def collect_tensors(file: Path, module: Any, prefix: str, weights: dict[str, Any]) -> None:
    """Collects the tensors of a pickled module and its children under their full names."""
    attributes = attributes_of(module)
    for values in (attributes["_parameters"], attributes["_buffers"]):
        weights.update({f"{prefix}{name}": t for name, t in values.items() if t is not None})
    for name, child in attributes["_modules"].items():
        if child is None:
            continue
        # The last activation has a check of its own, with a message of its own.
        if f"{prefix}{name}" != "final_activation" and name_of(child) not in PARTS:
            raise refuse(file, f"has a {name_of(child)} as {prefix}{name}")
        collect_tensors(file, child, f"{prefix}{name}.", weights)


def refuse(file: Path, reason: str) -> BenchError:
    """Builds the error for a file that holds something else than we can use."""
    return BenchError(
        f"a model must be a U-Net of torch_em from one channel to probabilities, {file} "
        f"{reason}: choose another"
    )
