"""Counts per structure for the manifest."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.dataset.splits import SPLITS

SUSPICIOUS_AREA_FACTOR = 3
INSTANCES_RULE = (
    "masks with one foreground value: 4-connected components; masks with several: their ids"
)
SUSPICIOUS_RULE = (
    f"area above {SUSPICIOUS_AREA_FACTOR} times the median area of the structure's training "
    "instances: perhaps touching objects in one"
)


@dataclass(frozen=True, eq=False)
class MaskCounts:
    """What is counted in one mask.

    Attributes:
        split: Split of its section.
        areas: Areas of its instances in px.
        pixels: Pixels of the section.
        kind: ``binary``, ``ids`` or ``empty``, as `read_instances` says.
    """

    split: str
    areas: np.ndarray
    pixels: int
    kind: str


def summarise_structure(masks: Sequence[MaskCounts]) -> dict[str, Any]:
    """Counts a structure's instances by split.

    Instances whose area is more than three times the median of the training split's are counted
    as suspicious: touching objects that a mask drew as one. None are where that split is empty.

    Args:
        masks: The structure's masks.

    Returns:
        The structure's entry of the manifest; a split without masks of it has no count.
    """
    splits = [split for split in SPLITS if any(mask.split == split for mask in masks)]
    areas = {
        split: np.concatenate([mask.areas for mask in masks if mask.split == split])
        for split in splits
    }
    pixels = {split: sum(mask.pixels for mask in masks if mask.split == split) for split in splits}
    training = areas.get("train", np.empty(0))
    median = float(np.median(training)) if training.size else None
    limit = np.inf if median is None else SUSPICIOUS_AREA_FACTOR * median
    return {
        "instances": {split: int(areas[split].size) for split in splits},
        "foreground_fraction": {
            split: float(areas[split].sum() / pixels[split]) for split in splits
        },
        "suspicious": {split: int((areas[split] > limit).sum()) for split in splits},
        "median_area_px": median,
        "masks": dict(Counter(mask.kind for mask in masks)),
    }


def warn_of_instances(structure: str, summary: dict[str, Any]) -> list[str]:
    """Returns warnings on how a structure's instances came about."""
    warnings = []
    suspicious, instances = (sum(summary[key].values()) for key in ("suspicious", "instances"))
    if suspicious:
        warnings.append(
            f"{structure}: {suspicious} of {instances} instances are larger than "
            f"{SUSPICIOUS_AREA_FACTOR} times the training median: perhaps touching objects in one"
        )
    masks = summary["masks"]
    if "binary" in masks and "ids" in masks:
        warnings.append(
            f"{structure}: {masks['binary']} masks have one value and were cut into connected "
            f"components, {masks['ids']} have several and keep their ids"
        )
    return warnings
