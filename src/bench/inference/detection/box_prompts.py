"""Masks of boxes: a SAM is prompted with each, in the window whose middle is nearest."""

from collections.abc import Sequence

import numpy as np
import torch

from bench.core.pixels import stretch_contrast
from bench.inference.sam_windows import Box, Mask, place_windows
from bench.metrics.detection import check_boxes
from bench.models.sam import SamNetwork

# Boxes that are decoded at a time.
_AT_ONCE = 32


def prompt_boxes(
    network: SamNetwork, raw: np.ndarray, boxes: np.ndarray, *, tile_px: int, halo_px: int
) -> list[Mask]:
    """Finds the mask of every box.

    Args:
        network: The SAM, on its device.
        raw: Section (y, x) of any bit depth, at the SAM's pixel size.
        boxes: (n, 4), x0 y0 x1 y1 in px of the section, each of some area.
        tile_px: Edge of a window without halo.
        halo_px: Half of the overlap of two windows.

    Returns:
        Masks in the order of the boxes, their score being the IoU that SAM expects; of area 0
        where it finds nothing.

    Raises:
        BenchError: If a box has no area.
    """
    check_boxes(boxes)
    windows = place_windows(raw.shape, tile_px=tile_px, halo_px=halo_px)
    image = stretch_contrast(raw)
    nearest = _nearest_windows(windows, boxes)
    masks: dict[int, Mask] = {}
    for number, window in enumerate(windows):
        mine = np.flatnonzero(nearest == number)
        if mine.size:
            found = _prompt_window(network, image[window.slices], window, boxes[mine])
            masks |= dict(zip(mine.tolist(), found, strict=True))
    return [masks[number] for number in range(len(boxes))]


def _nearest_windows(windows: Sequence[Box], boxes: np.ndarray) -> np.ndarray:
    middles = np.array([[(w.x0 + w.x1) / 2, (w.y0 + w.y1) / 2] for w in windows])
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    distances = np.linalg.norm(centres[:, None] - middles[None], axis=2)
    return np.asarray(distances.argmin(axis=1))


def _prompt_window(
    network: SamNetwork, image: np.ndarray, window: Box, boxes: np.ndarray
) -> list[Mask]:
    from segment_anything import SamPredictor

    predictor = SamPredictor(network.sam)
    predictor.set_image(np.repeat(image[..., None], 3, axis=2))
    corner = np.array([window.x0, window.y0] * 2)
    height, width = window.shape
    placed = (boxes - corner).clip(0, [width, height, width, height])
    given = torch.as_tensor(placed, dtype=torch.float32, device=predictor.device)
    found: list[Mask] = []
    for part in predictor.transform.apply_boxes_torch(given, window.shape).split(_AT_ONCE):
        pixels, scores, _ = predictor.predict_torch(
            point_coords=None, point_labels=None, boxes=part, multimask_output=False
        )
        for mask, score in zip(pixels[:, 0].cpu().numpy(), scores[:, 0].tolist(), strict=True):
            found.append(_pack(mask, window, min(max(score, 0.0), 1.0)))
    return found


def _pack(pixels: np.ndarray, window: Box, score: float) -> Mask:
    rows, columns = (np.flatnonzero(pixels.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return Mask.pack(np.zeros((1, 1), bool), window.y0, window.x0, score)
    y, x = rows[0], columns[0]
    cut = pixels[y : rows[-1] + 1, x : columns[-1] + 1]
    return Mask.pack(cut, window.y0 + int(y), window.x0 + int(x), score)
