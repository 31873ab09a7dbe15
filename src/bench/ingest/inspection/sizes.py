"""Sizes of structures beside those in tissue: a pixel size that is wrong by a power of ten."""

import math
from collections.abc import Sequence

import numpy as np

from bench.ingest.inspection.findings import Finding
from bench.ingest.inspection.measures import MaskMeasures, SectionMeasures
from bench.structures import TISSUE_SIZES

# The median of fewer instances says little.
_FEWEST = 5


def judge_sizes(
    structures: Sequence[str], sections: Sequence[SectionMeasures], pixel_size_nm: float | None
) -> list[Finding]:
    """Finds structures whose size no tissue has, of those in TISSUE_SIZES.

    Args:
        structures: The structures taken.
        sections: All sections.
        pixel_size_nm: Edge of a pixel in nm; without it nothing can be said.
    """
    if pixel_size_nm is None:
        return []
    findings = []
    for structure in structures:
        masks = [s.masks[structure] for s in sections if structure in s.masks]
        usual = TISSUE_SIZES.get(structure)
        size_px = measure_size(masks, usual.measure) if usual else None
        if usual is None or size_px is None:
            continue
        size_nm = size_px * pixel_size_nm
        if not usual.low_nm <= size_nm <= usual.high_nm:
            fact = (
                f"{usual.measure} {_write_length(size_nm)} nm ({size_px:.3g} px of "
                f"{pixel_size_nm:g} nm), plausible are {usual.low_nm:g} to {usual.high_nm:g} nm"
            )
            remedy = "check pixel_size_nm and its unit, and that the masks are of this structure"
            findings.append(Finding("size", fact, remedy, structure=structure))
    return findings


def measure_size(masks: Sequence[MaskMeasures], measure: str) -> float | None:
    """Measures a structure in px; None where there is too little of it.

    Args:
        masks: Its masks.
        measure: ``diameter``: of a circle of the median area. ``thickness``: of a sheet, whose runs
            along a row are on average longer by pi / 2, as they cross it in every direction.
    """
    areas = np.concatenate([np.zeros(0), *(mask.instances.areas for mask in masks)])
    runs = sum(float(mask.instances.runs.sum()) for mask in masks)
    if measure == "thickness":
        return float(areas.sum() / runs * 2 / math.pi) if runs else None
    return 2 * math.sqrt(float(np.median(areas)) / math.pi) if areas.size >= _FEWEST else None


def _write_length(length: float) -> str:
    return f"{length:.0f}" if length >= 100 else f"{length:.2g}"
