"""The loss of SAM's interactive training, with gradients that are taken prompt by prompt.

micro_sam prompts each object several times, after the first where its last mask was wrong, and
goes back through all of that at once. What a prompt's masks tell the next prompt has no gradient:
each can be gone back through as soon as its loss is known, for a few objects at a time. The sum is
the same, the memory that of a few objects, and small arrays are quick.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from bench.inference.sam.decoder import PromptDecoder, upsampling

# Tokens of the image that objects gone through together have: on a CPU few enough for its caches,
# 5 objects at SAM's own size; on a GPU 25, enough to be at work.
_TOGETHER_ON_CPU, _TOGETHER = 5 * 64**2, 25 * 64**2
_PROMPTS = ("boxes", "point_coords", "point_labels", "mask_inputs")


def prompted_loss(
    trainer: Any,
    features: torch.Tensor,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    at_once: bool = False,
) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss of micro_sam's interactive training on a batch.

    Prompts are drawn by micro_sam, from the global random states of Python, numpy and torch.

    Args:
        trainer: micro_sam's trainer, whose iteration decides between points and boxes.
        features: Embeddings of the images (batch, channels, y, x), with or without gradient.
        images: (batch, 3, y, x), from 0 to 255.
        labels: Instances (batch, 1, y, x).
        at_once: Whether to go back only when the loss is, which takes the memory of all prompts.

    Returns:
        The loss, a scalar with gradients, and its parts: mask_loss, of the masks' Dice, and
        iou_loss, of the IoU that SAM expects.
    """
    positive, negative, boxes, ambiguous = trainer._get_prompt_and_multimasking_choices(
        trainer._iteration
    )
    asked, chosen = trainer.convert_inputs(
        images, labels, positive, negative, boxes, trainer.n_objects_per_batch
    )
    asked, wanted = trainer._preprocess_batch(asked, labels, chosen)
    sam = trainer.model.sam
    rows, columns = _interpolations(trainer.model, features, images.shape[-2:])
    decoders = [PromptDecoder(sam, each[None]) for each in features]
    gradients = None if at_once or not torch.is_grad_enabled() else _Gradients(sam, decoders)
    parts = torch.zeros(3, device=features.device)
    turns = trainer.n_sub_iteration
    for turn in range(turns):
        found = []
        for decoder, inputs, objects in zip(decoders, asked, wanted, strict=True):
            answers = _ask(sam, decoder, inputs, len(objects), several=ambiguous and turn == 0)
            masks = []
            for part, decoded in answers:
                low = decoded["low_res_masks"]
                decoded["masks"] = rows.to(low) @ low @ columns.T.to(low)
                losses = torch.stack(trainer._compute_loss([decoded], objects[None, part]))
                losses = losses * (len(objects[part]) / len(objects) / len(wanted) / turns)
                if gradients is not None:
                    gradients.add(losses[0])
                parts = parts + (losses if gradients is None else losses.detach())
                masks.append({name: value.detach() for name, value in decoded.items()})
            found.append({name: torch.cat([each[name] for each in masks]) for name in masks[0]})
        if turn + 1 < turns:
            expected = torch.stack([each["iou_predictions"] for each in found])
            best, logits = trainer._get_best_masks(found, expected)
            asked = trainer._update_prompts(asked, wanted, best, logits, None)
    loss, mask, iou = parts
    numbers = {"mask_loss": float(mask.detach()), "iou_loss": float(iou.detach())}
    return (loss if gradients is None else gradients.give(loss)), numbers


def fed_size(model: Any, shape: Sequence[int]) -> tuple[int, int]:
    """Height and width to which micro_sam's model resizes an image (y, x)."""
    height, width = model.transform.get_preprocess_shape(*shape, model.transform.target_length)
    return height, width


