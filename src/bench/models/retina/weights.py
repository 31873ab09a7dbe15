"""Weights that others publish for the networks of this room, converted to a checkpoint of ours.

``moco:FILE`` is the ResNet-50 that CEM500K's authors pretrained by MoCo v2, ``retina:FILE`` the
TransUNet that RETINA's authors pretrained by reconstruction. Neither states a licence that we could
verify, so that nothing of either is brought along or fetched. Nothing in the files is run.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.core.files import describe_absence
from bench.core.hashing import file_sha256
from bench.errors import BenchError, MissingFileError
from bench.models.checkpoint import ModelInfo, build_model
from bench.models.foreign import convert_once
from bench.models.networks import find_network
from bench.models.pickles import read_inert
from bench.words import CEM500K_MOMENTS, FIXED, OurNetworks

_QUERY, _HEAD = "module.encoder_q.", "fc."
_ON_MANY_GPUS = "module."
_POSITIONS = "transformer.embeddings.position_embeddings"
_LAYER = "transformer.encoder.layer."
# The head of a pretraining, and where ours is. Beside it is one that was never trained.
_IMAGES, _OURS = "FinalDecoder.conv1.", "segmentation_head.0."
# Numbers of a batch norm that say how often it was trained, which nothing here depends on.
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class _Published:
    """A file that is published.

    Attributes:
        scheme: What a source of it begins with.
        what: What it is, for people.
        file: Its name.
        place: Where it is.
        read: From its content to a network of ours, and what it is.
    """

    scheme: str
    what: str
    file: str
    place: str
    read: Callable[[Path, Any], tuple[torch.nn.Module, ModelInfo]]

    def refuse(self, path: Path, reason: str) -> BenchError:
        return BenchError(
            f"{self.scheme}FILE must be {self.what}, {path} {reason}: take {self.file} of "
            f"{self.place}"
        )


def convert_published(source: str, *, folder: Path) -> Path:
    """Converts the file of a source to our checkpoint, once; the next time it is only found.

    Args:
        source: ``moco:FILE`` or ``retina:FILE``.
        folder: Where converted models are kept.

    Returns:
        Path of the checkpoint's weights.

    Raises:
        BenchError: If the file is missing, damaged or of another network.
    """
    published = next(row for row in PUBLISHED_FILES if source.startswith(row.scheme))
    path = Path(source.removeprefix(published.scheme))
    if not path.is_file():
        raise MissingFileError(
            f"{published.scheme}FILE must name {published.what}, received {path}, "
            f"{describe_absence(path)}: put {published.file} of {published.place} there; its "
            "licence is not stated, so that it is not brought along here",
            model=published.what,
            files=((f"{published.place}: {published.file}", str(path)),),
        )
    sha256 = file_sha256(path)

    def convert() -> tuple[torch.nn.Module, ModelInfo]:
        content = read_inert(path)
        try:
            network, info = published.read(path, content)
        except BenchError:
            raise
        except Exception as error:  # Whatever a damaged or malicious file leads to.
            raise published.refuse(path, f"is damaged ({type(error).__name__})") from error
        info.training["source_sha256"] = sha256
        return network, info

    name = published.scheme.rstrip(":")
    return convert_once(folder / f"{sha256}-{name}.safetensors", path, convert)


def _check(
    published: _Published,
    path: Path,
    weights: Mapping[str, Any],
    expected: Mapping[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    """The tensors in fp32; refuses others than those expected, by name and shape."""
    counters = {name: t for name, t in expected.items() if name.endswith(_COUNTER)}
    found = {name: t for name, t in weights.items() if name not in counters}
    for name in sorted((expected.keys() - counters) | found.keys()):
        shapes = [tuple(t[name].shape) if name in t else None for t in (expected, found)]
        if shapes[0] != shapes[1]:
            raise published.refuse(path, f"has {name} of shape {shapes[1]} where it is {shapes[0]}")
    tensors = {name: found[name].float() for name in expected if name in found}
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise published.refuse(path, "has numbers that are not finite")
    return tensors | {name: torch.zeros((), dtype=torch.int64) for name in counters}


def _describe(
    architecture: str,
    arguments: dict[str, Any],
    outputs: tuple[str, ...],
    grey_scale: tuple[float, float],
) -> ModelInfo:
    tile_px, halo_px = find_network(architecture).choices(arguments)[0]
    return ModelInfo(
        architecture=architecture,
        arguments=arguments,
        outputs=outputs,
        structure="",
        input_pixel_size_nm=None,
        normalisation=FIXED,
        tile_px=tile_px,
        halo_px=halo_px,
        grey_scale=grey_scale,
    )


def _read_moco(path: Path, content: Any) -> tuple[torch.nn.Module, ModelInfo]:
    """The encoder of a U-Net.

    Where it takes colours, the kernels of its first layer are added up: a grey section is the same
    in each.
    """
    if not isinstance(content, dict) or not {"state_dict", "norms"} <= content.keys():
        raise _MOCO.refuse(path, "has no state_dict and norms")
    weights = {
        f"encoder.{name.removeprefix(_QUERY)}": tensor
        for name, tensor in content["state_dict"].items()
        if name.startswith(_QUERY) and not name.startswith(f"{_QUERY}{_HEAD}")
    }
    if not weights:
        raise _MOCO.refuse(path, f"has no tensors named {_QUERY}..")
    mean, deviation = (_as_number(norm) for norm in content["norms"])
    first = weights.get("encoder.conv1.weight")
    if first is not None and first.shape[1] == 3:
        weights["encoder.conv1.weight"] = first.sum(1, keepdim=True)
    network = build_model(OurNetworks.UNET_RESNET50, {"out_channels": 1})
    encoder = torch.nn.ModuleDict({"encoder": network.get_submodule("encoder")})
    encoder.load_state_dict(_check(_MOCO, path, weights, encoder.state_dict()))
    return encoder, _describe(OurNetworks.UNET_RESNET50, {}, (), (mean, deviation))


def _as_number(norm: Any) -> float:
    """A norm, of one channel or of colours, which are then all alike."""
    return float(norm[0] if isinstance(norm, list | tuple) else norm)


def _read_retina(path: Path, content: Any) -> tuple[torch.nn.Module, ModelInfo]:
    """A whole TransUNet, pretrained or, without a head of images, fine-tuned."""
    weights = content if isinstance(content, dict) else {}
    weights = {str(name).removeprefix(_ON_MANY_GPUS): t for name, t in weights.items()}
    if _POSITIONS not in weights:
        raise _RETINA.refuse(path, f"has no tensor {_POSITIONS}")
    pretrained = {name: t for name, t in weights.items() if name.startswith(_IMAGES)}
    if pretrained:
        weights = {
            name: t
            for name, t in weights.items()
            if name not in pretrained and not name.startswith(_OURS)
        }
        weights |= {name.replace(_IMAGES, _OURS): t for name, t in pretrained.items()}
    _, tokens, width = weights[_POSITIONS].shape
    numbers = {name.split(".")[3] for name in weights if name.startswith(_LAYER)}
    channels = int(weights[f"{_OURS}bias"].shape[0])
    arguments = {
        "width": int(width),
        "blocks": len(numbers),
        "grid": round(tokens**0.5),
        "out_channels": channels,
    }
    outputs = tuple(f"channel_{number}" for number in range(channels))
    if channels == 1:
        outputs = ("reconstruction",) if pretrained else ("foreground",)
    network = build_model(OurNetworks.TRANSUNET, arguments)
    network.load_state_dict(_check(_RETINA, path, weights, network.state_dict()))
    return network, _describe(OurNetworks.TRANSUNET, arguments, outputs, CEM500K_MOMENTS)


_MOCO = _Published(
    "moco:",
    "the ResNet-50 that CEM500K's authors pretrained",
    "cem500k_mocov2_resnet50_200ep.pth.tar",
    "doi 10.5281/zenodo.6453140",
    _read_moco,
)
_RETINA = _Published(
    "retina:",
    "the TransUNet that RETINA's authors pretrained",
    "pretrain_200.pt",
    "the folder that the README of BaderLab/RETINA calls pre-trained model",
    _read_retina,
)
PUBLISHED_FILES = (_MOCO, _RETINA)
