"""Masks for boxes and points: many prompts on one image, in memory that does not grow with it.

micro_sam's ``batched_inference`` scales every prompt to 1024 px, whatever the size of the model,
and keeps all masks at the size of the image. Here prompts follow the model's own size, and a mask
has the size of its bounding box.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bench.core.pixels import stretch_contrast
from bench.errors import BenchError
from bench.inference.sam.decoder import PromptDecoder, upsampling
from bench.inference.sam.embeddings import KeptEncoder
from bench.inference.sam.windows import Box, Mask, place_windows, windows_around
from bench.models.sam import SamNetwork

# Prompts decoded at once, 30 MB each at SAM's size: what a CPU's cache holds is computed faster.
_BATCH = {"cpu": 4, "cuda": 32}


@dataclass(frozen=True, eq=False)
class Prompts:
    """What is asked for; one mask each.

    Attributes:
        boxes: x0, y0, x1, y1 of every prompt (n, 4) in px of the image; None without.
        points: x, y of the points of every prompt (n, k, 2) in px of the image; None without.
        point_labels: 1 inside the object, 0 outside of it (n, k).
    """

    boxes: np.ndarray | None = None
    points: np.ndarray | None = None
    point_labels: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Raises BenchError where they do not fit together."""
        shapes = [None if a is None else a.shape for a in (self.boxes, self.points)]
        labels = None if self.point_labels is None else self.point_labels.shape
        fits = (shapes[0] is None or shapes[0][1:] == (4,)) and (
            shapes[1] is None or (len(shapes[1]) == 3 and shapes[1][2] == 2)
        )
        same = len({shape[0] for shape in shapes if shape is not None}) == 1
        if not (fits and same and labels == (shapes[1] and shapes[1][:2])):
            raise BenchError(
                "prompts must be boxes (n, 4), points (n, k, 2) with labels (n, k), or both of "
                f"equal n, received boxes {shapes[0]}, points {shapes[1]}, labels {labels}"
            )

    def __len__(self) -> int:
        """Number of prompts."""
        given = self.points if self.boxes is None else self.boxes
        assert given is not None
        return len(given)

    def extents(self) -> np.ndarray:
        """Every prompt's box, or what its points span: x0, y0, x1, y1 (n, 4)."""
        if self.boxes is not None:
            return self.boxes
        assert self.points is not None
        return np.concatenate([self.points.min(axis=1), self.points.max(axis=1)], axis=1)

    def within(self, window: Box, chosen: np.ndarray) -> "Prompts":
        """Some of them in px of a window; boxes are cut at its border."""
        corner = np.array([window.x0, window.y0], dtype=np.float64)
        end = np.array([window.x1, window.y1]) - corner
        boxes, points, labels = (
            None if a is None else a[chosen] for a in (self.boxes, self.points, self.point_labels)
        )
        if boxes is not None:
            corners = (boxes.reshape(-1, 2, 2) - corner).clip(0, end)
            boxes = corners.reshape(-1, 4)
        return Prompts(boxes, None if points is None else points - corner, labels)


@torch.inference_mode()
def prompt_section(
    encoder: KeptEncoder,
    raw: np.ndarray,
    prompts: Prompts,
    *,
    tile_px: int,
    halo_px: int,
    multimask: bool = False,
) -> list[Mask]:
    """Finds the mask of every prompt on a section of any size.

    A prompt is answered in a window that holds its box whole (``windows_around``): one that is
    larger than a window has its own, which SAM sees at a smaller scale. A window without prompts
    is not embedded.

    Args:
        encoder: The network, on its device, and what is kept of it.
        raw: Section (y, x) of any bit depth.
        prompts: In px of the section.
        tile_px: Edge of a window without halo: the scale at which SAM sees, as in training.
        halo_px: Half of the overlap of two windows.
        multimask: As in ``prompt_window``.

    Returns:
        A mask for every prompt, in their order and in px of the section; of area 0 where SAM
        finds nothing.
    """
    image = stretch_contrast(raw)
    windows = place_windows(image.shape, tile_px=tile_px, halo_px=halo_px)
    asked: dict[Box, list[int]] = defaultdict(list)
    for number, window in enumerate(windows_around(prompts.extents(), windows, image.shape)):
        asked[window].append(number)
    found: dict[int, Mask] = {}
    for window, chosen in asked.items():
        embedding = encoder.embed(image[window.slices])
        inside = prompts.within(window, np.array(chosen))
        masks = prompt_window(encoder.network, embedding, inside, multimask=multimask)
        moved = (mask.move(window.y0, window.x0) for mask in masks)
        found |= dict(zip(chosen, moved, strict=True))
    return [found[index] for index in range(len(prompts))]