def _interpolations(
    model: Any, features: torch.Tensor, shape: Sequence[int]
) -> Iterator[torch.Tensor]:
    """What logits are multiplied with along y and x for masks of the image's shape (y, x)."""
    whole = model.sam.image_encoder.img_size
    for grid, fed, size in zip(features.shape[-2:], fed_size(model, shape), shape, strict=True):
        yield upsampling(4 * grid, whole, fed, size).to(features.device)


def _ask(
    sam: Any, decoder: PromptDecoder, inputs: dict[str, Any], objects: int, *, several: bool
) -> Iterator[tuple[slice, dict[str, torch.Tensor]]]:
    """What SAM makes of the prompts of an image's objects, some at a time, and of which."""
    tokens = _TOGETHER_ON_CPU if sam.device.type == "cpu" else _TOGETHER
    together = max(1, tokens // math.prod(decoder.grid))
    for start in range(0, objects, together):
        part = slice(start, start + together)
        yield part, _decode(sam, decoder, inputs, part, several=several)


def _decode(
    sam: Any, decoder: PromptDecoder, inputs: dict[str, Any], part: slice, *, several: bool
) -> dict[str, torch.Tensor]:
    """What SAM makes of the prompts of some objects, under micro_sam's names."""
    given = {name: inputs[name][part].to(sam.device) for name in _PROMPTS if name in inputs}
    points = (given["point_coords"], given["point_labels"]) if "point_coords" in given else None
    masks = given.get("mask_inputs")
    sparse, dense = sam.prompt_encoder(points=points, boxes=given.get("boxes"), masks=masks)
    logits, expected = decoder.decode_all(
        sparse, None if masks is None else dense, multimask=several
    )
    return {"low_res_masks": logits, "iou_predictions": expected}


class _Gradients:
    """Gradients of a sum of losses, taken one after the other.

    What the prompts of an image share is replaced by leaves: it is gone back through once.
    """

    def __init__(self, sam: Any, decoders: Sequence[PromptDecoder]) -> None:
        pairs = []
        for decoder in decoders:
            leaves = {name: each.detach() for name, each in decoder.shared.items()}
            # Of what nothing is asked, nothing is computed.
            for name, each in decoder.shared.items():
                if each.requires_grad:
                    pairs.append((each, leaves[name].requires_grad_()))
            decoder.shared = leaves
        own = [*sam.prompt_encoder.parameters(), *sam.mask_decoder.parameters()]
        trained = [parameter for parameter in own if parameter.requires_grad]
        self._given = [*trained, *(s for s, _ in pairs)]
        self._taken = [*trained, *(leaf for _, leaf in pairs)]
        self._sums: list[torch.Tensor | None] = [None] * len(self._taken)

    def add(self, loss: torch.Tensor) -> None:
        """Goes back through a loss; nowhere, if nothing of SAM is trained."""
        if not self._taken:
            return
        found = torch.autograd.grad(loss, self._taken, allow_unused=True)
        for number, gradient in enumerate(found):
            if gradient is not None:
                before = self._sums[number]
                # In fp32: they are a few hundred.
                self._sums[number] = gradient.float() if before is None else before + gradient

    def give(self, value: torch.Tensor) -> torch.Tensor:
        """The sum of the losses, from which a step goes back as through any other."""
        known = [
            (given, gradient)
            for given, gradient in zip(self._given, self._sums, strict=True)
            if gradient is not None
        ]
        if not known:
            return value
        given, gradients = zip(*known, strict=True)
        loss: torch.Tensor = _Known.apply(value, gradients, *given)  # type: ignore[no-untyped-call]
        return loss


class _Known(torch.autograd.Function):
    """A value whose gradients are known."""

    @staticmethod
    def forward(
        ctx: Any, value: torch.Tensor, gradients: Sequence[torch.Tensor], *_: torch.Tensor
    ) -> torch.Tensor:
        """Takes the value, its gradients, and what they are of."""
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        """Hands the gradients out."""
        return None, None, *(outer[0] * gradient for gradient in ctx.gradients)
