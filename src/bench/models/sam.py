"""Segment Anything as a network of ours: the only importer of its classes.

micro_sam finds a network by the name of its size. Here its shape is read from the tensors, so
that every checkpoint builds, the tiny ones of tests too.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from bench.core.files import write_binary
from bench.errors import BenchError
from bench.models.unet2d import keep_layout, replace_modules

SAM, DECODER = "sam.", "instance_decoder."
_ENCODER = f"{SAM}image_encoder."
# What only MobileSAM's image encoder has.
_TINY_VIT = f"{_ENCODER}patch_embed.seq.0.c.weight"
# What Segment Anything fixes for its networks of all sizes.
_NECK_CHANNELS, _PROMPT_LAYERS, _PROMPT_MLP, _PROMPT_HEADS, _MASK_CHANNELS = 256, 2, 2048, 8, 16
_PIXEL_MEAN, _PIXEL_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
# micro_sam's decoder predicts foreground, distance to the centre, and to the boundary.
_DECODER_CHANNELS = 3
_DEFAULT_WINDOW = 14
# What micro_sam puts in place of a matrix. The attention of a detector beside a SAM has others.
_LORA_PARTS = ("qkv_proj.", "w_a_linear_", "w_b_linear_")


class SamNetwork(torch.nn.Module):
    """SAM, and micro_sam's decoder for automatic instance segmentation where there is one.

    It has no forward of its own: micro_sam's trainers and mask generators use its parts.

    Attributes:
        sam: The Segment Anything model.
        instance_decoder: The decoder; None without one.
    """

    def __init__(self, sam: Any, unetr: Any | None) -> None:
        """Takes both; the U-Net's encoder is that of SAM."""
        super().__init__()
        self.sam = sam
        self.instance_decoder: Any = None
        # In a tuple, so that its encoder is not a second time among the parameters.
        self._unetr = (unetr,)
        if unetr is not None:
            from micro_sam.instance_segmentation import DecoderAdapter

            self.instance_decoder = DecoderAdapter(unetr)

    @property
    def unetr(self) -> Any:
        """Encoder and decoder as one network, from images to the decoder's channels."""
        return self._unetr[0]


def build_sam(
    *,
    image_px: int,
    patch_px: int,
    depth: int,
    embed_dim: int,
    heads: int,
    mlp_dim: int,
    window: int,
    global_blocks: list[int],
    masks: int,
    decoder_features: int,
    transposed: bool,
) -> SamNetwork:
    """Builds SAM with random weights.

    Args:
        image_px: Edge to which every image is resized.
        patch_px: Edge of the image encoder's patches.
        depth: Blocks of the image encoder.
        embed_dim: Features of its blocks.
        heads: Attention heads of its blocks.
        mlp_dim: Hidden features of its blocks.
        window: Edge of a block's attention window, in patches.
        global_blocks: Blocks that attend to the whole image.
        masks: Masks predicted for an ambiguous prompt.
        decoder_features: Features of the decoder's finest level; 0 for no decoder.
        transposed: Whether the decoder upsamples by transposed convolutions.
    """
    from segment_anything import modeling

    grid = image_px // patch_px
    sam = modeling.Sam(
        image_encoder=modeling.ImageEncoderViT(
            img_size=image_px,
            patch_size=patch_px,
            depth=depth,
            embed_dim=embed_dim,
            num_heads=heads,
            mlp_ratio=mlp_dim / embed_dim,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            qkv_bias=True,
            use_rel_pos=True,
            window_size=window,
            global_attn_indexes=tuple(global_blocks),
            out_chans=_NECK_CHANNELS,
        ),
        prompt_encoder=modeling.PromptEncoder(
            embed_dim=_NECK_CHANNELS,
            image_embedding_size=(grid, grid),
            input_image_size=(image_px, image_px),
            mask_in_chans=_MASK_CHANNELS,
        ),
        mask_decoder=modeling.MaskDecoder(
            num_multimask_outputs=masks,
            transformer=modeling.TwoWayTransformer(
                depth=_PROMPT_LAYERS,
                embedding_dim=_NECK_CHANNELS,
                mlp_dim=_PROMPT_MLP,
                num_heads=_PROMPT_HEADS,
            ),
            transformer_dim=_NECK_CHANNELS,
            iou_head_depth=3,
            iou_head_hidden_dim=_NECK_CHANNELS,
        ),
        pixel_mean=list(_PIXEL_MEAN),
        pixel_std=list(_PIXEL_STD),
    )
    return SamNetwork(sam, _build_unetr(sam.image_encoder, decoder_features, transposed))


