"""Vision transformers, built by timm of what a checkpoint says of them, for grey sections.

A section is grey: it is the same in all three colours that such a transformer was trained on, so
that the kernels of its first layer are added up, and it takes one channel.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

# Side of a window in patches where positions are turned into angles, and any side will do.
FREE_GRID = 32
_FIRST = "patch_embed.proj.weight"
# What LayerNorm adds under its root: DINOv2's, and DINOv3's.
_LEARNED_EPS, _ROTARY_EPS = 1e-6, 1e-5
# What stands for weights that will be loaded: any number makes room for the scales of layers.
_SCALED = 1e-5
# The longest period of DINOv3's angles, and what widths of gated layers are multiples of.
ROTARY_BASE, _GATED_MULTIPLE = 100.0, 8


def build_encoder(arguments: Mapping[str, Any]) -> torch.nn.Module:
    """Builds a transformer that takes windows (batch, 1, y, x) of one size.

    Args:
        arguments: ``timm``, a name of timm's, and ``size_px``; or what
            bench.models.foundation.layouts reads of a file.
    """
    import timm

    if "timm" in arguments:
        found: torch.nn.Module = timm.create_model(
            arguments["timm"], num_classes=0, in_chans=1, img_size=arguments["size_px"]
        )
        return found
    return _build_rotary(**arguments) if "periods" in arguments else _build_learned(**arguments)


def _build_learned(
    *,
    width: int,
    blocks: int,
    heads: int,
    patch_px: int,
    grid: int,
    registers: int,
    hidden: int,
    gated: bool,
    scaled: bool,
    qkv_bias: bool,
) -> torch.nn.Module:
    """One whose positions are learned, as DINO's and DINOv2's."""
    from timm.layers.mlp import SwiGLUPacked
    from timm.layers.norm import LayerNorm
    from timm.models.vision_transformer import VisionTransformer

    layers = 2 * hidden if gated else hidden
    gate: dict[str, Any] = {"mlp_layer": SwiGLUPacked, "act_layer": torch.nn.SiLU} if gated else {}
    return VisionTransformer(
        **_shared(width, blocks, heads, patch_px, grid, layers),
        reg_tokens=registers,
        # Registers have no position; that of the class is added to it when it is read.
        no_embed_class=True,
        init_values=_SCALED if scaled else None,
        qkv_bias=qkv_bias,
        norm_layer=partial(LayerNorm, eps=_LEARNED_EPS),
        **gate,
    )


def _build_rotary(
    *,
    width: int,
    blocks: int,
    heads: int,
    patch_px: int,
    grid: int,
    registers: int,
    hidden: int,
    gated: bool,
    scaled: bool,
    qkv_bias: bool,
    periods: int,
) -> torch.nn.Module:
    """One whose positions turn queries and keys, as DINOv3's."""
    from timm.layers.norm import LayerNorm
    from timm.models.eva import Eva

    return Eva(
        **_shared(width, blocks, heads, patch_px, grid, hidden),
        num_reg_tokens=registers,
        use_abs_pos_emb=False,
        use_rot_pos_emb=True,
        rope_type="dinov3",
        rope_temperature=ROTARY_BASE,
        rope_rotate_half=True,
        init_values=_SCALED if scaled else None,
        qkv_bias=qkv_bias,
        swiglu_mlp=gated,
        swiglu_align_to=_GATED_MULTIPLE if gated else 0,
        norm_layer=partial(LayerNorm, eps=_ROTARY_EPS),
    )


def _shared(
    width: int, blocks: int, heads: int, patch_px: int, grid: int, hidden: int
) -> dict[str, Any]:
    return {
        "img_size": grid * patch_px,
        "patch_size": patch_px,
        "in_chans": 1,
        "num_classes": 0,
        "global_pool": "",
        "embed_dim": width,
        "depth": blocks,
        "num_heads": heads,
        # timm cuts the product of both to a whole number.
        "mlp_ratio": (hidden + 0.5) / width,
    }


def add_colours(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of a transformer of one channel, in single precision, of those of one of colours."""
    found = {name: tensor.float() for name, tensor in weights.items()}
    found[_FIRST] = found[_FIRST].sum(1, keepdim=True)
    return found


def patch_tokens(encoder: Any, windows: torch.Tensor) -> torch.Tensor:
    """The tokens of the patches of windows (batch, 1, y, x): (batch, rows, columns, numbers)."""
    rows, columns = _grid_of(encoder)
    tokens: torch.Tensor = encoder.forward_features(windows)
    kept = tokens[:, int(encoder.num_prefix_tokens) :]
    return kept.reshape(len(windows), rows, columns, -1)


def _grid_of(encoder: Any) -> tuple[int, int]:
    rows, columns = encoder.patch_embed.grid_size
    return int(rows), int(columns)


def geometry_of(encoder: Any) -> tuple[int, int, int]:
    """The side of a window in patches, that of a patch in px, and the numbers of a token."""
    return _grid_of(encoder)[0], int(encoder.patch_embed.patch_size[0]), int(encoder.embed_dim)
