"""A detector applied to a section of any size: window by window, every object one box."""

import itertools
from collections.abc import Sequence

import numpy as np
import torch

from bench.core.memory import explain_out_of_memory
from bench.inference.device import Compute
from bench.inference.feeding import normalise_section, resize_section
from bench.inference.prediction import model_shape
from bench.inference.sam.windows import Box, place_windows
from bench.metrics.detection import Detections, box_ious
from bench.models.checkpoint import ModelInfo
from bench.models.detection.detector import Detector

# Boxes of two windows are of the same object if they agree so well where both windows see.
_SAME_IOU = 0.5
# A whole box takes the place of those that were cut off if its score is such a share of theirs.
_SURE_ENOUGH = 0.5
# A side so close to the border of a window is where the window ends, not the object.
_BORDER_PX = 8.0
# Of boxes in a section that overlap more, the best is kept: what is a candidate at most.
_CANDIDATE_NMS = 0.6


def detect_boxes(
    network: Detector,
    info: ModelInfo,
    raw: np.ndarray,
    pixel_size_nm: float | None,
    compute: Compute,
) -> Detections:
    """Finds the candidates of a section: of which score they count is chosen later.

    Args:
        network: The detector, on its device.
        info: What it is; windows have its tile and halo, at its pixel size.
        raw: Section (y, x) of any bit depth.
        pixel_size_nm: Its pixel size; None feeds it as it is.
        compute: Device and precision.

    Returns:
        Boxes in px of the section, the best first.
    """
    shape = model_shape(raw.shape, info.input_pixel_size_nm, pixel_size_nm)
    fed = normalise_section(raw if shape == raw.shape else resize_section(raw, shape))
    windows = place_windows(fed.shape, tile_px=info.tile_px, halo_px=info.halo_px)
    network.eval()
    remedy = f"lower tile_px (now {info.tile_px}) or use device=cpu"
    with torch.inference_mode(), explain_out_of_memory("a window of the detector", remedy):
        found = [_detect_window(network, fed, window, compute) for window in windows]
    rows, columns = (before / after for before, after in zip(raw.shape, shape, strict=True))
    return join_boxes(windows, found).scale(rows, columns)


def _detect_window(
    network: Detector, section: np.ndarray, window: Box, compute: Compute
) -> Detections:
    image = torch.from_numpy(np.ascontiguousarray(section[window.slices]))[None, None]
    with compute.autocast():
        ((boxes, scores),) = network.find(image.to(compute.device))
    corner = np.array([window.x0, window.y0] * 2, np.float32)
    placed = boxes.float().cpu().numpy() + corner
    found = Detections(placed, scores.float().cpu().numpy())
    return found.take(np.flatnonzero((placed[:, 2:] > placed[:, :2]).all(axis=1)))


def keep_best(found: Detections, score: float, iou: float) -> np.ndarray:
    """Numbers of the boxes of a score, of those that overlap more than an IoU the best."""
    from torchvision.ops import nms

    numbers = np.flatnonzero(found.scores >= score)
    left = found.take(numbers)
    kept = nms(torch.from_numpy(left.boxes), torch.from_numpy(left.scores), iou)
    chosen: np.ndarray = numbers[kept.numpy()]
    return chosen


def join_boxes(windows: Sequence[Box], found: Sequence[Detections]) -> Detections:
    """Makes one box of those that overlapping windows found of the same object.

    A window does not see how far an object reaches that crosses its border. Where another window
    saw the whole object, its box stands. Otherwise the boxes that were cut off and agree where
    both windows see become one, of which each side is that of the best box whose window saw it,
    and where none did, the outermost.

    Args:
        windows: The windows of a section, which they cover.
        found: What each of them found, in px of the section.

    Returns:
        The boxes, the best first; the score is the best of those that were joined.
    """
    numbers = np.concatenate([np.full(len(each), n) for n, each in enumerate(found)]).astype(int)
    boxes = np.concatenate([each.boxes for each in found])
    scores = np.concatenate([each.scores for each in found])
    order = np.argsort(-scores, kind="stable")
    boxes, scores, numbers = boxes[order], scores[order], numbers[order]
    seen = _sides_seen(windows, boxes, numbers)
    whole, groups = seen.all(axis=1), _group_cut(windows, boxes, scores, numbers, seen)
    joint = [_unite_boxes(boxes[group], seen[group]) for group in groups]
    best = [scores[group[0]] for group in groups]
    united = Detections(
        np.concatenate([boxes[whole], np.array(joint, np.float32).reshape(-1, 4)]),
        np.concatenate([scores[whole], np.array(best, np.float32)]),
    )
    return united.take(keep_best(united, 0.0, _CANDIDATE_NMS))


def _sides_seen(windows: Sequence[Box], boxes: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Whether the window of each box saw its sides (n, 4): not those at the window's border."""
    height, width = max(w.y1 for w in windows), max(w.x1 for w in windows)
    ends = np.array([[w.x0, w.y0, w.x1, w.y1] for w in windows])[numbers]
    at_end = ends == np.array([0, 0, width, height])
    seen: np.ndarray = at_end | (np.abs(boxes - ends) > _BORDER_PX)
    return seen


def _group_cut(
    windows: Sequence[Box],
    boxes: np.ndarray,
    scores: np.ndarray,
    numbers: np.ndarray,
    seen: np.ndarray,
) -> list[list[int]]:
    """Groups of boxes that were cut off, by number, each of one object and its best first.

    Left out are those of which another window saw the whole.
    """
    whole, parent = np.asarray(seen.all(axis=1)), list(range(len(boxes)))
    replaced = np.zeros(len(boxes), bool)

    def find(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for first, second in itertools.permutations(range(len(windows)), 2):
        shared = windows[first].overlap(windows[second])
        if shared.is_empty():
            continue
        mine = np.flatnonzero((numbers == first) & ~whole)
        theirs = np.flatnonzero(numbers == second)
        ious = box_ious(_cut(boxes[mine], shared), _cut(boxes[theirs], shared))
        for i, j in np.argwhere(ious >= _SAME_IOU):
            one, other = int(mine[i]), int(theirs[j])
            if not whole[other]:
                low, high = sorted((find(one), find(other)))
                parent[high] = low
            elif scores[other] >= _SURE_ENOUGH * scores[one]:
                replaced[one] = True
    groups: dict[int, list[int]] = {}
    for index in np.flatnonzero(~whole & ~replaced):
        groups.setdefault(find(int(index)), []).append(int(index))
    return list(groups.values())


def _cut(boxes: np.ndarray, window: Box) -> np.ndarray:
    """What of boxes lies in a window; of no area where nothing does."""
    corner, end = [window.x0, window.y0] * 2, [window.x1, window.y1] * 2
    cut: np.ndarray = boxes.clip(np.array(corner, np.float32), np.array(end, np.float32))
    return cut


def _unite_boxes(boxes: np.ndarray, seen: np.ndarray) -> list[float]:
    """The joint box of those of one object, the best first."""
    sides = []
    for side in range(4):
        outermost = boxes[:, side].min() if side < 2 else boxes[:, side].max()
        saw = np.flatnonzero(seen[:, side])
        sides.append(float(boxes[saw[0], side] if saw.size else outermost))
    # Windows that contradict each other: the best is taken at its word.
    crossed = sides[2] <= sides[0] or sides[3] <= sides[1]
    return [float(side) for side in boxes[0]] if crossed else sides