def _build_unetr(encoder: Any, features: int, transposed: bool) -> Any | None:
    if not features:
        return None
    from torch_em.model import UNETR
    from torch_em.model.unet import Upsampler2d

    # The range check refuses dark patches; our images are in range by construction.
    unetr = UNETR(
        backbone="sam",
        encoder=encoder,
        out_channels=_DECODER_CHANNELS,
        use_sam_stats=True,
        final_activation="Sigmoid",
        use_skip_connection=False,
        resize_input=True,
        use_conv_transpose=transposed,
        initial_features=features,
        perform_range_checks=False,
    )
    replace_modules(unetr, torch.nn.InstanceNorm2d, keep_layout)
    replace_modules(unetr, Upsampler2d, _Upsampler)
    return unetr


class _Upsampler(torch.nn.Module):
    """torch_em's upsampling, which mixes channels when there are four times as many pixels.

    A mean of pixels whose weights add up to 1 may be taken before or after channels are mixed.
    """

    def __init__(self, theirs: Any) -> None:
        """Takes the weights and settings of torch_em's."""
        super().__init__()
        self.conv, self._mode = theirs.conv, theirs.mode
        self._scale = float(theirs.scale_factor)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Mixes the channels of images (batch, channels, y, x), and enlarges what comes out."""
        return functional.interpolate(
            self.conv(image), scale_factor=self._scale, mode=self._mode, align_corners=False
        )


def derive_arguments(weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Reads the arguments of ``build_sam`` off the tensors of its network.

    A block's table of relative positions has 2 s - 1 rows for an attention window of s patches,
    and as many columns as a head has features.

    Raises:
        KeyError: If a tensor is missing.
    """
    projection = weights[f"{_ENCODER}patch_embed.proj.weight"]
    embed_dim, patch_px = projection.shape[0], projection.shape[2]
    grid = weights[f"{_ENCODER}pos_embed"].shape[1]
    tables: list[torch.Size] = []
    while f"{_ENCODER}blocks.{len(tables)}.norm1.weight" in weights:
        tables.append(weights[f"{_ENCODER}blocks.{len(tables)}.attn.rel_pos_h"].shape)
    spans = [(rows + 1) // 2 for rows, _ in tables]
    head = weights.get(f"{DECODER}out_conv.weight")
    return {
        "image_px": grid * patch_px,
        "patch_px": patch_px,
        "depth": len(tables),
        "embed_dim": embed_dim,
        "heads": embed_dim // tables[0][1],
        "mlp_dim": weights[f"{_ENCODER}blocks.0.mlp.lin1.weight"].shape[0],
        "window": min([span for span in spans if span != grid], default=_DEFAULT_WINDOW),
        "global_blocks": [block for block, span in enumerate(spans) if span == grid],
        "masks": weights[f"{SAM}mask_decoder.mask_tokens.weight"].shape[0] - 1,
        "decoder_features": 0 if head is None else head.shape[1],
        "transposed": any(
            name.startswith(f"{DECODER}decoder.samplers.") and ".block." in name for name in weights
        ),
    }


def merge_lora(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Adds micro_sam's low-rank updates to the matrices they belong to; others stay as they are.

    Args:
        weights: Tensors of a network whose attention has updates of queries, keys or values.

    Returns:
        Tensors of the plain network, which computes the same.
    """
    merged = {
        name: tensor
        for name, tensor in weights.items()
        if not name.partition(".attn.qkv.")[2].startswith(_LORA_PARTS)
    }
    for name, tensor in weights.items():
        block, _, part = name.partition(".attn.qkv.")
        if part == "qkv_proj.bias":
            merged[f"{block}.attn.qkv.bias"] = tensor
        if part == "qkv_proj.weight":
            matrix = tensor.clone()
            features = matrix.shape[1]
            for index, letter in enumerate("qkv"):
                low = f"{block}.attn.qkv.w_a_linear_{letter}.weight"
                high = f"{block}.attn.qkv.w_b_linear_{letter}.weight"
                if low in weights:
                    rows = slice(index * features, (index + 1) * features)
                    matrix[rows] += weights[high] @ weights[low]
            merged[f"{block}.attn.qkv.weight"] = matrix
    return merged


def add_lora(network: SamNetwork, rank: int) -> None:
    """Freezes the image encoder and gives its attention micro_sam's trainable low-rank updates."""
    from micro_sam.models.peft_sam import LoRASurgery, PEFT_Sam

    PEFT_Sam(network.sam, rank=rank, peft_module=LoRASurgery)


def load_sam(weights: Mapping[str, torch.Tensor]) -> tuple[SamNetwork, dict[str, Any]]:
    """Builds the network of tensors and puts them in; returns its arguments as well.

    Raises:
        BenchError: If they are not those of a SAM, or of another kind than the published ones.
    """
    if _TINY_VIT in weights:
        raise BenchError(
            "a SAM must have an image encoder ViT-B, ViT-L or ViT-H, received ViT-T, which needs "
            "the package MobileSAM: it is not on the package index, choose a vit_b model"
        )
    try:
        arguments = derive_arguments(weights)
        network = build_sam(**arguments)
        network.load_state_dict(dict(weights))
    except (KeyError, IndexError, RuntimeError, ZeroDivisionError) as error:
        reason = str(error).splitlines()[-1].strip()[:160]
        raise BenchError(
            f"a SAM must have the tensors of Segment Anything's ViT, received others ({reason}): "
            "choose a model of micro_sam's or a checkpoint trained from one"
        ) from error
    return network, arguments


def write_tiny_sam(
    path: Path,
    seed: int = 0,
    *,
    image_px: int = 256,
    decoder_features: int = 16,
    transposed: bool = False,
    frequency: float = 1.0,
) -> None:
    """Writes a SAM of few and random weights as micro_sam writes what it trained.

    For tests and the demo. ``decoder_features=0`` leaves the decoder out, and micro_sam's own
    classes expect 64. With ``transposed`` convolutions a token of 16 px becomes pixels at once,
    which interpolation has to learn in many more iterations. With a ``frequency`` of positions
    below SAM's it is learnt sooner where prompts are, and less exactly.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_sam(
            image_px=image_px,
            patch_px=16,
            depth=1,
            embed_dim=768,
            heads=12,
            mlp_dim=768,
            window=_DEFAULT_WINDOW,
            global_blocks=[0],
            masks=3,
            decoder_features=decoder_features,
            transposed=transposed,
        )
    network.sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix *= frequency
    write_sam_file(path, network.state_dict())


def write_sam_file(path: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Writes a SAM, with its decoder if it has one, as micro_sam writes what it trained."""
    content = {"model_state": {n: t for n, t in weights.items() if n.startswith(SAM)}}
    parts = {n.removeprefix(DECODER): t for n, t in weights.items() if n.startswith(DECODER)}
    if parts:
        content["decoder_state"] = parts
    # Given a path, torch.save would write the name of the file into it.
    write_binary(path, lambda file: torch.save(content, file))
