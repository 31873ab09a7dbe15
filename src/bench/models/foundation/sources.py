"""Transformers of others as a source: ``timm:NAME``, and ``dino:FILE``.

Nothing is brought along or fetched: of what ``timm:NAME`` needs, the hub's own cache on this
machine is asked, and ours. Nothing in the files is run.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from bench.core.files import describe_absence
from bench.core.hashing import file_sha256
from bench.errors import BenchError, MissingFileError, nearest_name
from bench.models.checkpoint import ModelInfo, load_weights
from bench.models.foreign import convert_once
from bench.models.foundation.encoders import FREE_GRID, add_colours, build_encoder
from bench.models.foundation.foundation_features import build_foundation_features
from bench.models.foundation.layouts import FoundEncoder, LayoutError, read_encoder
from bench.models.networks import find_network
from bench.models.pickles import read_inert
from bench.words import OurNetworks

_TIMM, _DINO = "timm:", "dino:"
FOUNDATION_SCHEMES = (_TIMM, _DINO)
# Of the hub that timm fetches from: the file of a model.
_FILE = "model.safetensors"
# What a network classifies images with.
_HEADS = ("head.", "head_dist.")
_EXAMPLES = (
    "dinov2_vits14_pretrain.pth of facebookresearch/dinov2 (Apache 2.0), "
    "dinov3_vits16_pretrain_lvd1689m-08c60483.pth of facebookresearch/dinov3 (the DINOv3 License, "
    "asked for on its page) or backbone_emdino_v1.pt of pku-maleilab/omniem-package (EM-DINO; the "
    "licence of the weights is not stated)"
)


def convert_foundation(source: str, *, folder: Path) -> Path:
    """Converts the weights of a source to our checkpoint, once; the next time it is only found.

    Args:
        source: ``timm:NAME`` or ``dino:FILE``.
        folder: Where converted models are kept; files for timm are looked for beside it.

    Returns:
        Path of the checkpoint's weights: of a network without trees.

    Raises:
        BenchError: If the file is missing, damaged or of another network.
    """
    if source.startswith(_TIMM):
        return _convert_timm(source.removeprefix(_TIMM), folder)
    return _convert_dino(Path(source.removeprefix(_DINO)), folder)


def _convert_dino(path: Path, folder: Path) -> Path:
    if not path.is_file():
        raise MissingFileError(
            f"{_DINO}FILE must name a vision transformer of DINO, DINOv2, DINOv3 or EM-DINO, "
            f"received {path}, {describe_absence(path)}: put there {_EXAMPLES}; nothing of them is "
            "brought along or fetched",
            model="a vision transformer",
            files=((_EXAMPLES, str(path)),),
        )
    sha256 = file_sha256(path)

    def convert() -> tuple[torch.nn.Module, ModelInfo]:
        content = load_weights(path) if path.suffix == ".safetensors" else read_inert(path)
        try:
            found = read_encoder(content)
            return _fill(found, sha256, f"{found.kind} ({path.name})")
        except (LayoutError, RuntimeError) as error:
            raise _refuse(path, error) from error

    return convert_once(folder / f"{sha256}-dino.safetensors", path, convert)


def _refuse(path: Path, error: Exception) -> BenchError:
    reason = str(error)
    if not isinstance(error, LayoutError):
        # torch lists all tensors that do not fit, a line each.
        lines = reason.splitlines()
        reason = (
            f"does not fit what its tensors say ({lines[min(1, len(lines) - 1)].strip()[:200]})"
        )
    return BenchError(
        f"{_DINO}FILE must hold the tensors of a vision transformer by the names of "
        f"facebookresearch/dino, dinov2 or dinov3, {path} {reason}: take {_EXAMPLES}"
    )


def _fill(found: FoundEncoder, sha256: str, what: str) -> tuple[torch.nn.Module, ModelInfo]:
    network = build_foundation_features(out_channels=1, encoder=found.arguments)
    arguments = {"out_channels": 1, "encoder": found.arguments}
    network.tokens.encoder.load_state_dict(found.weights)
    if not all(bool(torch.isfinite(tensor).all()) for tensor in found.weights.values()):
        raise LayoutError("has numbers that are not finite")
    tile_px, halo_px = find_network(OurNetworks.FOUNDATION_FEATURES).choices(arguments)[0]
    return network, ModelInfo(
        architecture=OurNetworks.FOUNDATION_FEATURES,
        arguments=arguments,
        outputs=(),
        structure="",
        input_pixel_size_nm=None,
        normalisation="section",
        tile_px=tile_px,
        halo_px=halo_px,
        training={"source_sha256": sha256, "encoder": what},
    )


def _convert_timm(name: str, folder: Path) -> Path:
    config = _find_published(name)
    path = _find_file(name, config, folder)
    sha256 = file_sha256(path)

    def convert() -> tuple[torch.nn.Module, ModelInfo]:
        arguments = _describe_timm(name)
        weights = load_weights(path)
        kept = {n: tensor for n, tensor in weights.items() if not n.startswith(_HEADS)}
        what = f"timm's {name}, {_licence_of(config)}"
        try:
            return _fill(FoundEncoder(what, arguments, add_colours(kept)), sha256, what)
        except (KeyError, LayoutError, RuntimeError) as error:
            raise BenchError(
                f"{path} must hold the weights of timm's {name}, it does not "
                f"({str(error).splitlines()[-1].strip()[:200]}): copy it again"
            ) from error

    return convert_once(folder / f"{sha256}-timm.safetensors", path, convert)


def _find_published(name: str) -> Mapping[str, Any]:
    """What timm says of the weights of a name."""
    import timm
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(name, allow_unregistered=False) if _is_known(name) else None
    if config is None or not config.hf_hub_id:
        known = [each for each in timm.list_pretrained("vit_*") if "dino" in each]
        nearest = nearest_name(name, timm.list_pretrained()) or known[0]
        raise BenchError(
            f"{_TIMM}NAME must be a model of which timm knows published weights, received {name}: "
            f"did you mean {nearest}? Others are {', '.join(known[:6])}"
        )
    return dataclasses.asdict(config)


def _is_known(name: str) -> bool:
    from timm.models import is_model

    return bool(is_model(name))


def _licence_of(config: Mapping[str, Any]) -> str:
    return f"licence {config.get('license') or 'not stated'}"


def _find_file(name: str, config: Mapping[str, Any], folder: Path) -> Path:
    """The file of a name in our cache, or in that of the hub from which timm fetches it."""
    from huggingface_hub import try_to_load_from_cache

    own = folder.parent / "timm" / f"{name}.safetensors"
    if own.is_file():
        return own
    hub = str(config["hf_hub_id"])
    hub = f"{hub}{config['architecture']}.{config['tag']}" if hub.endswith("/") else hub
    cached = try_to_load_from_cache(hub, config.get("hf_hub_filename") or _FILE)
    if isinstance(cached, str) and cached.endswith(".safetensors"):
        return Path(cached)
    address = f"{_FILE} of {hub} on the Hugging Face hub"
    raise MissingFileError(
        f"{_TIMM}{name} needs {address} ({_licence_of(config)}), which is neither in the hub's "
        f"cache on this machine nor at {own}: fetch it elsewhere and put it there, or give "
        f"source={_DINO}FILE of a transformer that you have",
        model=f"timm's {name}",
        files=((address, str(own)),),
    )


def _describe_timm(name: str) -> dict[str, Any]:
    """The arguments of a transformer by its name, without making its weights.

    Raises:
        BenchError: If it is none that gives a token for each patch of one size.
    """
    import timm
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer

    with torch.device("meta"):
        model = timm.create_model(name, num_classes=0)
    if not isinstance(model, VisionTransformer | Eva):
        raise BenchError(
            f"{_TIMM}NAME must be a vision transformer, {name} is a {type(model).__name__}: choose "
            "one whose name begins with vit_, as vit_small_patch14_dinov2.lvd142m"
        )
    size_px = int(model.patch_embed.img_size[0])
    if model.pos_embed is None:
        size_px = FREE_GRID * int(model.patch_embed.patch_size[0])
    # What timm calls it without the name of its weights.
    arguments = {"timm": name.partition(".")[0], "size_px": size_px}
    with torch.device("meta"):
        build_encoder(arguments)
    return arguments