@torch.inference_mode()
def prompt_window(
    network: SamNetwork, embedding: dict[str, Any], prompts: Prompts, *, multimask: bool = False
) -> list[Mask]:
    """Finds the mask of every prompt on an image that is embedded.

    The masks are those of Segment Anything: logits above 0, upsampled to the image.

    Args:
        network: The network, on its device.
        embedding: As ``embed_window`` gives it.
        prompts: In px of the image, x from the left and y from the top.
        multimask: Whether to take the best of three masks by the IoU that SAM expects (for a
            single point, which is ambiguous), and not the one mask for clear prompts.

    Returns:
        A mask for every prompt, in their order; its score is the IoU that SAM expects. Where no
        pixel is above 0 it has no area.
    """
    sam = network.sam
    decoder = PromptDecoder(sam, embedding["features"].to(sam.device))
    scale = np.divide(embedding["input_size"], embedding["original_size"])[::-1]
    rows, columns = (
        _Upsampling(4 * grid, sam.image_encoder.img_size, fed, size)
        for grid, fed, size in zip(
            decoder.grid, embedding["input_size"], embedding["original_size"], strict=True
        )
    )
    masks = []
    batch = _BATCH[sam.device.type]
    for start in range(0, len(prompts), batch):
        sparse = _embed_prompts(sam, prompts, slice(start, start + batch), scale)
        logits, scores = decoder.decode(sparse, multimask=multimask)
        above = (logits - sam.mask_threshold).cpu()
        masks += [
            _cut_mask(low, rows, columns, float(score))
            for low, score in zip(above, scores.cpu(), strict=True)
        ]
    return masks


def _embed_prompts(sam: Any, prompts: Prompts, batch: slice, scale: np.ndarray) -> torch.Tensor:
    """Embeddings of some prompts (prompts, tokens, channels), scaled to the model's size."""

    def tensor(values: Any) -> torch.Tensor:
        return torch.as_tensor(np.asarray(values), dtype=torch.float32, device=sam.device)

    boxes = points = None
    if prompts.boxes is not None:
        boxes = tensor(prompts.boxes[batch] * np.tile(scale, 2))
    if prompts.points is not None and prompts.point_labels is not None:
        points = tensor(prompts.points[batch] * scale), tensor(prompts.point_labels[batch])
    sparse, _ = sam.prompt_encoder(points=points, boxes=boxes, masks=None)
    return torch.as_tensor(sparse)


class _Upsampling:
    """One axis of what makes logits of a mask: both of SAM's interpolations as one product.

    Attributes:
        weights: Of every logit for every pixel (pixels, logits).
        first: The first logit that a pixel takes part of; it never falls.
        last: The last.
    """

    def __init__(self, logits: int, model_px: int, fed_px: int, image_px: int) -> None:
        """Takes the sizes of the axis, as ``upsampling`` does."""
        self.weights = upsampling(logits, model_px, fed_px, image_px)
        used = self.weights.numpy() != 0
        self.first = used.argmax(axis=1)
        self.last = logits - 1 - used[:, ::-1].argmax(axis=1)

    def reach(self, above: np.ndarray) -> tuple[slice, slice]:
        """The pixels that logits (boolean, along the axis) can light, and the logits they need."""
        places = np.flatnonzero(above)
        start = int(np.searchsorted(self.last, places[0]))
        stop = int(np.searchsorted(self.first, places[-1], side="right"))
        if start >= stop:
            return slice(0, 0), slice(0, 0)
        return slice(start, stop), slice(int(self.first[start]), int(self.last[stop - 1]) + 1)


def _cut_mask(low: torch.Tensor, rows: _Upsampling, columns: _Upsampling, score: float) -> Mask:
    """Upsamples logits only where they can be above 0."""
    above = np.asarray(low > 0)
    if above.any():
        y, low_y = rows.reach(np.asarray(above.any(axis=1)))
        x, low_x = columns.reach(np.asarray(above.any(axis=0)))
        logits = rows.weights[y, low_y] @ low[low_y, low_x] @ columns.weights[x, low_x].T
        return _tighten(logits.numpy() > 0, y.start, x.start, score)
    return Mask.pack(np.zeros((0, 0), dtype=bool), 0, 0, score)


def _tighten(pixels: np.ndarray, y0: int, x0: int, score: float) -> Mask:
    """Packs a mask in its bounding box."""
    if not pixels.any():
        return Mask.pack(np.zeros((0, 0), dtype=bool), y0, x0, score)
    box: list[slice] = []
    for lit in (pixels.any(axis=1), pixels.any(axis=0)):
        places = np.flatnonzero(lit)
        box.append(slice(int(places[0]), int(places[-1]) + 1))
    return Mask.pack(pixels[box[0], box[1]], y0 + box[0].start, x0 + box[1].start, score)


def paint_prompted(masks: Sequence[Mask], shape: tuple[int, ...]) -> np.ndarray:
    """Paints masks with ids 1, 2 .. in their order (y, x) int32, small ones over large ones."""
    painted = np.zeros(shape, dtype=np.int32)
    order = sorted(range(len(masks)), key=lambda index: -masks[index].area)
    for index in order:
        mask = masks[index]
        painted[mask.box.slices][mask.pixels()] = index + 1
    return painted
