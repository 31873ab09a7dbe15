"""A model on disk: weights in safetensors, and a JSON file that says what they are."""

import dataclasses
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from bench.core.files import write_json, write_whole
from bench.core.hashing import file_sha256
from bench.errors import BenchError
from bench.models.networks import find_function, find_network
from bench.models.outside.packages import check_packages
from bench.words import BACKGROUND, RECONSTRUCTION, OurNetworks

# torch is imported where there are weights, and not by all that ask what a model is.
if TYPE_CHECKING:
    import torch

_FORMAT = "synapse-bench-checkpoint"
_VERSION = 1
# Planes that a published 3D model sees at either end of its window, at least.
_HALO_PLANES = 8
# Left out of the description of a network that has none, which thus says what it always did.
_OF_SOME = ("tile_planes", "halo_planes", "input_section_nm", "grey_scale")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelInfo:
    """What a model is, apart from its weights.

    Attributes:
        architecture: Row of NETWORKS.
        arguments: Arguments of the row's builder.
        outputs: Meaning of every output channel, such as ``foreground``. Where the first is the
            background, the others are structures, and a pixel is one of all: a softmax.
        structure: The structure that it segments, or several (``join_structures``).
        input_pixel_size_nm: Pixel size that it was trained at; None if that was not known.
        normalisation: Of NORMALISATIONS, for a network that is applied tile by tile.
        tile_px: Edge of the tile that it is applied to, without halo. InstanceNorm makes the
            result depend on it, so it belongs to the model.
        halo_px: Width of the halo around a tile.
        tile_planes: Planes of that tile along z, of a network of volumes; None of sections.
        halo_planes: Width of the halo along z.
        input_section_nm: Distance of the planes that it was trained at; None if not known.
        grey_scale: Mean and deviation by which 8-bit sections are shifted and scaled, as shares of
            255, where ``normalisation`` is fixed; None otherwise.
        training: Facts for the reader: method, dataset, iteration, validation score.
        inference: Settings with which its output becomes instances, where the model has its own:
            those of the watershed, or of SAM's mask generation; ``smoothing_px``, the deviation of
            a Gaussian by which a volume is smoothed before it is normalised.
    """

    architecture: str
    arguments: dict[str, Any]
    outputs: tuple[str, ...]
    structure: str
    input_pixel_size_nm: float | None
    normalisation: str
    tile_px: int
    halo_px: int
    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    inference: dict[str, Any] = dataclasses.field(default_factory=dict)
    tile_planes: int | None = None
    halo_planes: int | None = None
    input_section_nm: float | None = None
    grey_scale: tuple[float, float] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The structures of which a pixel is one or none; empty where each output is on its own."""
        return self.outputs[1:] if self.outputs[:1] == (BACKGROUND,) else ()


def build_model(architecture: str, arguments: dict[str, Any]) -> "torch.nn.Module":
    """Builds the network of a row of NETWORKS, with random weights.

    Raises:
        BenchError: If a package is missing, or the row's function refuses the arguments.
    """
    row = find_network(architecture)
    check_packages(row)
    try:
        network: torch.nn.Module = find_function(row.build)(**arguments)
    except (TypeError, ValueError) as error:
        raise BenchError(
            f"network {architecture} must be built of the arguments {arguments}, its function says "
            f"{error}: change the settings that they come from, or its row"
        ) from error
    return network


def check_network(network: "torch.nn.Module", name: str, channels: int, edge: int) -> None:
    """Tries a network that comes from outside on an empty section or volume, before its training.

    Args:
        network: The network, on the CPU.
        name: Row of NETWORKS.
        channels: How many it must return.
        edge: Edge of the section, or of a patch of a volume, in px.

    Raises:
        BenchError: If it fails, or returns another shape.
    """
    import torch

    row = find_network(name)
    sides = (edge, edge) if row.dims == 2 else (row.patch_planes(edge), edge, edge)
    given, wanted = (1, 1, *sides), (1, channels, *sides)
    try:
        with torch.no_grad():
            found = f"returned the shape {tuple(network.eval()(torch.zeros(given)).shape)}"
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        found = f"failed ({error})"
    network.train()
    if found != f"returned the shape {wanted}":
        raise BenchError(
            f"network {name} must return logits of the shape {wanted} of "
            f"{'sections' if row.dims == 2 else 'volumes'} {given}, it {found}: correct it, or "
            "state in its row what multiple or size its inputs must have"
        )


def check_segments(info: ModelInfo, name: str) -> None:
    """Raises BenchError where a model was only pretrained: it has nothing to segment with.

    Args:
        info: What the model is.
        name: What it is called, for the message.
    """
    if info.outputs == RECONSTRUCTION:
        raise BenchError(
            f"a model must segment, {name} was pretrained and gives images back: run finetune with "
            "it as source, and take what that makes"
        )


def head_tensors(info: ModelInfo) -> set[str]:
    """The names of the tensors that make a model's outputs: those whose shape follows from them."""
    import torch

    with torch.device("meta"):
        one, two = (
            build_model(info.architecture, {**info.arguments, "out_channels": number})
            for number in (1, 2)
        )
    others = two.state_dict()
    return {name for name, t in one.state_dict().items() if t.shape != others[name].shape}


