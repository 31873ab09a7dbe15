"""Grey values compared: inverted sections, masks of other images, splits that differ."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from bench.dataset.prepared import SPLITS, UNLABELLED
from bench.ingest.inspection.findings import Finding
from bench.ingest.inspection.measures import MaskMeasures, SectionMeasures

# In deviations of the raw image. Every structure of EPFL6, VNC and ISBI 2012 is 0.75 to 1.5
# darker than the rest in every section.
_CLEAR_CONTRAST = 0.3
# A mask with less of the usual contrast is not of this image; in the same data at least 0.65.
_CONTRAST_SHARE = 1 / 3
_FEWEST_SECTIONS = 3
# Neighbours of VNC correlate with 0.32 or more, of ISBI 2012 with 0.05 to 0.34.
_CLEAR_CORRELATION = 0.2
# In deviations of the raw image: at most 0.2 between the splits of EPFL6, VNC and ISBI 2012, and
# 0.8 between a section of the latter and the others.
_SPLIT_DRIFT = 0.5
_SECTION_DRIFT = 1.5
_SPLIT_SPREAD = 1.5
_SECTION_SPREAD = 2.0


def shows_contrast(masks: Iterable[MaskMeasures]) -> bool:
    """Whether a mask of a section says how bright its structure is there."""
    return any(abs(mask.contrast or 0) >= _CLEAR_CONTRAST for mask in masks)


def judge_contrast(
    sections: Sequence[SectionMeasures],
    correlations: Sequence[float | None],
    inverted_masks: set[tuple[str, str]],
) -> list[Finding]:
    """Finds sections whose grey values do not fit their masks or the other sections.

    Args:
        sections: All sections.
        correlations: Of each with the one before; None where they cannot be compared.
        inverted_masks: Section and structure of masks that are inverted themselves.
    """
    usual = _usual_contrasts(sections, inverted_masks)
    inverted = find_inverted_raw(sections, correlations, inverted_masks)
    elsewhere = _find_foreign_masks(sections, usual, inverted_masks)
    return [*inverted, *elsewhere, *_judge_depths(sections), *_judge_grey(sections)]


def _usual_contrasts(
    sections: Sequence[SectionMeasures], leave_out: Collection[tuple[str, str]]
) -> dict[str, float]:
    """The median contrast of every structure that is clearly darker or brighter than the rest."""
    found: dict[str, list[float]] = {}
    for section in sections:
        for structure, mask in section.masks.items():
            if mask.contrast is not None and (section.name, structure) not in leave_out:
                found.setdefault(structure, []).append(mask.contrast)
    medians = {structure: float(np.median(values)) for structure, values in found.items()}
    return {key: value for key, value in medians.items() if abs(value) >= _CLEAR_CONTRAST}


def find_inverted_raw(
    sections: Sequence[SectionMeasures],
    correlations: Sequence[float | None],
    leave_out: Collection[tuple[str, str]] = (),
) -> list[Finding]:
    """Finds the fewer of two kinds of section: structures dark in one, bright in the other.

    A section whose masks say nothing goes by its correlation with the one before.

    Args:
        sections: All sections.
        correlations: Of each with the one before; None where they cannot be compared.
        leave_out: Section and structure of masks that say nothing about it.
    """
    usual = _usual_contrasts(sections, leave_out)
    signs: list[int] = []
    reasons: list[str] = []
    for section, correlation in zip(sections, correlations, strict=True):
        clear = {
            structure: mask.contrast * np.sign(usual[structure])
            for structure, mask in section.masks.items()
            if structure in usual
            and mask.contrast is not None
            and (section.name, structure) not in leave_out
        }
        structure = max(clear, key=lambda name: abs(clear[name]), default="")
        if clear and abs(clear[structure]) >= _CLEAR_CONTRAST:
            signs.append(int(np.sign(clear[structure])))
            bright = "brighter" if (section.masks[structure].contrast or 0) > 0 else "darker"
            reasons.append(f"{structure} is {bright} than the rest, elsewhere the contrary")
        elif correlation is not None and abs(correlation) >= _CLEAR_CORRELATION and signs:
            signs.append(signs[-1] * int(np.sign(correlation)))
            reasons.append(f"it correlates with {correlation:.2f} with the section before")
        else:
            signs.append(0)
            reasons.append("")
    fewer = -1 if signs.count(-1) <= signs.count(1) else 1
    return [
        section.finding("raw-inverted", reason, "invert it, so that all sections are alike")
        for section, sign, reason in zip(sections, signs, reasons, strict=True)
        if sign == fewer and -fewer in signs
    ]


def _find_foreign_masks(
    sections: Sequence[SectionMeasures], usual: dict[str, float], leave_out: set[tuple[str, str]]
) -> list[Finding]:
    """Finds masks under which the raw image hardly differs from the rest of it."""
    findings = []
    counts = Counter(s for section in sections for s, m in section.masks.items() if m.contrast)
    for section in sections:
        for structure, mask in section.masks.items():
            if mask.contrast is None or structure not in usual:
                continue
            few = counts[structure] < _FEWEST_SECTIONS
            clear = abs(mask.contrast) >= _CONTRAST_SHARE * abs(usual[structure])
            if few or clear or (section.name, structure) in leave_out:
                continue
            fact = f"the structure differs from the rest by {mask.contrast:+.2f} deviations, "
            fact += f"elsewhere by {usual[structure]:+.2f}"
            remedy = "is it the mask of this image, neither shifted nor mirrored?"
            findings.append(
                section.finding("mask-elsewhere", fact, remedy, structure, file=mask.file)
            )
    return findings


def _judge_depths(sections: Sequence[SectionMeasures]) -> list[Finding]:
    counts = Counter(section.raw.dtype for section in sections if section.raw is not None)
    if len(counts) < 2:
        return []
    received = ", ".join(f"{count} of {dtype}" for dtype, count in counts.most_common())
    remedy = "export all from the microscope's files in the same way"
    return [Finding("depth", f"there are {received}", remedy)]


def _judge_grey(sections: Sequence[SectionMeasures]) -> list[Finding]:
    measured = [s for s in sections if s.raw is not None and s.look is not None]
    if not measured:
        return []
    grey = np.array([(s.raw.mean, s.raw.deviation) for s in measured if s.raw is not None])
    splits = np.array([section.split for section in measured])
    present = [split for split in (*SPLITS, UNLABELLED) if split in splits]
    medians = {split: np.median(grey[splits == split], axis=0) for split in present}
    findings = []
    for section, values in zip(measured, grey, strict=True):
        fact = _describe_drift(values, medians[section.split], _SECTION_DRIFT, _SECTION_SPREAD)
        if fact:
            fact += f" of the median section of {section.split}"
            findings.append(
                section.finding("contrast", fact, "was it taken or exported differently?")
            )
    first, *others = medians
    for split in others:
        fact = _describe_drift(medians[split], medians[first], _SPLIT_DRIFT, _SPLIT_SPREAD)
        if fact:
            remedy = "expect lower scores there, or take every split from all recordings"
            findings.append(Finding("drift", f"{fact} of {first}", remedy, split=split))
    return findings


def _describe_drift(
    values: Sequence[float], usual: Sequence[float], drift: float, spread: float
) -> str:
    """Says how mean and deviation differ from usual ones, if they do; else is empty."""
    mean, deviation = values
    apart = abs(mean - usual[0]) / max(usual[1], 1e-30)
    ratio = max(deviation, 1e-30) / max(usual[1], 1e-30)
    if apart <= drift and 1 / spread <= ratio <= spread:
        return ""
    return (
        f"mean {mean:.4g} and deviation {deviation:.4g} against {usual[0]:.4g} and {usual[1]:.4g}"
    )
