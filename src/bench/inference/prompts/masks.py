"""Masks that Segment Anything makes of prompts from annotated objects, each scored by itself."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bench.core.pixels import stretch_contrast
from bench.inference.prompts.objects import (
    PromptedObject,
    PromptSettings,
    boxes_of,
    check_boxes,
    count_points,
    list_objects,
    makes_boxes,
)
from bench.inference.sam_masks import embed_window, make_prompter
from bench.inference.sam_windows import Box, Mask, place_windows
from bench.models.sam import SamNetwork

# Logits of one batch of prompts, in pixels of all of their masks: 200 MB.
_LOGITS_PER_BATCH = 50_000_000
_MASKS_PER_PROMPT = 3
_MOST_PROMPTS = 64
# Of the longest side of an object that has a window of its own.
_ROOM = 1.25


@dataclass(frozen=True, eq=False)
class PromptedMask:
    """The mask of one object by one prompt.

    Attributes:
        object_id: Id of the object in its section.
        area_px: Its annotated area.
        kind: Kind of the prompt.
        distortion_px: By how much edges of its box were moved at most; 0 without a box.
        iou: IoU of the mask with its own object.
        mask: The mask, where it will be painted; None otherwise.
    """

    object_id: int
    area_px: int
    kind: str
    distortion_px: float
    iou: float
    mask: Mask | None


def prompt_section(
    network: SamNetwork,
    raw: np.ndarray,
    labels: np.ndarray,
    settings: PromptSettings,
    *,
    tile_px: int,
    halo_px: int,
    section: int,
) -> Iterator[PromptedMask]:
    """Prompts SAM with every annotated object of a section.

    An object is prompted in the one of the overlapping windows that hold it whole whose centre is
    nearest, or in a window of its own where it is larger. SAM resizes each window to its own size,
    and prompts with it.

    Args:
        network: The network, on its device.
        raw: Section (y, x) of any bit depth.
        labels: Instance ids (y, x).
        settings: Which prompts.
        tile_px: Edge of a window without halo, in px of the section.
        halo_px: Half of the overlap of two windows.
        section: Number of the section, of which distortions are a function.

    Yields:
        The mask of each object by each prompt; those of the first are to be painted.
    """
    image, predictor = stretch_contrast(raw), make_prompter(network)
    windows = place_windows(raw.shape, tile_px=tile_px, halo_px=halo_px)
    placed: dict[Box, list[PromptedObject]] = defaultdict(list)
    for each in list_objects(labels, settings, section):
        placed[_choose_window(each.box, windows, raw.shape)].append(each)
    for window, objects in placed.items():
        embed_window(predictor, image[window.slices])
        for kind, distortion_px in settings.rounds:
            prompts = _make_prompts(objects, kind, distortion_px, settings.points, raw.shape)
            masks = _predict(predictor, prompts, window, multimask=settings.has_multimask(kind))
            painted = (kind, distortion_px) == settings.rounds[0]
            for each, pixels in zip(objects, masks, strict=True):
                truth = labels[window.slices] == each.id
                iou = np.count_nonzero(pixels & truth) / np.count_nonzero(pixels | truth)
                mask = Mask.pack(pixels, window.y0, window.x0, iou) if painted else None
                area = int(np.count_nonzero(truth))
                yield PromptedMask(each.id, area, kind, distortion_px, iou, mask)


def _choose_window(
    box: tuple[int, int, int, int], windows: Sequence[Box], shape: tuple[int, ...]
) -> Box:
    """The window in which an object is prompted."""
    x0, y0, x1, y1 = box
    y, x = (y0 + y1) / 2, (x0 + x1) / 2
    whole = [w for w in windows if w.y0 <= y0 and w.x0 <= x0 and y1 <= w.y1 and x1 <= w.x1]
    if whole:
        return min(whole, key=lambda w: ((w.y0 + w.y1) / 2 - y) ** 2 + ((w.x0 + w.x1) / 2 - x) ** 2)
    half = max(windows[0].shape[0], windows[0].shape[1], _ROOM * max(y1 - y0, x1 - x0)) / 2
    return Box(
        max(0, min(int(y - half), y0)),
        max(0, min(int(x - half), x0)),
        min(shape[0], max(int(y + half), y1)),
        min(shape[1], max(int(x + half), x1)),
    )


@dataclass(frozen=True, eq=False)
class _Prompts:
    """Prompts of some objects, in px of the section: boxes (n, 4), points (n, number, 2)."""

    boxes: np.ndarray | None
    points: np.ndarray | None

    def __len__(self) -> int:
        return len(next(each for each in (self.boxes, self.points) if each is not None))


def _make_prompts(
    objects: Sequence[PromptedObject],
    kind: str,
    distortion_px: float,
    points: int,
    shape: tuple[int, ...],
) -> _Prompts:
    boxes, number = None, count_points(kind, points)
    if makes_boxes(kind):
        boxes = boxes_of(objects, distortion_px, shape)
        check_boxes(boxes)
    return _Prompts(boxes, np.stack([o.points[:number] for o in objects]) if number else None)


def _predict(
    predictor: Any, prompts: _Prompts, window: Box, *, multimask: bool
) -> Iterator[np.ndarray]:
    """Yields the mask (y, x) of every prompt in a window that is embedded, boolean.

    Prompts are scaled by the predictor, which knows the size that this SAM takes; logits above 0
    are the mask, and of several masks the one of the highest expected IoU counts.
    """
    per_batch = _LOGITS_PER_BATCH // (_MASKS_PER_PROMPT * window.shape[0] * window.shape[1])
    step = min(max(per_batch, 1), _MOST_PROMPTS)
    for start in range(0, len(prompts), step):
        given: dict[str, Any] = {"point_coords": None, "point_labels": None, "boxes": None}
        if prompts.boxes is not None:
            boxes = prompts.boxes[start : start + step] - np.tile((window.x0, window.y0), 2)
            # What is beyond the window cannot be seen.
            boxes = np.clip(boxes, 0, np.tile(window.shape[::-1], 2))
            given["boxes"] = predictor.transform.apply_boxes_torch(
                _to_device(boxes, predictor), window.shape
            )
        if prompts.points is not None:
            points = prompts.points[start : start + step] - (window.x0, window.y0)
            given["point_coords"] = predictor.transform.apply_coords_torch(
                _to_device(points, predictor), window.shape
            )
            given["point_labels"] = torch.ones(points.shape[:2], device=predictor.device)
        masks, scores, _ = predictor.predict_torch(**given, multimask_output=multimask)
        best = masks[torch.arange(len(masks)), scores.argmax(dim=1)]
        yield from best.cpu().numpy()


def _to_device(values: np.ndarray, predictor: Any) -> torch.Tensor:
    return torch.as_tensor(values, dtype=torch.float32, device=predictor.device)
