"""Makes detector_sam of a detector and a SAM: what counts is chosen on validation."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.config.training import MicrosamConfig
from bench.core.hashing import file_sha256
from bench.core.names import run_of
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.inference.detection.opening import check_detector
from bench.inference.detection.prompted import (
    CANDIDATE_NMS,
    Candidates,
    PromptedModel,
    PromptedSettings,
    find_candidates,
    paint_candidates,
)
from bench.inference.device import Compute
from bench.inference.feeding import resize_labels
from bench.metrics.table import HEADLINE
from bench.models.checkpoint import ModelInfo, load_checkpoint, load_info
from bench.models.detection.detector_sam import DetectorSam
from bench.models.sam import SamNetwork
from bench.postprocess.instances import Instances
from bench.recipe.scores import SplitResult
from bench.steps.training.source import fetch_weights_of
from bench.tracking.runs import Run
from bench.tracking.store import Store
from bench.tracking.unlisted import find_detection, get_detection
from bench.words import AUTO, OurNetworks

# What is tried on validation. Candidates are the boxes of the least score, of which those that
# overlap more than the largest IoU are one.
_SCORES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
_NMS_IOUS = (0.3, CANDIDATE_NMS)
_EXPECTED_IOUS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.88)
_SURE_SCORES = tuple(round(0.05 * step, 2) for step in range(2, 20))
_SURE_IOUS = (0.0, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.88, 0.9, 0.92, 0.94)
# By this the thresholds are chosen; where it is the same, by Dice.
_CHOSEN_BY = "instance_f1"
# A mask is the object with which its IoU is so large.
_RIGHT_IOU = 0.5
_Sections = Mapping[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class DetectorSource:
    """A detector that prompts a SAM.

    Attributes:
        name: As the user typed it, or ``runs:/ID`` of what was found.
        path: Its checkpoint.
        digest: Hash of that.
        info: What it is.
    """

    name: str
    path: Path
    digest: str
    info: ModelInfo


def find_detector(
    config: MicrosamConfig, structure: str, dataset: PreparedDataset, store: Store
) -> DetectorSource | None:
    """The detector that a config names, or the newest of its dataset; None in other modes.

    Raises:
        BenchError: If there is none, or it finds something else.
    """
    if config.mode != "detector":
        if config.detector != AUTO:
            raise BenchError(
                f"a detector prompts a SAM with mode=detector, received mode={config.mode} and "
                f"detector={config.detector}: change the mode, or leave the detector out"
            )
        return None
    name = config.detector
    if name == AUTO:
        found = find_detection(
            store,
            structure=structure,
            dataset=dataset.content_hash,
            seed=config.seed,
            labelled=config.labelled,
        )
        name = f"runs:/{found}"
    path = Path(name)
    if run_id := run_of(name):
        path = fetch_weights_of(store, get_detection(store, run_id))
    elif not path.is_file():
        raise BenchError(
            f"detector must be runs:/ID of a detect run or a checkpoint file that exists, received "
            f"{name!r}: check it"
        )
    info = load_info(path)
    check_detector(info, f"detector {name}")
    if info.structure != structure:
        raise BenchError(
            f"detector {name} finds {info.structure}, received structure={structure}: give a "
            "detector of that structure"
        )
    return DetectorSource(name, path, file_sha256(path), info)


def join_detector(
    network: SamNetwork, info: ModelInfo, detector: DetectorSource, sam_sha256: str
) -> tuple[DetectorSam, ModelInfo]:
    """Puts a detector before a SAM; the thresholds are not yet chosen.

    Args:
        network: The SAM.
        info: What it is, with the areas of instances among its settings.
        detector: The detector.
        sam_sha256: Hash of the SAM's weights.
    """
    boxes, _ = load_checkpoint(detector.path)
    seen = ("structure", "tile_px", "halo_px", "input_pixel_size_nm")
    settings = PromptedSettings(
        detector={name: getattr(detector.info, name) for name in seen},
        score_thresh=min(_SCORES),
        nms_thresh=max(_NMS_IOUS),
        iou_thresh=0.0,
        sure_score_thresh=1.0,
        sure_iou_thresh=1.0,
        sure_precision=0.0,
        min_area_px=info.inference["min_area_px"],
        max_area_px=info.inference["max_area_px"],
    )
    described = {"architecture": detector.info.architecture, "arguments": detector.info.arguments}
    joint = dataclasses.replace(
        info,
        architecture=OurNetworks.DETECTOR_SAM,
        arguments={"detector": described, "sam": info.arguments},
        training={
            **info.training,
            "detector": detector.name,
            "detector_sha256": detector.digest,
            "sam_sha256": sam_sha256,
        },
        inference=dataclasses.asdict(settings),
    )
    return DetectorSam(boxes, network), joint


def choose_on_validation(
    run: Run,
    network: DetectorSam,
    info: ModelInfo,
    sections: _Sections,
    pixel_size_nm: float | None,
    compute: Compute,
    precision: float,
) -> ModelInfo:
    """Chooses which boxes and masks count, and says in a run what was tried.

    Args and result are those of ``_choose_box_thresholds``, but for its rows.
    """
    info, rows = _choose_box_thresholds(network, info, sections, pixel_size_nm, compute, precision)
    run.log_text(pd.DataFrame(rows).to_csv(index=False), "thresholds.csv")
    sure = info.inference["sure_precision"]
    if sure < precision:
        run.add_warning(
            f"no threshold makes {100 * precision:.0f} % of the objects right on validation, the "
            f"best {100 * sure:.0f} %: pseudo-masks of this model have as many errors"
        )
    return info


def _choose_box_thresholds(
    network: DetectorSam,
    info: ModelInfo,
    sections: _Sections,
    pixel_size_nm: float | None,
    compute: Compute,
    precision: float,
) -> tuple[ModelInfo, list[dict[str, Any]]]:
    """Chooses which boxes and masks count, and which are sure, on validation sections.

    They are whole, as those that are segmented later: grey values are scaled by all of a section,
    windows lie in it as they will, and what is found where there is nothing counts.

    Args:
        network: Both networks, on their device.
        info: What they are.
        sections: Raw and labels (y, x) of whole validation sections by name.
        pixel_size_nm: Their pixel size; None if not known.
        compute: Device and precision.
        precision: Share of sure objects that must be right.

    Returns:
        What the model is with the thresholds, and a row for each that was tried.
    """
    model = PromptedModel.of(network, info, compute)
    found = {
        name: find_candidates(
            *(model, raw, pixel_size_nm),
            score=min(_SCORES),
            nms_iou=max(_NMS_IOUS),
        )
        for name, (raw, _) in sections.items()
    }
    truths = {name: labels for name, (_, labels) in sections.items()}
    rows = _try_thresholds(found, truths, model.settings)
    best = max(rows, key=lambda row: (row[_CHOSEN_BY], row[HEADLINE]))
    chosen = {name: best[name] for name in ("score_thresh", "nms_thresh", "iou_thresh")}
    kept = {name: each.choose(0.0, best["nms_thresh"], 0.0) for name, each in found.items()}
    chosen |= choose_sure(
        np.concatenate([each.found.scores for each in kept.values()]),
        np.concatenate([each.expected for each in kept.values()]),
        np.concatenate(
            [are_right(e.masks, _at_shape(truths[name], e.shape)) for name, e in kept.items()]
        ),
        precision,
    )
    return dataclasses.replace(info, inference={**info.inference, **chosen}), rows


def _at_shape(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return labels if labels.shape == shape else resize_labels(labels, shape)


def _try_thresholds(
    found: Mapping[str, Candidates], truths: Mapping[str, np.ndarray], settings: PromptedSettings
) -> list[dict[str, Any]]:
    """The scores of every combination of thresholds, as ``evaluate`` would find them."""
    rows: list[dict[str, Any]] = []
    # Many combinations keep the same candidates.
    known: dict[tuple[int, ...], dict[str, float]] = {}
    for score, nms_iou, iou in itertools.product(_SCORES, _NMS_IOUS, _EXPECTED_IOUS):
        kept = {name: each.choose(score, nms_iou, iou) for name, each in found.items()}
        # The masks themselves are the candidates' own, so that they say which are kept.
        key = tuple(id(mask) for each in kept.values() for mask in each.masks)
        if key not in known:
            known[key] = _score(kept, truths, settings)
        tried = {"score_thresh": score, "nms_thresh": nms_iou, "iou_thresh": iou}
        rows.append(tried | known[key])
    return rows


def _score(
    kept: Mapping[str, Candidates], truths: Mapping[str, np.ndarray], settings: PromptedSettings
) -> dict[str, float]:
    result = SplitResult((HEADLINE, _CHOSEN_BY))
    for name, candidates in kept.items():
        labels, levels = paint_candidates(candidates, settings, truths[name].shape)
        count = int(np.count_nonzero(labels))
        result.add(
            name,
            truth=truths[name],
            probability=levels,
            instances=Instances(labels, count, count),
        )
    return result.scores()


def are_right(masks: Sequence[Any], truth: np.ndarray) -> np.ndarray:
    """Whether each mask, the best first, is an object of its own: IoU of 0.5 or more.

    Args:
        masks: Masks in a section, in the order of their scores.
        truth: Instance ids (y, x).
    """
    areas, taken = np.bincount(truth.reshape(-1)), set()
    right = np.zeros(len(masks), bool)
    for number, mask in enumerate(masks):
        if not mask.area:
            continue
        shared = np.bincount(truth[mask.box.slices][mask.pixels()], minlength=areas.size)
        shared[0] = 0
        ious = shared / (areas + mask.area - shared)
        best = int(ious.argmax())
        right[number] = ious[best] >= _RIGHT_IOU and best not in taken
        if right[number]:
            taken.add(best)
    return right


def choose_sure(
    scores: np.ndarray, expected: np.ndarray, right: np.ndarray, precision: float
) -> dict[str, float]:
    """The thresholds that keep the most objects, of which a share is right.

    Where no thresholds reach that share, those of the largest share, of these the most objects.

    Args:
        scores: Of the detector, one for each object.
        expected: The IoU that SAM expects.
        right: Whether the object is one.
        precision: The share.
    """
    rows = []
    for score, iou in itertools.product(_SURE_SCORES, _SURE_IOUS):
        kept = (scores >= score) & (expected >= iou)
        if kept.any():
            rows.append((float(right[kept].mean()), int(kept.sum()), score, iou))
    if not rows:
        return {"sure_score_thresh": 1.0, "sure_iou_thresh": 1.0, "sure_precision": 0.0}
    enough = [row for row in rows if row[0] >= precision]
    best = max(enough, key=lambda row: row[1]) if enough else max(rows)
    return {
        "sure_score_thresh": best[2],
        "sure_iou_thresh": best[3],
        "sure_precision": best[0],
    }
