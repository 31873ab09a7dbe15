"""Boxes: those of labels, how well two agree, and the average precision of those found.

A box is x0, y0, x1, y1 in px at the corners of pixels: that of a single pixel is 1 px wide.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects

from bench.errors import BenchError

# COCO's: from 0.5 on in steps of 0.05.
BOX_IOUS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
# Points of the recall at which COCO reads the precision.
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True, eq=False)
class Detections:
    """Boxes that a detector found in a section.

    Attributes:
        boxes: (n, 4) float32.
        scores: (n) float32, 0 to 1.
    """

    boxes: np.ndarray
    scores: np.ndarray

    @classmethod
    def none(cls) -> "Detections":
        """Nothing found."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))

    def __len__(self) -> int:
        """How many there are."""
        return len(self.scores)

    def take(self, chosen: np.ndarray) -> "Detections":
        """Some of them, by number or by a mask."""
        return Detections(self.boxes[chosen], self.scores[chosen])

    def scale(self, rows: float, columns: float) -> "Detections":
        """The same in an image that is larger by a factor along y and one along x."""
        factors = np.array([columns, rows, columns, rows], np.float32)
        return Detections(self.boxes * factors, self.scores)


def label_boxes(labels: np.ndarray) -> np.ndarray:
    """The bounding boxes (n, 4) float32 of instances (y, x), in the order of their ids."""
    places = [place for place in find_objects(labels.astype(np.int32)) if place is not None]
    boxes = [(x.start, y.start, x.stop, y.stop) for y, x in places]
    return np.array(boxes, np.float32).reshape(-1, 4)


def check_areas(boxes: np.ndarray) -> None:
    """Raises BenchError if a box (n, 4) has no area, or is not of finite numbers."""
    wrong = ~np.isfinite(boxes).all(axis=1) | (boxes[:, 2:] <= boxes[:, :2]).any(axis=1)
    if wrong.any():
        received = ", ".join(f"{side:g}" for side in boxes[wrong][0])
        raise BenchError(
            f"a box must have an area (x0 < x1 and y0 < y1), received {received} and "
            f"{int(wrong.sum()) - 1} others: leave them out"
        )


def box_ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of all pairs of boxes: (n, 4) and (m, 4) give (n, m)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2, dtype=np.float64)
    areas = [np.prod(b[:, 2:] - b[:, :2], axis=1, dtype=np.float64) for b in (first, second)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    ious: np.ndarray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ious


def match_boxes(found: Detections, truth: np.ndarray, iou: float) -> np.ndarray:
    """Which truth each box found is: greedily from the best score on, each truth once.

    Args:
        found: What was found in a section.
        truth: Boxes (m, 4) that are there.
        iou: Least IoU of a pair.

    Returns:
        The number of a truth for each of ``found``, -1 for none.
    """
    ious = box_ious(found.boxes, truth)
    matches = np.full(len(found), -1)
    for number in np.argsort(-found.scores, kind="stable"):
        if ious.shape[1] and ious[number].max() >= iou:
            matches[number] = best = int(ious[number].argmax())
            ious[:, best] = -1
    return matches


def drop_open_boxes(found: Detections, truth: np.ndarray, void: np.ndarray) -> Detections:
    """Boxes found without those of which more than half lies where nobody annotated.

    One that is right (IoU of 0.5 with a true box) is kept: as in COCO, only what is not is dropped.

    Args:
        found: What was found in a section.
        truth: Boxes (m, 4) that are there and count.
        void: Where nobody annotated, bool (y, x), or what is annotated counts for nothing.
    """
    if not len(found):
        return found
    sums = np.pad(void.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    height, width = void.shape
    corners = np.rint(found.boxes).astype(np.int64)
    x0, x1 = (np.clip(corners[:, each], 0, width) for each in (0, 2))
    y0, y1 = (np.clip(corners[:, each], 0, height) for each in (1, 3))
    inside = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
    mostly = 2 * inside > (y1 - y0) * (x1 - x0)
    return found.take(~mostly | (match_boxes(found, truth, 0.5) >= 0))


def box_precision(sections: Iterable[tuple[Detections, np.ndarray]], iou: float) -> float:
    """Average precision of the boxes found in several sections, by COCO's definition.

    All boxes are ranked by their score. At each of 101 recalls from 0 to 1 the precision is the
    highest that is reached at that recall or a larger one; their mean is the result. Nothing found
    where there is nothing is 1, something there is 0 (Lin et al. 2014, pycocotools).

    Args:
        sections: What was found in each section, and the boxes (m, 4) that are there.
        iou: Least IoU of a box found with a true one, each of which counts once.
    """
    pairs = list(sections)
    hits = [match_boxes(found, truth, iou) >= 0 for found, truth in pairs]
    there = sum(len(truth) for _, truth in pairs)
    ranked = np.concatenate(hits) if hits else np.zeros(0, bool)
    if there == 0:
        return float(ranked.size == 0)
    scores = np.concatenate([found.scores for found, _ in pairs])
    true = np.cumsum(ranked[np.argsort(-scores, kind="stable")])
    precision = true / np.arange(1, true.size + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(true / there, _RECALLS, side="left")
    return float(np.mean([best[place] if place < best.size else 0.0 for place in places]))


def mean_box_precision(sections: Sequence[tuple[Detections, np.ndarray]]) -> float:
    """The mean of the average precisions at the IoUs of BOX_IOUS."""
    return float(np.mean([box_precision(sections, iou) for iou in BOX_IOUS]))
