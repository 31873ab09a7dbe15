"""detector_sam: the boxes of a detector prompt a SAM, and its masks are instances."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.memory import explain_out_of_memory
from bench.inference.detection.boxes import detect_boxes, keep_best
from bench.inference.device import Compute
from bench.inference.feeding import resize_labels, resize_section
from bench.inference.prediction import Predictor, SectionPrediction, model_shape, predict_one_by_one
from bench.inference.sam.embedding_store import open_embeddings
from bench.inference.sam.embeddings import KeptEncoder
from bench.inference.sam.prompts import Prompts, prompt_section
from bench.inference.sam.windows import Mask, paint_masks
from bench.metrics.detection import Detections, check_areas
from bench.models.checkpoint import ModelInfo, load_checkpoint
from bench.models.detection.detector import Detector
from bench.models.detection.detector_sam import DetectorSam

# An instance that was kept counts as foreground at the threshold of 0.5, whatever its score.
_LEAST_SCORE = 0.5
# Of boxes that overlap more (IoU), only the best is a candidate at all.
CANDIDATE_NMS = 0.5
# Candidates of a section beyond which the worst are not looked at.
_MOST_CANDIDATES = 2000


@dataclass(frozen=True)
class PromptedSettings:
    """How boxes become instances: all chosen on validation but the areas.

    Attributes:
        detector: Structure, tile, halo and pixel size of the detector, as its description has them.
        score_thresh: Boxes of a lower score are dropped.
        nms_thresh: Of boxes that overlap more (IoU), the best is kept.
        iou_thresh: Masks of which SAM expects less IoU are dropped.
        sure_score_thresh: The score from which an object is sure enough to be a pseudo-mask.
        sure_iou_thresh: The IoU that SAM must expect of it.
        sure_precision: Share of those that were right on validation.
        min_area_px: Area of the smallest instance kept.
        max_area_px: Area of the largest; None for any.
    """

    detector: dict[str, Any]
    score_thresh: float
    nms_thresh: float
    iou_thresh: float
    sure_score_thresh: float
    sure_iou_thresh: float
    sure_precision: float
    min_area_px: int
    max_area_px: int | None


@dataclass(frozen=True, eq=False)
class Candidates:
    """Boxes of a section and their masks, at the pixel size that SAM is fed at.

    Attributes:
        found: The boxes, the best first.
        masks: The mask of each.
        shape: Shape (y, x) of the section as it is fed.
    """

    found: Detections
    masks: Sequence[Mask]
    shape: tuple[int, ...]

    @property
    def expected(self) -> np.ndarray:
        """The IoU that SAM expects of each mask; 0 of one without pixels."""
        scores = np.array([mask.score if mask.area else 0.0 for mask in self.masks])
        return np.asarray(scores.clip(0, 1))

    def choose(self, score: float, nms_iou: float, iou: float) -> "Candidates":
        """Those that count."""
        numbers = keep_best(self.found, score, nms_iou)
        # A mask without pixels is none, whatever is asked.
        kept = numbers[self.expected[numbers] >= iou] if iou > 0 else numbers
        return Candidates(self.found.take(kept), [self.masks[n] for n in kept], self.shape)


@dataclass(frozen=True, eq=False)
class PromptedModel:
    """A detector and the SAM that it prompts, on their device.

    Attributes:
        detector: What finds boxes.
        boxes: What it is: it has a tile, halo and pixel size of its own.
        encoder: The SAM, with the embeddings that are kept of it. It computes in fp32.
        info: What both are together.
        compute: Device, and the precision of the detector.
    """

    detector: Detector
    boxes: ModelInfo
    encoder: KeptEncoder
    info: ModelInfo
    compute: Compute

    @classmethod
    def of(cls, network: DetectorSam, info: ModelInfo, compute: Compute) -> "PromptedModel":
        """Takes both, on their device."""
        assert isinstance(network.detector, Detector)
        boxes = replace(info, **PromptedSettings(**info.inference).detector)
        encoder = KeptEncoder(network.eval().prompted, open_embeddings())
        return cls(network.detector, boxes, encoder, info, compute)

    @property
    def settings(self) -> PromptedSettings:
        """How boxes become instances."""
        return PromptedSettings(**self.info.inference)


def find_candidates(
    model: PromptedModel,
    raw: np.ndarray,
    pixel_size_nm: float | None,
    *,
    score: float,
    nms_iou: float,
) -> Candidates:
    """Finds the boxes of a section that have a score, and prompts SAM with them.

    What comes of a box does not depend on the other settings: the candidates of a higher score or
    a lower IoU are those that ``Candidates.choose`` takes of more.

    Args:
        model: Both networks.
        raw: Section (y, x) of any bit depth.
        pixel_size_nm: Its pixel size; None feeds it as it is.
        score: Least score of a box.
        nms_iou: Of boxes that overlap more the best is kept, at most CANDIDATE_NMS.
    """
    info = model.info
    found = detect_boxes(model.detector, model.boxes, raw, pixel_size_nm, model.compute)
    found = found.take(keep_best(found, score, CANDIDATE_NMS)[:_MOST_CANDIDATES])
    # In two steps, as where both are chosen: in one, others would be left.
    found = found.take(keep_best(found, score, nms_iou))
    check_areas(found.boxes)
    shape = model_shape(raw.shape, info.input_pixel_size_nm, pixel_size_nm)
    fed = raw if shape == raw.shape else resize_section(raw, shape)
    rows, columns = (after / before for before, after in zip(raw.shape, shape, strict=True))
    found = found.scale(rows, columns)
    remedy = f"lower tile_px (now {info.tile_px}) or use device=cpu"
    with explain_out_of_memory("a window of SAM", remedy):
        masks = prompt_section(
            *(model.encoder, fed, Prompts(boxes=found.boxes)),
            tile_px=info.tile_px,
            halo_px=info.halo_px,
        )
    return Candidates(found, masks, shape)


def paint_candidates(
    candidates: Candidates, settings: PromptedSettings, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Instances of candidates in their section.

    Args:
        candidates: Those that count.
        settings: Which areas do.
        shape: Of the section (y, x).

    Returns:
        Ids (y, x) int32, and 255 times the IoU that SAM expects of each, uint8.
    """
    labels, scores = paint_masks(
        [mask for mask in candidates.masks if mask.area],
        candidates.shape,
        min_area_px=settings.min_area_px,
        max_area_px=settings.max_area_px,
    )
    levels = np.maximum(np.round(255 * scores.clip(0, 1)), np.ceil(255 * _LEAST_SCORE))
    levels[0] = 0
    if candidates.shape != shape:
        labels = resize_labels(labels, shape)
    return labels, levels.astype(np.uint8)[labels]


def make_prompted_predictor(network: DetectorSam, info: ModelInfo, compute: Compute) -> Predictor:
    """Makes both networks, on their device, something that segments sections."""
    model = PromptedModel.of(network, info, compute)
    settings = model.settings

    def predict(raw: np.ndarray, pixel_size_nm: float | None) -> SectionPrediction:
        candidates = find_candidates(
            *(model, raw, pixel_size_nm),
            score=settings.score_thresh,
            nms_iou=settings.nms_thresh,
        )
        # Boxes were chosen before SAM saw them.
        kept = candidates.choose(0.0, 1.0, settings.iou_thresh)
        labels, levels = paint_candidates(kept, settings, raw.shape)
        return SectionPrediction(foreground=levels, instances=labels)

    return predict_one_by_one(predict)


def open_detector_sam(path: Path, compute: Compute, structure: str) -> Predictor:
    """Reads a checkpoint of ours onto a device; it was made for one structure."""
    network, info = load_checkpoint(path)
    assert isinstance(network, DetectorSam)
    fp32 = Compute(compute.device, "fp32")
    return make_prompted_predictor(network.to(compute.device).eval(), info, fp32)
