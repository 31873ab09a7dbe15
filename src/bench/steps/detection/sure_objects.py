"""The objects of an image of which detector and SAM are sure."""

from typing import Any

import numpy as np

from bench.inference.detection.prompted import (
    Candidates,
    PromptedModel,
    PromptedSettings,
    find_candidates,
)
from bench.inference.feeding import resize_labels
from bench.inference.sam.prompts import paint_prompted


def find_sure_objects(
    model: PromptedModel, raw: np.ndarray, pixel_size_nm: float | None
) -> tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """Finds the objects of an image and parts those that are sure from all others.

    Returns:
        Ids (y, x) uint32 of those that are sure; uint8 (y, x), 1 where any other is and no sure
        one; and a row for each object found: its id (0 of those that are not sure), box, area,
        score, the IoU expected, whether it is kept.
    """
    settings = model.settings
    candidates = find_candidates(
        *(model, raw, pixel_size_nm),
        score=min(settings.score_thresh, settings.sure_score_thresh),
        nms_iou=settings.nms_thresh,
    )
    sure = are_sure(candidates, settings)
    labels = _paint(candidates, np.flatnonzero(sure))
    ignore = (_paint(candidates, np.flatnonzero(~sure)) > 0) & (labels == 0)
    if candidates.shape != raw.shape:
        labels = resize_labels(labels, raw.shape)
        ignore = resize_labels(ignore.astype(np.uint8), raw.shape) > 0
    present = np.isin(np.arange(len(sure)) + 1, labels)
    rows = _describe(candidates, sure & present, labels)
    return labels.astype(np.uint32), ignore.astype(np.uint8), rows


def are_sure(candidates: Candidates, settings: PromptedSettings) -> np.ndarray:
    """Which candidates are sure: score, expected IoU and area."""
    areas = np.array([mask.area for mask in candidates.masks], float)
    largest = np.inf if settings.max_area_px is None else settings.max_area_px
    sure: np.ndarray = (
        (candidates.found.scores >= settings.sure_score_thresh)
        & (candidates.expected >= settings.sure_iou_thresh)
        & (areas >= max(settings.min_area_px, 1))
        & (areas <= largest)
    )
    return sure


def _paint(candidates: Candidates, numbers: np.ndarray) -> np.ndarray:
    """Paints some candidates, small ones over large ones, each with its number + 1."""
    painted = paint_prompted([candidates.masks[number] for number in numbers], candidates.shape)
    ids = np.concatenate([[0], numbers + 1]).astype(np.int32)
    return np.asarray(ids[painted])


def _describe(candidates: Candidates, kept: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    rows = labels.shape[0] / candidates.shape[0]
    columns = labels.shape[1] / candidates.shape[1]
    found, areas = candidates.found.scale(rows, columns), np.bincount(labels.reshape(-1))
    described = []
    for number, (box, mask) in enumerate(zip(found.boxes, candidates.masks, strict=True)):
        x0, y0, x1, y1 = (round(float(side), 1) for side in box)
        described.append(
            {
                "id": number + 1 if kept[number] else 0,
                **{"x0": x0, "y0": y0, "x1": x1, "y1": y1},
                "area_px": int(areas[number + 1] if kept[number] else mask.area),
                "score": round(float(found.scores[number]), 4),
                "predicted_iou": round(float(candidates.expected[number]), 4),
                "kept": bool(kept[number]),
            }
        )
    return described
