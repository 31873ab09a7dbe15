"""SAM's mask decoder for many prompts on one image: what prompts share is computed once.

The decoder of Segment Anything projects all tokens of the image for every prompt anew. Before the
first prompt changes them they are the same for all prompts; later the few tokens of a prompt are
projected instead of the thousands of the image, which is the same product in another order. Of
the masks that the decoder could give only the one that is kept is computed.
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
    """

    def __init__(self, sam: Any, features: torch.Tensor) -> None:
        """Computes what is shared.

        Args:
            sam: The Segment Anything model.
            features: Embedding of the image (1, channels, y, x), on the model's device.
        """
        self._decoder, self._encoder = sam.mask_decoder, sam.prompt_encoder
        self.grid = features.shape[-2:]
        nothing = self._encoder.no_mask_embed.weight.view(1, -1, 1, 1)
        self._image = (features + nothing).flatten(2)[0].T.contiguous()
        self._position = self._encoder.get_dense_pe().flatten(2)[0].T.contiguous()
        transformer = self._decoder.transformer
        first = transformer.layers[0]
        here = self._image + self._position
        into, back = first.cross_attn_token_to_image, first.cross_attn_image_to_token
        self._keys = _Head.of(into.k_proj, into.num_heads).project(here)
        self._values = _Head.of(into.v_proj, into.num_heads).project(self._image)
        self._asked = _Head.of(back.q_proj, back.num_heads).project(here)

    def decode(self, sparse: torch.Tensor, *, multimask: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Decodes prompts.

        Args:
            sparse: Their embeddings (prompts, tokens, channels).
            multimask: Whether to take the best of the masks for ambiguous prompts, by the IoU
                that SAM expects, and not the mask for unambiguous ones.

        Returns:
            Logits (prompts, 4 y, 4 x), and the IoU that SAM expects (prompts).
        """
        decoder = self._decoder
        own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)
        queries, image = self._transform(tokens)
        expected = decoder.iou_prediction_head(queries[:, 0])
        first = 1 if multimask else 0
        last = decoder.num_mask_tokens if multimask else 1
        scores, chosen = expected[:, first:last].max(dim=1)
        return self._upscale(queries, image, chosen + first), scores

    def _transform(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Lets tokens and image look at each other, as the two-way transformer does."""
        transformer = self._decoder.transformer
        queries, image = tokens, self._image
        for number, layer in enumerate(transformer.layers):
            if number == 0:
                queries = layer.norm1(layer.self_attn(queries, queries, queries))
                asking = queries + tokens
                into = layer.cross_attn_token_to_image
                found = _look_at_shared(into, asking, self._keys, self._values)
            else:
                asking = queries + tokens
                queries = layer.norm1(queries + layer.self_attn(asking, asking, queries))
                into = layer.cross_attn_token_to_image
                found = self._look(into, queries + tokens, image)
            queries = layer.norm2(queries + found)
            queries = layer.norm3(queries + layer.mlp(queries))
            image = layer.norm4(self._ask(layer.cross_attn_image_to_token, queries, tokens, image))
        found = self._look(transformer.final_attn_token_to_image, queries + tokens, image)
        return transformer.norm_final_attn(queries + found), image

    def _look(self, attention: Any, asking: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        projected = attention.k_proj.weight @ self._position.T + attention.k_proj.bias[:, None]
        position = projected.unflatten(0, (attention.num_heads, -1))
        return _look_at(attention, asking, image, position)

    def _ask(
        self, attention: Any, queries: torch.Tensor, tokens: torch.Tensor, image: torch.Tensor
    ) -> torch.Tensor:
        """Lets the image look at the tokens; the same for all prompts while it has two axes."""
        heads = attention.num_heads
        keys = _split(attention.k_proj(queries + tokens), heads)
        if image.ndim == 2:
            found = keys @ self._asked / math.sqrt(keys.shape[-1])
        else:
            head = _Head.of(attention.q_proj, heads)
            found = head.logits(keys, image, head.project(self._position))
        weights = torch.softmax(found, dim=2)
        return _answer(attention, weights, attention.v_proj(queries), image)

    def _upscale(
        self, queries: torch.Tensor, image: torch.Tensor, chosen: torch.Tensor
    ) -> torch.Tensor:
        """Logits of one mask a prompt; transposed convolutions of stride 2 are products."""
        decoder = self._decoder
        wanted = queries.new_empty(len(queries), decoder.transformer_dim // 8)
        for mask in chosen.unique().tolist():
            wanted[chosen == mask] = decoder.output_hypernetworks_mlps[mask](
                queries[chosen == mask, 1 + mask]
            )
        first, norm, act, second, _ = decoder.output_upscaling
        pixels = _double(image, first)
        pixels = act(
            functional.layer_norm(pixels, pixels.shape[-1:], norm.weight, norm.bias, norm.eps)
        )
        pixels = act(_double(pixels.flatten(1, 2), second)).flatten(1, 2)
        logits: torch.Tensor = (pixels @ wanted[..., None]).view(-1, *self.grid, 2, 2, 2, 2)
        height, width = self.grid
        return logits.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, 4 * height, 4 * width)


def _double(pixels: torch.Tensor, layer: torch.nn.ConvTranspose2d) -> torch.Tensor:
    """Makes four of every pixel (prompts, n, channels): (prompts, n, 4, channels)."""
    weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)
    assert layer.bias is not None
    doubled = functional.linear(pixels, weight, layer.bias.repeat(4))
    return doubled.view(*pixels.shape[:2], 4, -1)
