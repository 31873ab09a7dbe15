"""Segment Anything as something that segments sections: micro_sam's automatic segmentation.

Every window of a section is embedded once. With ``amg`` a grid of points prompts SAM for masks
(micro_sam's AutomaticMaskGenerator); with ``ais`` its decoder predicts foreground and distances,
and a watershed separates the instances (InstanceSegmentationWithDecoder).
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.core.memory import explain_out_of_memory
from bench.core.pixels import stretch_contrast
from bench.errors import BenchError
from bench.inference.device import Compute
from bench.inference.feeding import resize_labels, resize_section
from bench.inference.prediction import Predictor, SectionPrediction, model_shape, predict_one_by_one
from bench.inference.prompts.objects import refuse_without_truth
from bench.inference.sam.embedding_store import EmbeddingStore, open_embeddings
from bench.inference.sam.embeddings import KeptEncoder
from bench.inference.sam.windows import Box, Mask, join_masks, paint_masks, place_windows, whole_box
from bench.models.checkpoint import ModelInfo, load_checkpoint, load_info
from bench.models.sam import SamNetwork

log = logging.getLogger(__name__)

_AMG, _AIS = "amg", "ais"
# Logits of one batch of points, in pixels of all of their masks: 200 MB.
_LOGITS_PER_BATCH = 50_000_000
_MASKS_PER_POINT = 3
_MOST_POINTS = 64
# An instance that was kept counts as foreground at the threshold of 0.5, whatever its score.
_LEAST_SCORE = 0.5


@dataclass(frozen=True)
class MaskSettings:
    """How masks become instances.

    Attributes:
        segmentation: ``amg`` or ``ais``.
        points_per_side: Points along each side of a window (amg).
        pred_iou_thresh: Masks of which SAM expects less IoU are dropped (amg).
        stability_score_thresh: Masks that change more with their threshold are dropped (amg).
        box_nms_thresh: Of masks whose boxes overlap more, the best is kept (amg).
        center_distance_threshold: Distance to the centre below which a seed lies (ais).
        boundary_distance_threshold: The same of the distance that is 1 at the boundary (ais).
        foreground_threshold: Probability from which a pixel is foreground (ais).
        min_area_px: Area of the smallest instance kept.
        max_area_px: Area of the largest; None for any.
    """

    segmentation: str
    points_per_side: int
    pred_iou_thresh: float
    stability_score_thresh: float
    box_nms_thresh: float
    center_distance_threshold: float
    boundary_distance_threshold: float
    foreground_threshold: float
    min_area_px: int
    max_area_px: int | None


def choose_segmentation(wanted: str, *, decoder: bool) -> str:
    """Resolves ``auto``: ais where the checkpoint has a decoder, else amg.

    Raises:
        BenchError: If ais is wanted of a checkpoint without a decoder.
    """
    if wanted == _AIS and not decoder:
        raise BenchError(
            "segmentation=ais needs a checkpoint with micro_sam's decoder, the source has none: "
            "use segmentation=amg, or a source such as vit_b_em_organelles"
        )
    if wanted in (_AMG, _AIS):
        return wanted
    return _AIS if decoder else _AMG


def open_sam(path: Path, compute: Compute, structure: str) -> Predictor:
    """Reads a SAM checkpoint of ours onto a device; it was made for one structure."""
    refuse_without_truth(load_info(path), path)
    network, info = load_checkpoint(path)
    network.to(compute.device)
    assert isinstance(network, SamNetwork)
    return make_predictor(network, info, open_embeddings())


def make_predictor(
    network: SamNetwork, info: ModelInfo, store: EmbeddingStore | None = None
) -> Predictor:
    """Makes a network that is on its device something that segments sections.

    It computes in fp32: SAM's masks are thresholded logits of which the last bits decide.

    Args:
        network: The network; with a store, its image encoder must not be trained meanwhile.
        info: What the model is.
        store: Where embeddings are kept; None keeps none.
    """
    encoder = KeptEncoder(network, store)

    def predict(raw: np.ndarray, pixel_size_nm: float | None) -> SectionPrediction:
        return segment_part(encoder, info, raw, pixel_size_nm, whole_box(raw.shape))

    return predict_one_by_one(predict)


def segment_part(
    encoder: KeptEncoder,
    info: ModelInfo,
    raw: np.ndarray,
    pixel_size_nm: float | None,
    part: Box,
) -> SectionPrediction:
    """Segments a part of a section, which has the grey values that it has in the whole.

    A window that is cut out first would be stretched by its own darkest and brightest pixels.

    Args:
        encoder: The network, on its device, and what is kept of it.
        info: What the model is.
        raw: The whole section (y, x) of any bit depth.
        pixel_size_nm: Its pixel size; None feeds it as it is.
        part: The part, in px of the section.
    """
    settings = MaskSettings(**info.inference)
    shape = model_shape(raw.shape, info.input_pixel_size_nm, pixel_size_nm)
    fed = raw if shape == raw.shape else resize_section(raw, shape)
    rows, columns = (after / before for before, after in zip(raw.shape, shape, strict=True))
    inside = part.scale(rows, columns).overlap(whole_box(shape))
    encoder.network.eval()
    remedy = f"lower tile_px (now {info.tile_px}) or use device=cpu"
    with torch.inference_mode(), explain_out_of_memory("a window of SAM", remedy):
        instances, scores = segment_section(
            encoder, fed, settings, tile_px=info.tile_px, halo_px=info.halo_px, part=inside
        )
    if inside.shape != part.shape:
        instances = resize_labels(instances, part.shape)
        scores = resize_labels(scores, part.shape)
    return SectionPrediction(foreground=scores, instances=instances)


def segment_section(
    encoder: KeptEncoder,
    raw: np.ndarray,
    settings: MaskSettings,
    *,
    tile_px: int,
    halo_px: int,
    part: Box | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the instances of a section, window by window: one embedding is in memory at a time.

    Args:
        encoder: The network, on its device, and what is kept of it.
        raw: Section (y, x) of any bit depth.
        settings: How masks become instances.
        tile_px: Edge of a window without halo. SAM resizes every window to its own size, so
            this is the scale at which it sees structures, and belongs to the model.
        halo_px: Half of the overlap of two windows.
        part: What of the section is segmented, in its px; None is all.

    Returns:
        Of that part ids (y, x) int32, and scores (y, x) uint8: 255 p, with p the IoU that SAM
        expects of the pixel's instance (amg) or the decoder's foreground (ais), at least 0.5;
        0 outside.
    """
    image = stretch_contrast(raw)
    image = image if part is None else image[part.slices]
    windows = place_windows(image.shape, tile_px=tile_px, halo_px=halo_px)
    generator = make_generator(encoder.network, settings, max(windows[0].shape))
    foreground = np.zeros(image.shape if settings.segmentation == _AIS else (0, 0), dtype=np.uint8)
    masks = []
    for window in windows:
        embedding = encoder.embed(image[window.slices])
        if settings.segmentation == _AIS:
            found, probability = find_by_decoder(generator, embedding, window, settings)
            foreground[window.slices] = probability
        else:
            found = find_by_points(generator, embedding, window, settings)
        masks.append([mask for mask in found if _may_count(mask, settings)])
    labels, scores = paint_masks(
        join_masks(windows, masks),
        image.shape,
        min_area_px=settings.min_area_px,
        max_area_px=settings.max_area_px,
    )
    if settings.segmentation == _AMG:
        levels = np.round(255 * scores.clip(0, 1)).astype(np.uint8)
        foreground = levels[labels]
    least = np.uint8(np.ceil(255 * _LEAST_SCORE))
    return labels, np.where(labels, np.maximum(foreground, least), 0).astype(np.uint8)


