"""SAM's mask decoder for many prompts on one image: what prompts share is computed once.

The decoder of Segment Anything projects all tokens of the image for every prompt anew. Before the
first prompt changes them they are the same for all prompts; later the few tokens of a prompt are
projected instead of the thousands of the image, which is the same product in another order. Of
the masks that the decoder could give only the one that is kept is computed; training takes all
that micro_sam scores.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class _Head:
    """Weights of an attention between tokens of a prompt and of the image, by head.

    Attributes:
        image: Of what projects the image's tokens (heads, width, features).
        image_bias: Its bias (heads, width).
        heads: Number of heads.
        scale: What a product of query and key is multiplied with.
    """

    image: torch.Tensor
    image_bias: torch.Tensor
    heads: int
    scale: float

    @classmethod
    def of(cls, layer: torch.nn.Linear, heads: int) -> "_Head":
        """Splits a projection into its heads."""
        weight = layer.weight.view(heads, -1, layer.in_features)
        return cls(weight, layer.bias.view(heads, -1), heads, 1 / math.sqrt(weight.shape[1]))

    def project(self, tokens: torch.Tensor) -> torch.Tensor:
        """Projects tokens (n, features) that are the same for all prompts: (heads, width, n)."""
        projected: torch.Tensor = self.image @ tokens.T + self.image_bias[..., None]
        return projected

    def logits(
        self, tokens: torch.Tensor, image: torch.Tensor, position: torch.Tensor
    ) -> torch.Tensor:
        """Scaled products of projected tokens with the image's tokens, which are not projected.

        Args:
            tokens: Of the prompts, projected and by head (prompts, heads, tokens, width).
            image: The image's tokens as each prompt sees them (prompts, n, features).
            position: Their positions, projected (heads, width, n).

        Returns:
            (prompts, heads, tokens, n).
        """
        scaled = tokens * self.scale
        folded = (scaled @ self.image).flatten(1, 2)
        of_position = (scaled @ position).flatten(1, 2)
        found = torch.baddbmm(of_position, folded, image.transpose(1, 2))
        return found.view(len(tokens), self.heads, -1, found.shape[-1])


def _split(tokens: torch.Tensor, heads: int) -> torch.Tensor:
    """(prompts, tokens, features) by head: (prompts, heads, tokens, width)."""
    return tokens.view(*tokens.shape[:2], heads, -1).transpose(1, 2)


def _look_at_shared(
    attention: Any, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    """Attention of tokens to an image that is the same for all prompts, projected beforehand."""
    asked = _split(attention.q_proj(queries), attention.num_heads)
    weights = torch.softmax(asked @ keys / math.sqrt(asked.shape[-1]), dim=-1)
    found = weights @ values.transpose(-1, -2)
    told: torch.Tensor = attention.out_proj(found.transpose(1, 2).flatten(2))
    return told


def _look_at(
    attention: Any, queries: torch.Tensor, image: torch.Tensor, position: torch.Tensor
) -> torch.Tensor:
    """Attention of tokens to the image as each prompt sees it; values are projected last."""
    key, value = (_Head.of(p, attention.num_heads) for p in (attention.k_proj, attention.v_proj))
    asked = _split(attention.q_proj(queries), attention.num_heads)
    weights = torch.softmax(key.logits(asked, image, position), dim=-1)
    seen = (weights.flatten(1, 2) @ image).unflatten(1, (attention.num_heads, -1))
    found = seen @ value.image.transpose(-1, -2) + value.image_bias[:, None]
    told: torch.Tensor = attention.out_proj(found.transpose(1, 2).flatten(2))
    return told


def _answer(
    attention: Any, weights: torch.Tensor, values: torch.Tensor, image: torch.Tensor
) -> torch.Tensor:
    """Adds to the image's tokens what they took from a prompt's (weights over its tokens)."""
    heads = attention.num_heads
    out = attention.out_proj.weight.view(-1, heads, values.shape[-1] // heads)
    told = (_split(values, heads) @ out.permute(1, 2, 0)).flatten(1, 2)
    # The weights of each head add up to 1.
    told = told + attention.out_proj.bias / heads
    return torch.baddbmm(image, weights.flatten(1, 2).transpose(1, 2), told)


class PromptDecoder:
    """The decoder of a SAM with what all prompts on one image share.

    Attributes:
        grid: Height and width of the embedding.
        shared: What is computed once: the image's tokens and what they are projected to, by name,
            and their projected positions, by projection. Training puts leaves in their places, so
            that it goes back through them once for many prompts.
    """

    def __init__(self, sam: Any, features: torch.Tensor) -> None:
        """Computes what is shared.

        Args:
            sam: The Segment Anything model.
            features: Embedding of the image (1, channels, y, x), on the model's device.
        """
        self._decoder, encoder = sam.mask_decoder, sam.prompt_encoder
        self.grid = features.shape[-2:]
        bare = features.flatten(2)[0].T.contiguous()
        position = encoder.get_dense_pe().flatten(2)[0].T.contiguous()
        image = bare + encoder.no_mask_embed.weight
        here = image + position
        transformer = self._decoder.transformer
        first = transformer.layers[0]
        into, back = first.cross_attn_token_to_image, first.cross_attn_image_to_token
        self.shared: dict[str | torch.nn.Module, torch.Tensor] = {
            "bare": bare,
            "image": image,
            "keys": _Head.of(into.k_proj, into.num_heads).project(here),
            "values": _Head.of(into.v_proj, into.num_heads).project(image),
            "asked": _Head.of(back.q_proj, back.num_heads).project(here),
        }
        for attention, projection in _projections_of_positions(transformer):
            head = _Head.of(projection, attention.num_heads)
            self.shared[projection] = head.project(position)

    def decode(self, sparse: torch.Tensor, *, multimask: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Decodes prompts, and of each the mask that SAM expects to be best.

        Args:
            sparse: Their embeddings (prompts, tokens, channels).
            multimask: Whether to choose among the masks for ambiguous prompts, and not to take the
                one for unambiguous prompts.

        Returns:
            Logits (prompts, 4 y, 4 x), and the IoU that SAM expects (prompts).
        """
        queries, image = self._transform(sparse, None)
        expected, first = self._expect(queries, multimask=multimask)
        scores, chosen = expected.max(dim=1)
        chosen = chosen + first
        wanted = queries.new_empty(len(queries), self._decoder.transformer_dim // 8)
        for mask in chosen.unique().tolist():
            wanted[chosen == mask] = self._hyper(queries[chosen == mask], mask)
        return self._upscale(image, wanted[:, None])[:, 0], scores

    def decode_all(
        self, sparse: torch.Tensor, dense: torch.Tensor | None, *, multimask: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decodes prompts into all masks of a kind, as SAM's own decoder does.

        Args:
            sparse: Their embeddings (prompts, tokens, channels).
            dense: Embeddings of masks among the prompts (prompts, channels, y, x); None without.
            multimask: Whether to give the masks for ambiguous prompts, and not the one for
                unambiguous prompts.

        Returns:
            Logits (prompts, masks, 4 y, 4 x), and the IoU that SAM expects (prompts, masks).
        """
        queries, image = self._transform(sparse, dense)
        expected, first = self._expect(queries, multimask=multimask)
        wanted = [self._hyper(queries, first + mask) for mask in range(expected.shape[1])]
        return self._upscale(image, torch.stack(wanted, dim=1)), expected

    def _expect(self, queries: torch.Tensor, *, multimask: bool) -> tuple[torch.Tensor, int]:
        """The IoU that SAM expects of the masks of a kind, and the number of the first."""
        first, last = (1, self._decoder.num_mask_tokens) if multimask else (0, 1)
        return self._decoder.iou_prediction_head(queries[:, 0])[:, first:last], first

    def _hyper(self, queries: torch.Tensor, mask: int) -> torch.Tensor:
        """What the pixels of a mask are multiplied with (prompts, channels)."""
        found: torch.Tensor = self._decoder.output_hypernetworks_mlps[mask](queries[:, 1 + mask])
        return found

    def _transform(
        self, sparse: torch.Tensor, dense: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Lets tokens and image look at each other, as the two-way transformer does."""
        image = self.shared["image"]
        if dense is not None:
            image = self.shared["bare"] + dense.flatten(2).transpose(1, 2)
        own = torch.cat([self._decoder.iou_token.weight, self._decoder.mask_tokens.weight])
        tokens = torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)
        queries, transformer = tokens, self._decoder.transformer
        for number, layer in enumerate(transformer.layers):
            if number == 0:
                queries = layer.norm1(layer.self_attn(queries, queries, queries))
            else:
                asking = queries + tokens
                queries = layer.norm1(queries + layer.self_attn(asking, asking, queries))
            into, asking = layer.cross_attn_token_to_image, queries + tokens
            if image.ndim == 2:
                found = _look_at_shared(into, asking, self.shared["keys"], self.shared["values"])
            else:
                found = self._look(into, asking, image)
            queries = layer.norm2(queries + found)
            queries = layer.norm3(queries + layer.mlp(queries))
            image = layer.norm4(self._ask(layer.cross_attn_image_to_token, queries, tokens, image))
        found = self._look(transformer.final_attn_token_to_image, queries + tokens, image)
        return transformer.norm_final_attn(queries + found), image

    def _look(self, attention: Any, asking: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        return _look_at(attention, asking, image, self.shared[attention.k_proj])

    def _ask(
        self, attention: Any, queries: torch.Tensor, tokens: torch.Tensor, image: torch.Tensor
    ) -> torch.Tensor:
        """Lets the image look at the tokens; the same for all prompts while it has two axes."""
        heads = attention.num_heads
        keys = _split(attention.k_proj(queries + tokens), heads)
        if image.ndim == 2:
            found = keys @ self.shared["asked"] / math.sqrt(keys.shape[-1])
        else:
            position = self.shared[attention.q_proj]
            found = _Head.of(attention.q_proj, heads).logits(keys, image, position)
        weights = torch.softmax(found, dim=2)
        return _answer(attention, weights, attention.v_proj(queries), image)

    def _upscale(self, image: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Logits of masks (prompts, masks, 4 y, 4 x), whose pixels are multiplied with `wanted`.

        Transposed convolutions of stride 2 are products.
        """
        first, norm, act, second, _ = self._decoder.output_upscaling
        pixels = _double(image, first)
        pixels = act(
            functional.layer_norm(pixels, pixels.shape[-1:], norm.weight, norm.bias, norm.eps)
        )
        pixels = act(_double(pixels.flatten(1, 2), second)).flatten(1, 2)
        height, width = self.grid
        # In this order, so that gradients lie in memory as what they are of.
        logits: torch.Tensor = pixels @ wanted.transpose(1, 2)
        logits = logits.unflatten(1, (height, width, 2, 2, 2, 2)).permute(0, 7, 1, 3, 5, 2, 4, 6)
        return logits.reshape(len(wanted), -1, 4 * height, 4 * width)


def _projections_of_positions(transformer: Any) -> list[tuple[Any, torch.nn.Linear]]:
    """Attentions, and what they project the image's tokens with, wherever their position counts."""
    found = []
    for layer in transformer.layers:
        into, back = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
        found += [(into, into.k_proj), (back, back.q_proj)]
    last = transformer.final_attn_token_to_image
    return [*found, (last, last.k_proj)]


def _double(pixels: torch.Tensor, layer: torch.nn.ConvTranspose2d) -> torch.Tensor:
    """Makes four of every pixel (prompts, n, channels): (prompts, n, 4, channels)."""
    weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)
    assert layer.bias is not None
    doubled = functional.linear(pixels, weight, layer.bias.repeat(4))
    return doubled.view(*pixels.shape[:2], 4, -1)


def upsampling(logits: int, model_px: int, fed_px: int, image_px: int) -> torch.Tensor:
    """What logits along an axis are multiplied with for an image: SAM's interpolations in one.

    Args:
        logits: How many there are along the axis.
        model_px: Edge to which the model pads its image, and to which logits are interpolated.
        fed_px: What of it is image.
        image_px: The image's own size, to which that is interpolated.

    Returns:
        (image_px, logits), which take the place of ``postprocess_masks``.
    """
    whole = functional.interpolate(
        torch.eye(logits)[:, None], model_px, mode="linear", align_corners=False
    )
    part = functional.interpolate(whole[..., :fed_px], image_px, mode="linear", align_corners=False)
    return part[:, 0].T.contiguous()
