"""Masks that Segment Anything makes of prompts from annotated objects, each scored by itself."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

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
from bench.inference.sam.embeddings import KeptEncoder
from bench.inference.sam.prompts import Prompts, prompt_window
from bench.inference.sam.windows import Box, Mask, place_windows, windows_around


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


def prompt_objects(
    encoder: KeptEncoder,
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
        encoder: The network, on its device, and what is kept of it.
        raw: Section (y, x) of any bit depth.
        labels: Instance ids (y, x).
        settings: Which prompts.
        tile_px: Edge of a window without halo, in px of the section.
        halo_px: Half of the overlap of two windows.
        section: Number of the section, of which distortions are a function.

    Yields:
        The mask of each object by each prompt; those of the first are to be painted.
    """
    image = stretch_contrast(raw)
    windows = place_windows(raw.shape, tile_px=tile_px, halo_px=halo_px)
    annotated = list_objects(labels, settings, section)
    around = windows_around(
        np.array([each.box for each in annotated]).reshape(-1, 4), windows, raw.shape
    )
    placed: dict[Box, list[PromptedObject]] = defaultdict(list)
    for each, window in zip(annotated, around, strict=True):
        placed[window].append(each)
    for window, objects in placed.items():
        embedding, everyone = encoder.embed(image[window.slices]), np.arange(len(objects))
        for kind, distortion_px in settings.rounds:
            prompts = _make_prompts(objects, kind, distortion_px, settings.points, raw.shape)
            masks = prompt_window(
                encoder.network,
                embedding,
                prompts.within(window, everyone),
                multimask=settings.has_multimask(kind),
            )
            painted = (kind, distortion_px) == settings.rounds[0]
            for each, found in zip(objects, masks, strict=True):
                pixels = found.cut(Box(0, 0, *window.shape))
                truth = labels[window.slices] == each.id
                iou = np.count_nonzero(pixels & truth) / np.count_nonzero(pixels | truth)
                mask = Mask.pack(pixels, window.y0, window.x0, iou) if painted else None
                area = int(np.count_nonzero(truth))
                yield PromptedMask(each.id, area, kind, distortion_px, iou, mask)


def _make_prompts(
    objects: Sequence[PromptedObject],
    kind: str,
    distortion_px: float,
    points: int,
    shape: tuple[int, ...],
) -> Prompts:
    """Prompts of some objects, in px of the section."""
    boxes, number = None, count_points(kind, points)
    if makes_boxes(kind):
        boxes = boxes_of(objects, distortion_px, shape)
        check_boxes(boxes)
    if not number:
        return Prompts(boxes)
    inside = np.stack([each.points[:number] for each in objects])
    return Prompts(boxes, inside, np.ones(inside.shape[:2]))