def _may_count(mask: Mask, settings: MaskSettings) -> bool:
    """Whether a mask may be part of an instance: it can only grow when it is joined."""
    return settings.max_area_px is None or mask.area <= settings.max_area_px


def make_generator(network: SamNetwork, settings: MaskSettings, edge_px: int) -> Any:
    """Makes micro_sam's segmenter for windows of an edge."""
    from micro_sam import instance_segmentation as micro_sam
    from segment_anything import SamPredictor

    predictor = SamPredictor(network.sam)
    if settings.segmentation == _AIS:
        return micro_sam.InstanceSegmentationWithDecoder(predictor, network.instance_decoder)
    points = _LOGITS_PER_BATCH // (_MASKS_PER_POINT * edge_px**2)
    return micro_sam.AutomaticMaskGenerator(
        predictor,
        points_per_side=settings.points_per_side,
        points_per_batch=min(max(points, 1), _MOST_POINTS),
    )


def find_by_points(
    generator: Any, embedding: dict[str, Any], window: Box, settings: MaskSettings
) -> list[Mask]:
    """Finds the masks of a window by a grid of points."""
    from segment_anything.utils.amg import rle_to_mask

    height, width = window.shape
    # Only the shape of the image is looked at: its embedding is there.
    generator.initialize(np.zeros((height, width, 3), np.uint8), image_embeddings=embedding)
    _drop_early(generator, settings)
    found = generator.generate(
        pred_iou_thresh=settings.pred_iou_thresh,
        stability_score_thresh=settings.stability_score_thresh,
        box_nms_thresh=settings.box_nms_thresh,
        output_mode="rle",
    )
    masks = []
    for mask in found:
        if not mask["area"]:
            continue
        x, y, box_width, box_height = (int(value) for value in mask["bbox"])
        pixels = rle_to_mask(mask["segmentation"])
        # The box ends with the last pixel.
        pixels = pixels[y : y + box_height + 1, x : x + box_width + 1]
        score = float(mask["predicted_iou"])
        masks.append(Mask.pack(pixels, window.y0 + y, window.x0 + x, score))
    return masks


def _drop_early(generator: Any, settings: MaskSettings) -> None:
    """Drops masks that ``generate`` would drop, before it copies all of them."""
    for masks in generator.crop_list:
        kept = masks["stability_score"] >= settings.stability_score_thresh
        # At 0 it keeps all, and what SAM expects may be below.
        if settings.pred_iou_thresh > 0:
            kept &= masks["iou_preds"] > settings.pred_iou_thresh
        masks.filter(kept)


def find_by_decoder(
    segmenter: Any, embedding: dict[str, Any], window: Box, settings: MaskSettings
) -> tuple[list[Mask], np.ndarray]:
    """Finds the instances of a window by the decoder; returns its foreground (uint8) as well."""
    from scipy.ndimage import find_objects

    segmenter.initialize(np.zeros(window.shape, np.uint8), image_embeddings=embedding)
    labels = segmenter.generate(
        center_distance_threshold=settings.center_distance_threshold,
        boundary_distance_threshold=settings.boundary_distance_threshold,
        foreground_threshold=settings.foreground_threshold,
    ).astype(np.int32)
    foreground = segmenter.get_state()["foreground"]
    masks = []
    for number, place in enumerate(find_objects(labels), start=1):
        if place is None:
            continue
        pixels = labels[place] == number
        score = float(foreground[place][pixels].mean())
        corner = window.y0 + place[0].start, window.x0 + place[1].start
        masks.append(Mask.pack(pixels, *corner, score))
    return masks, np.round(255 * foreground.clip(0, 1)).astype(np.uint8)
