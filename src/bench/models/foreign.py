"""Models of torch_em and SynapseNet, read from their files and converted to our checkpoint."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.core.files import describe_absence, write_binary
from bench.core.hashing import file_sha256, json_sha256
from bench.errors import BenchError
from bench.models.checkpoint import ModelInfo, build_model, load_info, save_checkpoint
from bench.models.pickles import attributes_of, name_of, read_inert, read_trusted
from bench.models.synapsenet import FOREGROUND_BOUNDARY, TILES
from bench.models.unet2d import build_torch_em_unet2d
from bench.models.unet3d_torch_em import needed_planes
from bench.words import OurNetworks

log = logging.getLogger(__name__)
_UNETS = frozenset(
    f"torch_em.model.unet.{name}" for name in ("UNet2d", "AnisotropicUNet", "UNet3d")
)
# What such a U-Net is made of; with other parts, equal tensors would predict something else.
_PARTS = frozenset(
    [f"torch_em.model.unet.{name}" for name in ("Encoder", "Decoder")]
    + [f"torch_em.model.unet.{name}{n}d" for name in ("ConvBlock", "Upsampler") for n in (2, 3)]
    + [f"torch.nn.modules.conv.Conv{n}d" for n in (2, 3)]
    + [f"torch.nn.modules.instancenorm.InstanceNorm{n}d" for n in (2, 3)]
    + [f"torch.nn.modules.pooling.MaxPool{n}d" for n in (2, 3)]
    + [f"torch.nn.modules.container.{name}" for name in ("ModuleList", "Sequential")]
    + [f"torch.nn.modules.activation.{name}" for name in ("ReLU", "Sigmoid")]
)
# The class that a checkpoint names after a training on many GPUs.
_ON_MANY_GPUS = "torch_em.multi_gpu_training.DDP"
# Before the names of tensors, where a network was trained on many GPUs or compiled.
_PREFIXES = ("module.", "_orig_mod.")
_SIGMOID = (None, "Sigmoid", "torch.nn.modules.activation.Sigmoid")


@dataclass(frozen=True)
class _Content:
    """What a file holds: tensors by name, the name of the last activation, poolings (z, y, x)."""

    weights: dict[str, Any]
    activation: Any
    scale_factors: list[Any]


def _find_file(path: Path) -> Path:
    if path.is_file():
        return path
    for name in ("best.pt", "latest.pt"):
        if (path / name).is_file():
            return path / name
    if not path.is_dir():
        raise BenchError(
            f"a checkpoint must exist, received {path}, {describe_absence(path)}: check the path"
        )
    below = sorted(str(file.parent) for file in path.glob("**/best.pt"))[:9]
    raise BenchError(
        f"the folder of a torch_em checkpoint must hold best.pt or latest.pt, {path} does not: "
        + (f"choose one of {', '.join(below)}" if below else "check the path")
    )


def _read_checkpoint(file: Path, content: dict[Any, Any]) -> _Content:
    weights = content.get("model_state")
    if not isinstance(weights, dict):
        keys = ", ".join(sorted(map(str, content))[:9])
        raise _refuse(file, f"has the entries {keys} and no model_state")
    if "teacher_state" in content:
        log.info("%s holds a student and its teacher: the student is read", file)
    init = content.get("init")
    init = init if isinstance(init, dict) else {}
    settings = init.get("model_kwargs")
    kind = str(init.get("model_class"))
    if kind not in (*_UNETS, _ON_MANY_GPUS) or not isinstance(settings, dict):
        raise _refuse(file, f"holds a network of class {kind}")
    for key, value in settings.items():
        if key.endswith("_impl") and name_of(value) not in _PARTS:
            raise _refuse(file, f"has the {key} {name_of(value)}")
    if settings.get("postprocessing") is not None or settings.get("return_side_outputs"):
        raise _refuse(file, "has more than one output or a postprocessing")
    activation = settings.get("final_activation")
    for prefix in _PREFIXES:
        if all(str(name).startswith(prefix) for name in weights):
            weights = {str(name).removeprefix(prefix): t for name, t in weights.items()}
    return _Content(
        weights=weights,
        activation=activation if isinstance(activation, str | None) else name_of(activation),
        scale_factors=settings.get("scale_factors") or [2] * int(settings.get("depth", 0)),
    )


def _read_module(file: Path, module: Any) -> _Content:
    if name_of(module) not in _UNETS:
        raise _refuse(file, f"is a {name_of(module)}")
    attributes = attributes_of(module)
    children = attributes.get("_modules", {})
    if attributes.get("postprocessing") or children.get("postprocessing"):
        raise _refuse(file, "has a postprocessing")
    activation = children.get("final_activation", attributes.get("final_activation"))
    weights: dict[str, Any] = {}
    _collect_tensors(file, module, "", weights)
    poolers = attributes_of(attributes_of(children["encoder"])["_modules"]["poolers"])
    factors = [attributes_of(pooler)["kernel_size"] for pooler in poolers["_modules"].values()]
    return _Content(weights, None if activation is None else name_of(activation), factors)


def _collect_tensors(file: Path, module: Any, prefix: str, weights: dict[str, Any]) -> None:
    attributes = attributes_of(module)
    for values in (attributes["_parameters"], attributes["_buffers"]):
        weights.update({f"{prefix}{name}": t for name, t in values.items() if t is not None})
    for name, child in attributes["_modules"].items():
        if child is None:
            continue
        # The last activation has a check of its own, with a message of its own.
        if f"{prefix}{name}" != "final_activation" and name_of(child) not in _PARTS:
            raise _refuse(file, f"has a {name_of(child)} as {prefix}{name}")
        _collect_tensors(file, child, f"{prefix}{name}.", weights)


def _refuse(file: Path, reason: str) -> BenchError:
    return BenchError(
        f"a model must be a U-Net of torch_em from one channel to probabilities, {file} "
        f"{reason}: choose another"
    )


@dataclass(frozen=True)
class _ForeignModel:
    """A model of another program, as the builder of a row of NETWORKS makes it."""

    architecture: str
    ndim: int
    arguments: dict[str, Any]
    weights: dict[str, torch.Tensor]


def read_foreign(path: Path, *, trust: bool = False) -> _ForeignModel:
    """Reads a module file as SynapseNet publishes, or a checkpoint of torch_em.

    Args:
        path: The file, or the folder of a checkpoint, where ``best.pt`` comes before
            ``latest.pt``.
        trust: Run what the file says. Otherwise nothing in it is run, see bench.models.pickles.

    Returns:
        The model. It gives logits: the last Sigmoid has no tensors and is not part of it.

    Raises:
        BenchError: If the file is missing or damaged, names what no checkpoint does, or does not
            hold a U-Net of torch_em from one channel to probabilities.
    """
    file = _find_file(path)
    content = read_trusted(file) if trust else read_inert(file)
    try:
        if isinstance(content, dict):
            return _interpret(file, _read_checkpoint(file, content))
        return _interpret(file, _read_module(file, content))
    except BenchError:
        raise
    except Exception as error:  # Whatever a damaged or malicious file leads to.
        raise _refuse(file, f"is damaged ({type(error).__name__})") from error


def _interpret(file: Path, content: _Content) -> _ForeignModel:
    if content.activation not in _SIGMOID:
        raise _refuse(file, f"ends in a {content.activation} where a Sigmoid is needed")
    weights = content.weights
    if not all(isinstance(t, torch.Tensor) and t.is_floating_point() for t in weights.values()):
        raise _refuse(file, "has something else than numbers among its weights")
    try:
        first, last = weights["encoder.blocks.0.block.1.weight"], weights["out_conv.weight"]
    except KeyError as error:
        raise _refuse(file, f"has no tensor {error}") from error
    if first.shape[1] != 1:
        raise _refuse(file, f"takes {first.shape[1]} channels where sections have one")
    arguments = {"in_channels": 1, "out_channels": last.shape[0], "features": first.shape[0]}
    if first.ndim == 4:
        architecture = OurNetworks.UNET2D
        arguments["depth"] = len({n.split(".")[2] for n in weights if n.startswith("encoder.b")})
    else:
        architecture = OurNetworks.UNET3D_PLANES
        factors = [[f] * 3 if isinstance(f, int) else list(f) for f in content.scale_factors]
        arguments |= {"scale_factors": factors, "planes": needed_planes(factors)}
    _check_tensors(file, architecture, arguments, weights)
    weights = {name: tensor.float() for name, tensor in weights.items()}
    return _ForeignModel(architecture, first.ndim - 2, arguments, weights)


def _check_tensors(
    file: Path, architecture: str, arguments: dict[str, Any], weights: Mapping[str, torch.Tensor]
) -> None:
    with torch.device("meta"):
        expected = build_model(architecture, arguments).state_dict()
    for name in sorted(expected.keys() | weights.keys()):
        shapes = [tuple(t[name].shape) if name in t else None for t in (expected, weights)]
        if shapes[0] != shapes[1]:
            raise _refuse(file, f"has {name} of shape {shapes[1]} where it is {shapes[0]}")


def convert_foreign(
    path: Path,
    *,
    folder: Path,
    outputs: tuple[str, ...] | None = None,
    input_pixel_size_nm: float | None = None,
    tile_px: int | None = None,
    halo_px: int | None = None,
    trust: bool = False,
) -> Path:
    """Converts a model to our checkpoint, once; the next time it is only found.

    Args:
        path: As of read_foreign.
        folder: Where converted models are kept, under names with the SHA-256 of their files.
        outputs: Meaning of the output channels; the model may have fewer, the first ones. None:
            foreground and boundary, if it has two or one.
        input_pixel_size_nm: Pixel size that it was trained at; None if not known.
        tile_px: Edge of the tile that it is applied to, without halo; None: as TILES.
        halo_px: Width of the halo around a tile; None: as TILES.
        trust: As of read_foreign.

    Returns:
        Path of the checkpoint's weights.

    Raises:
        BenchError: As of read_foreign; if it has more channels than outputs; if the folder cannot
            be written to.
    """
    file = _find_file(path)
    sha256 = file_sha256(file)
    settings = json_sha256([outputs, input_pixel_size_nm, tile_px, halo_px])
    target = folder / f"{sha256}-{settings[:8]}.safetensors"

    def convert() -> tuple[torch.nn.Module, ModelInfo]:
        model = read_foreign(file, trust=trust)
        network = build_model(model.architecture, model.arguments)
        network.load_state_dict(model.weights)
        usual_tile_px, usual_halo_px = TILES[model.ndim]
        return network, ModelInfo(
            architecture=model.architecture,
            arguments=model.arguments,
            outputs=_name_outputs(file, outputs, model.arguments["out_channels"]),
            structure="",
            input_pixel_size_nm=input_pixel_size_nm,
            normalisation="section",
            tile_px=usual_tile_px if tile_px is None else tile_px,
            halo_px=usual_halo_px if halo_px is None else halo_px,
            training={"source_sha256": sha256},
        )

    return convert_once(target, file, convert)


def convert_once(
    target: Path, file: Path, convert: Callable[[], tuple[torch.nn.Module, ModelInfo]]
) -> Path:
    """Writes what a foreign file is converted to, unless it is there already.

    Args:
        target: The checkpoint's weights, in the folder of converted models.
        file: The foreign file.
        convert: Reads it as a network and what it is.

    Returns:
        The target.

    Raises:
        BenchError: Of ``convert``, or if the folder cannot be written to.
    """
    if _is_whole(target):
        return target
    network, info = convert()
    try:
        save_checkpoint(target, network, info)
    except OSError as error:
        raise BenchError(
            f"{target.parent} must be a folder that can be written to, received: {error}; set "
            "XDG_CACHE_HOME to a folder of yours"
        ) from error
    log.info("converted %s to %s", file, target)
    return target


def _is_whole(checkpoint: Path) -> bool:
    """Whether a converted model is there; one that was damaged is made again."""
    try:
        load_info(checkpoint)
    except BenchError:
        return False
    return True


def _name_outputs(file: Path, outputs: tuple[str, ...] | None, channels: int) -> tuple[str, ...]:
    """Names a model's output channels; where nothing is said and they are many, by number."""
    if outputs is None and channels > len(FOREGROUND_BOUNDARY):
        return tuple(f"channel_{number}" for number in range(channels))
    outputs = outputs or FOREGROUND_BOUNDARY
    if channels > len(outputs):
        raise _refuse(file, f"has {channels} output channels where {len(outputs)} are known")
    return outputs[:channels]


def write_synapsenet_file(
    path: Path, weights: Mapping[str, torch.Tensor], arguments: dict[str, Any]
) -> None:
    """Writes a 2D model as SynapseNet publishes: a pickled U-Net of torch_em with a Sigmoid.

    Equal weights give equal bytes.

    Args:
        path: The file.
        weights: Tensors of a ``unet2d``.
        arguments: Arguments of its builder.
    """
    network = build_torch_em_unet2d(**arguments, activation="Sigmoid")
    network.load_state_dict(dict(weights))
    # Given a path, torch.save would write the name of the file into it.
    write_binary(path, lambda file: torch.save(network, file))
