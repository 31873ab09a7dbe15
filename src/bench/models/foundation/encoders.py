"""Vision transformers, built by timm of what a checkpoint says of them, for grey sections.

A section is grey: it is the same in all three colours that such a transformer was trained on, so
that the kernels of its first layer are added up, and it takes one channel.
"""

from collections.abc import Mapping
from dataclasses import dataclass
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
    geometry = _Geometry(**arguments)
    return _build_rotary(geometry) if geometry.periods else _build_learned(geometry)


@dataclass(frozen=True)
class _Geometry:
    """What bench.models.foundation.layouts reads of a file; lengths in px, patches or numbers."""

    width: int
    blocks: int
    heads: int
    patch_px: int
    grid: int
    registers: int
    hidden: int
    gated: bool
    scaled: bool
    qkv_bias: bool
    # Of DINOv3's angles; 0 of one whose positions are learned.
    periods: int = 0

    def arguments(self, hidden: int) -> dict[str, Any]:
        """What timm's classes are called with, whatever their positions are."""
        return {
            "img_size": self.grid * self.patch_px,
            "patch_size": self.patch_px,
            "in_chans": 1,
            "num_classes": 0,
            "global_pool": "",
            "embed_dim": self.width,
            "depth": self.blocks,
            "num_heads": self.heads,
            # timm cuts the product of both to a whole number.
            "mlp_ratio": (hidden + 0.5) / self.width,
            "init_values": _SCALED if self.scaled else None,
            "qkv_bias": self.qkv_bias,
        }


def _build_learned(geometry: _Geometry) -> torch.nn.Module:
    """One whose positions are learned, as DINO's and DINOv2's."""
    from timm.layers.mlp import SwiGLUPacked
    from timm.layers.norm import LayerNorm
    from timm.models.vision_transformer import VisionTransformer

    gated, hidden = geometry.gated, geometry.hidden
    gate: dict[str, Any] = {"mlp_layer": SwiGLUPacked, "act_layer": torch.nn.SiLU} if gated else {}
    return VisionTransformer(
        **geometry.arguments(2 * hidden if gated else hidden),
        reg_tokens=geometry.registers,
        # Registers have no position; that of the class is added to it when it is read.
        no_embed_class=True,
        norm_layer=partial(LayerNorm, eps=_LEARNED_EPS),
        **gate,
    )


def _build_rotary(geometry: _Geometry) -> torch.nn.Module:
    """One whose positions turn queries and keys, as DINOv3's."""
    from timm.layers.norm import LayerNorm
    from timm.models.eva import Eva

    return Eva(
        **geometry.arguments(geometry.hidden),
        num_reg_tokens=geometry.registers,
        use_abs_pos_emb=False,
        use_rot_pos_emb=True,
        rope_type="dinov3",
        rope_temperature=ROTARY_BASE,
        rope_rotate_half=True,
        swiglu_mlp=geometry.gated,
        swiglu_align_to=_GATED_MULTIPLE if geometry.gated else 0,
        norm_layer=partial(LayerNorm, eps=_ROTARY_EPS),
    )


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
