"""What a file of a vision transformer holds, read from the names and shapes of its tensors.

Known are the names of facebookresearch/dino, dinov2 and dinov3, which EM-DINO and others that were
trained by their code have too, alone or below a prefix (``vit.``, ``backbone.``). What is told by
no tensor is what all published ones have: heads of 64 numbers, unless DINOv3's periods say others.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from bench.models.foundation.encoders import FREE_GRID, ROTARY_BASE, add_colours

_CLASS, _POSITIONS, _PERIODS = "cls_token", "pos_embed", "rope_embed.periods"
_PATCH = "patch_embed.proj.weight"
_REGISTERS = ("register_tokens", "storage_tokens")
_HEAD_NUMBERS = 64
# What such a file may hold its tensors in; a teacher is the better of both.
_WITHIN = ("teacher", "model", "state_dict", "student")
# Where a training was cut for many GPUs, blocks have the number of their piece before their own.
_CHUNK = re.compile(r"^blocks\.\d+\.(\d+)\.")
_BLOCK = re.compile(r"^blocks\.(\d+)\.")
# What only a training needs, or only a whole image has.
_UNUSED = re.compile(
    r"mask_token|(local_)?cls_norm\..*|head\..*|.*\.attn\.qkv\.bias_mask|rope_embed\.periods"
)
# How a gated layer is named in files, and in timm.
_GATED_LEARNED = {".mlp.w12.": ".mlp.fc1.", ".mlp.w3.": ".mlp.fc2."}
_GATED_ROTARY = {".mlp.w1.": ".mlp.fc1_g.", ".mlp.w2.": ".mlp.fc1_x.", ".mlp.w3.": ".mlp.fc2."}
_SCALES = {".ls1.gamma": ".gamma_1", ".ls2.gamma": ".gamma_2"}
# By how much a period may differ from what its place says.
_PERIOD_TOLERANCE = 1e-4


class LayoutError(ValueError):
    """Says what is in a file that no transformer known here has, as the end of a sentence."""


@dataclass(frozen=True, eq=False)
class FoundEncoder:
    """A transformer of a file.

    Attributes:
        kind: What it is, for people.
        arguments: For build_encoder.
        weights: Tensors by the names that it then has.
    """

    kind: str
    arguments: dict[str, Any]
    weights: dict[str, torch.Tensor]


def read_encoder(content: Any) -> FoundEncoder:
    """Finds the transformer in the content of a file.

    Raises:
        LayoutError: If it holds none, or one with something that is not known here.
    """
    tensors = _find_tensors(content)
    width, _, patch_px, across_px = tensors[_PATCH].shape
    if patch_px != across_px:
        raise LayoutError(f"has patches of {patch_px} x {across_px} px, which are not square")
    numbers = {int(m[1]) for name in tensors if (m := _BLOCK.match(name))}
    if not numbers:
        raise LayoutError("has no tensors named blocks.N")
    rotary = _PERIODS in tensors
    registers = next((tensors[name].shape[1] for name in _REGISTERS if name in tensors), 0)
    gated = "blocks.0.mlp.w3.weight" in tensors
    out = tensors.get(f"blocks.0.mlp.{'w3' if gated else 'fc2'}.weight")
    if out is None:
        raise LayoutError("has no tensor blocks.0.mlp.fc2.weight, nor blocks.0.mlp.w3.weight")
    periods = len(tensors[_PERIODS]) if rotary else 0
    head = 4 * periods or _HEAD_NUMBERS
    if width % head:
        raise LayoutError(f"has tokens of {width} numbers, which heads of {head} do not divide")
    arguments: dict[str, Any] = {
        "width": width,
        "blocks": max(numbers) + 1,
        "heads": width // head,
        "patch_px": patch_px,
        "grid": FREE_GRID if rotary else _read_grid(tensors),
        "registers": registers,
        "hidden": out.shape[1],
        "gated": gated,
        "scaled": "blocks.0.ls1.gamma" in tensors,
        "qkv_bias": "blocks.0.attn.qkv.bias" in tensors,
    }
    if rotary:
        _check_periods(tensors[_PERIODS])
        arguments["periods"] = periods
    name_tensors = _name_rotary if rotary else _name_learned
    version = "DINOv3" if rotary else "DINOv2" if arguments["scaled"] else "DINO"
    kind = f"a transformer as {version}'s of {arguments['blocks']} blocks, patches of {patch_px} px"
    return FoundEncoder(kind, arguments, add_colours(name_tensors(tensors)))


def _find_tensors(content: Any) -> dict[str, torch.Tensor]:
    """The tensors of the transformer by their names, without what comes before these."""
    for name in _WITHIN:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping):
        raise LayoutError("holds no tensors by name")
    prefixes = [str(name).removesuffix(_CLASS) for name in content if str(name).endswith(_CLASS)]
    if not prefixes:
        some = ", ".join(sorted(map(str, content))[:3])
        raise LayoutError(f"has no tensor {_CLASS}; the first are {some}")
    prefix = min(prefixes, key=len)
    found = {}
    for name, tensor in content.items():
        if str(name).startswith(prefix) and isinstance(tensor, torch.Tensor):
            found[_CHUNK.sub(r"blocks.\1.", str(name).removeprefix(prefix))] = tensor
    if _PATCH not in found or found[_PATCH].ndim != 4:
        raise LayoutError(f"has no tensor {_PATCH} of kernels")
    if _PERIODS not in found and _POSITIONS not in found:
        raise LayoutError(f"has neither {_POSITIONS} nor {_PERIODS}")
    return found


def _read_grid(tensors: Mapping[str, torch.Tensor]) -> int:
    positions = tensors[_POSITIONS].shape[1] - 1
    side = math.isqrt(positions)
    if side**2 != positions:
        raise LayoutError(f"has {positions} positions beside the class, which are no square")
    return side


def _check_periods(periods: torch.Tensor) -> None:
    """Raises LayoutError where positions are not turned as they are in DINOv3."""
    places = torch.arange(len(periods), dtype=torch.float64) / len(periods)
    expected = ROTARY_BASE**places
    if not torch.allclose(periods.double(), expected, rtol=_PERIOD_TOLERANCE, atol=0):
        raise LayoutError(f"has {_PERIODS} other than powers of {ROTARY_BASE:g}")


def _name_learned(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Names as timm's; the class's position is added to it, as only it has that."""
    found = {}
    for name, tensor in tensors.items():
        if not _UNUSED.fullmatch(name):
            found[_rename(name, _GATED_LEARNED | {"register_tokens": "reg_token"})] = tensor
    positions = found[_POSITIONS]
    found[_CLASS] = found[_CLASS] + positions[:, :1]
    found[_POSITIONS] = positions[:, 1:]
    return found


def _name_rotary(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Names as timm's, whose keys have no bias: DINOv3 multiplies theirs by zero."""
    found: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if _UNUSED.fullmatch(name):
            continue
        if name.endswith(".attn.qkv.bias"):
            tensor = tensor * tensors.get(f"{name}_mask", torch.ones_like(tensor)).to(tensor)
            queries, keys, values = tensor.chunk(3)
            if keys.any():
                raise LayoutError(f"has biases of keys in {name}, which DINOv3's are without")
            stem = name.removesuffix("qkv.bias")
            found |= {f"{stem}q_bias": queries, f"{stem}v_bias": values}
            continue
        found[_rename(name, _GATED_ROTARY | _SCALES | {"storage_tokens": "reg_token"})] = tensor
    return found


def _rename(name: str, names: Mapping[str, str]) -> str:
    for old, new in names.items():
        name = name.replace(old, new)
    return name