def save_checkpoint(path: Path, network: "torch.nn.Module", info: ModelInfo) -> None:
    """Writes ``path`` (.safetensors) and the JSON file of the same stem.

    The JSON file is written last and carries the SHA-256 of the weights, so a pair that does
    not belong together is noticed.
    """
    from safetensors.torch import save_file

    weights = {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}
    write_whole(path, lambda temporary: save_file(weights, temporary))
    head = {"format": _FORMAT, "version": _VERSION, "weights_sha256": file_sha256(path)}
    described = dataclasses.asdict(info)
    for name in _OF_SOME:
        if described[name] is None:
            del described[name]
    write_json(path.with_suffix(".json"), head | described)


def load_info(path: Path) -> ModelInfo:
    """Reads the JSON file that belongs to a weights file.

    Raises:
        BenchError: If it is missing, is no checkpoint of ours, or describes other weights.
    """
    description = path.with_suffix(".json")
    for needed in (path, description):
        if not needed.is_file():
            raise BenchError(
                f"a checkpoint is a .safetensors file and a .json file of the same name, "
                f"{needed} is missing: copy both"
            )
    content = _read_description(description)
    try:
        weights_sha256 = content.pop("weights_sha256")
        for name in ("outputs", "grey_scale"):
            if name in content:
                content[name] = tuple(content[name])
        info = ModelInfo(**content)
    except (KeyError, TypeError) as error:
        raise BenchError(
            f"{description} must say all about the model and no more, received a file that does "
            f"not ({error}): copy it again"
        ) from error
    if weights_sha256 != file_sha256(path):
        raise BenchError(f"{path} is not the weights file that {description} describes: copy both")
    return info


def _read_description(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BenchError(f"{path} is not readable JSON ({error}): copy it again") from error
    content = content if isinstance(content, dict) else {}
    found, version = content.pop("format", None), content.pop("version", None)
    if found != _FORMAT or version != _VERSION:
        raise BenchError(
            f"{path} must have format {_FORMAT!r} version {_VERSION}, received "
            f"{found!r} version {version!r}: use a checkpoint written by this release"
        )
    return content


def load_weights(path: Path) -> "dict[str, torch.Tensor]":
    """Reads the tensors of a safetensors file, by name."""
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise BenchError(f"{path} is not a whole safetensors file ({error})") from error


def load_checkpoint(path: Path) -> "tuple[torch.nn.Module, ModelInfo]":
    """Reads a model: the network with its weights, on the CPU, and what it is."""
    info = load_info(path)
    network = build_model(info.architecture, info.arguments)
    try:
        network.load_state_dict(load_weights(path))
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise BenchError(f"{path} does not fit its own description ({first})") from error
    return network, info


def load_volume_checkpoint(path: Path) -> "tuple[torch.nn.Module, ModelInfo]":
    """Reads a model for volumes: a published 3D model that is kept for sections sees planes again.

    Its tensors are those of the network of volumes. It was trained on voxels of one size along all
    axes, as synapse_net's registry says it, and its window has as many planes as its pooling needs.
    synapse_net scales a volume as a whole before it predicts it.

    Raises:
        BenchError: As of load_checkpoint; what is of sections is not refused here.
    """
    info = load_info(path)
    if info.architecture != OurNetworks.UNET3D_PLANES:
        return load_checkpoint(path)
    from bench.models.unet3d_torch_em import pool_planes

    pooling = pool_planes(info.arguments["scale_factors"])
    halo = -(-_HALO_PLANES // pooling) * pooling
    arguments = {name: value for name, value in info.arguments.items() if name != "planes"}
    network = build_model(OurNetworks.UNET3D_ANISOTROPIC, arguments)
    network.load_state_dict(load_weights(path))
    return network, dataclasses.replace(
        info,
        architecture=OurNetworks.UNET3D_ANISOTROPIC,
        arguments=arguments,
        normalisation="volume",
        tile_planes=2 * halo,
        halo_planes=halo,
        input_section_nm=info.input_pixel_size_nm,
    )


@dataclass(frozen=True)
class _Transfer:
    """How many of a network's tensors came from the source; the others keep random weights."""

    transferred: int
    total: int
    reinitialised: tuple[str, ...]


def transfer_weights(
    network: "torch.nn.Module", source: "dict[str, torch.Tensor]", part: tuple[str, ...] = ()
) -> _Transfer:
    """Copies every tensor of the same name and shape into the network, in place.

    A source with another number of outputs differs in ``out_conv.weight`` and ``out_conv.bias``
    only, so 44 of a U-Net's 46 tensors are kept, as in the paper.

    Args:
        network: The network.
        source: Tensors by name.
        part: How the names of those begin that are copied, all of which the source must have;
            empty copies what fits.

    Raises:
        BenchError: If fewer than half of the tensors fit, or not all of a part: the source is
            another network.
    """
    target = network.state_dict()
    wanted = {name: t for name, t in target.items() if name.startswith(part or "")}
    fitting = {
        name: source[name]
        for name, tensor in wanted.items()
        if name in source and source[name].shape == tensor.shape
    }
    if part and len(fitting) < len(wanted):
        raise BenchError(
            f"the source must have all that is transferred, {len(fitting)} of {len(wanted)} "
            f"tensors ({', '.join(part)}) fit: choose another source, or another part"
        )
    result = _Transfer(len(fitting), len(target), tuple(sorted(set(target) - set(fitting))))
    if not part and 2 * result.transferred < result.total:
        raise BenchError(
            f"the source must be the same network, only {result.transferred} of {result.total} "
            "tensors fit: choose another source, or set features to the source's"
        )
    network.load_state_dict(fitting, strict=False)
    log.info("transferred %d of %d tensors", result.transferred, result.total)
    return result
