"""What is wrong with the masks of a structure, seen over all sections."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.dataset.section_file import SUSPICIOUS_AREA_FACTOR
from bench.ingest.inspection.findings import Finding
from bench.ingest.inspection.measures import SectionMeasures
from bench.structures import find_structure

# Fewer pixels are no object at any pixel size, and less than this share of the median is what
# a slip of the brush leaves.
_FEWEST_PX = 4
_TINY_SHARE = 0.05
# A structure most of whose foreground is in pieces so much larger than its median is a network,
# such as membrane: its pieces are no objects, so none is too large.
_NETWORK_FACTOR = 10
_MOSTLY_FOREGROUND = 0.5
# An inverted mask has about as much foreground as the others have background. A small crop that
# one object fills has not, but for a rare case. In EPFL6, VNC and ISBI 2012 the share of a
# structure differs by at most 0.11 between sections.
_INVERTED_TOLERANCE = 0.15
# By how much the default may be off; 2.3 for the mitochondria of EPFL6.
_WEIGHT_FACTOR = 4


def judge_masks(
    structure: str, sections: Sequence[SectionMeasures], summary: Mapping[str, Any]
) -> list[Finding]:
    """Finds what is wrong with a structure's masks.

    Args:
        structure: Its name.
        sections: All sections, those without a mask of it too.
        summary: Its counts, from `summarise_structure`.
    """
    masked = [section for section in sections if structure in section.masks]
    return [
        *_judge_foreground(structure, summary),
        *_find_inverted(structure, masked),
        *_judge_areas(structure, masked, summary["median_area_px"]),
        *_judge_weight(structure, summary),
    ]


def _judge_foreground(structure: str, summary: Mapping[str, Any]) -> list[Finding]:
    findings = []
    for split, share in summary["foreground_fraction"].items():
        kind, fact = "mostly-foreground", f"{share:.1%} is foreground"
        remedy = "are its masks inverted?"
        if share == 0 and split == "test":
            kind, fact = "no-test", "the masks are empty"
            remedy = "choose other sections: scores would mean nothing"
        elif share == 0:
            kind, fact = "no-foreground", "the masks are empty"
            remedy = "choose other sections, or leave it out with -P structures=..."
        elif share <= _MOSTLY_FOREGROUND:
            continue
        findings.append(Finding(kind, fact, remedy, split=split, structure=structure))
    return findings


def _find_inverted(structure: str, masked: Sequence[SectionMeasures]) -> list[Finding]:
    """Finds masks whose foreground is as large as the background of the others."""
    shares = np.array([section.masks[structure].foreground for section in masked])
    findings = []
    for place in np.flatnonzero(shares > _MOSTLY_FOREGROUND).tolist():
        usual = float(np.median(np.delete(shares, place))) if len(shares) > 1 else 1.0
        if usual > _MOSTLY_FOREGROUND or abs(1 - usual - shares[place]) > _INVERTED_TOLERANCE:
            continue
        section = masked[place]
        fact = f"{shares[place]:.1%} of it is foreground, of the other masks {usual:.1%}"
        remedy = "save it with 0 for background"
        findings.append(_locate("mask-inverted", fact, remedy, structure, section))
    return findings


def _judge_areas(
    structure: str, masked: Sequence[SectionMeasures], training_median: float | None
) -> list[Finding]:
    """Finds instances that are far smaller or larger than the others, section by section.

    Tiny is fewer than 4 px, or less than 5 % of the median area of those that are larger than
    that; instances at the image's edge may be cut by it and do not count. Large is what
    `summarise_structure` calls suspicious; a network has none.
    """
    areas = np.concatenate([np.empty(0), *(s.masks[structure].instances.areas for s in masked)])
    objects = areas[areas >= _FEWEST_PX]
    smallest = float(_FEWEST_PX)
    if objects.size:
        smallest = max(smallest, _TINY_SHARE * float(np.median(objects)))
    largest = np.inf
    if training_median is not None and not is_network(objects):
        largest = SUSPICIOUS_AREA_FACTOR * training_median
    findings = []
    for section in masked:
        instances = section.masks[structure].instances
        tiny = (instances.areas < smallest) & ~instances.at_edge
        large = instances.areas > largest
        if tiny.any():
            fact = f"{tiny.sum()} of {tiny.size} are smaller than {smallest:.0f} px"
            remedy = "delete them in the annotation if they are slips"
            findings.append(_locate("tiny", fact, remedy, structure, section, tiny))
        if large.any():
            fact = f"{large.sum()} of {large.size} are larger than {largest:.0f} px, "
            fact += f"{SUSPICIOUS_AREA_FACTOR} times the training median"
            remedy = "if they are touching objects in one, annotate instances with ids of their own"
            findings.append(_locate("large", fact, remedy, structure, section, large))
    return findings


def is_network(areas: np.ndarray) -> bool:
    """Whether most of a structure's foreground is in pieces far larger than its median."""
    if not areas.size:
        return False
    huge = areas[areas > _NETWORK_FACTOR * np.median(areas)]
    return bool(huge.sum() > areas.sum() / 2)


def _judge_weight(structure: str, summary: Mapping[str, Any]) -> list[Finding]:
    """Finds a default foreground weight that is far from the balance of the training masks."""
    balance = balancing_weight(summary["foreground_fraction"].get("train", 0.0))
    weight = find_structure(structure).foreground_weight
    # One that follows from the frequency is right by itself.
    if weight is None or balance is None:
        return []
    if 1 / _WEIGHT_FACTOR <= balance / weight <= _WEIGHT_FACTOR:
        return []
    fact = f"the default is {weight:g}, background has {balance:.3g} times the pixels of "
    fact += "foreground in train"
    remedy = f"try -P foreground_weight={max(1, round(balance))} with finetune"
    return [Finding("weight", fact, remedy, split="train", structure=structure)]


def balancing_weight(foreground: float) -> float | None:
    """The weight with which foreground counts as much as background; None without either."""
    return (1 - foreground) / foreground if 0 < foreground < 1 else None


def _locate(
    kind: str,
    fact: str,
    remedy: str,
    structure: str,
    section: SectionMeasures,
    chosen: np.ndarray | None = None,
) -> Finding:
    mask = section.masks[structure]
    count = None if chosen is None else int(chosen.sum())
    marks = () if chosen is None else mask.instances.marks(chosen)
    return section.finding(kind, fact, remedy, structure, file=mask.file, count=count, marks=marks)
