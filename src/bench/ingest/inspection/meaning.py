"""What the masks of a structure mean: ids as a rule, else grey, classes, or a label of nothing."""

from collections.abc import Sequence

import numpy as np

from bench.core.names import first_names
from bench.ingest.inspection.findings import Finding
from bench.ingest.inspection.measures import MaskMeasures, SectionMeasures
from bench.ingest.inspection.values import FEWEST_PIECES

# Of a grey mask more than half of the values are rims, and these are three or more: smoothing
# leaves as many levels, and drawn classes may have one or two that are thin. In EPFL6, VNC and
# ISBI 2012, resized, blurred or saved as JPEG, at least three quarters are; of true ids, even of
# vesicles at an eighth of their size, less than a tenth.
_FEWEST_RIMS = 3
# Of the pixels at outlines; ids of EPFL6 and VNC that were resized with interpolation have 0.21 or
# more, true ones 0.06 at most, at an eighth of their size.
_MOST_SPECKS = 0.15
# Programs write the largest number of a type where nobody annotated.
_IGNORE_VALUES = (255, 2**16 - 1, 2**32 - 1)
_MOST_IDS = 127
_MIDDLE_GREYS = {127, 128}
# An image that is all objects has many ids; a mask of so few values has classes.
_MOST_CLASSES = 8
# Up to here whole numbers are one by one.
_LARGEST_EXACT = {"float16": 2**11, "float32": 2**24}
_SHOWN = 4


def judge_meaning(
    structure: str, sections: Sequence[SectionMeasures], structures: Sequence[str]
) -> list[Finding]:
    """Finds masks whose values are not, or may not be, what they are taken for.

    Args:
        structure: Their structure.
        sections: All sections, those without a mask of it too.
        structures: All structures that are taken.
    """
    masked = [
        (section, section.masks[structure]) for section in sections if structure in section.masks
    ]
    painted = [(section, mask) for section, mask in masked if not mask.drawn]
    option = "structures=" + ("all," if len(structures) > 1 else "")
    wrong = [
        *(_find_grey(structure, section, mask) for section, mask in painted),
        _find_no_background(structure, [mask for _, mask in painted], option),
        *_find_ignored(structure, painted, option),
    ]
    if found := [finding for finding in wrong if finding is not None]:
        return found
    unsure = [
        *(_find_merged(structure, section, mask) for section, mask in painted),
        *(_find_scattered(structure, section, mask, option) for section, mask in masked),
    ]
    return [finding for finding in unsure if finding is not None]


def _find_grey(structure: str, section: SectionMeasures, mask: MaskMeasures) -> Finding | None:
    """Finds values that smoothing or JPEG left around objects: most of them, or many pixels."""
    values = mask.values
    fact = f"mask {mask.file} must hold 0 and 1, or ids, received {values.values.size} "
    if values.rims >= max(_FEWEST_RIMS, values.objects.size // 2 + 1):
        fact += f"grey values, {values.rims} of them only in rims around others"
        remedy = (
            "threshold it at half of its largest value, and save masks without JPEG or smoothing"
        )
    elif values.specks > _MOST_SPECKS:
        fact += f"values between which {values.specks:.0%} of the pixels at outlines differ from "
        fact += "all around them"
        remedy = "export it again, and resize ids without interpolation (nearest neighbour)"
    else:
        return None
    return section.finding("grey-mask", fact, remedy, structure, file=mask.file)


def _find_no_background(
    structure: str, masks: Sequence[MaskMeasures], option: str
) -> Finding | None:
    """Finds masks of few values, none of which is 0: classes, as ilastik counts them from 1."""
    areas: dict[int, int] = {}
    for mask in masks:
        for value, area in zip(
            mask.values.values.tolist(), mask.values.areas.tolist(), strict=True
        ):
            areas[value] = areas.get(value, 0) + area
        if 0 in areas or len(areas) > _MOST_CLASSES:
            return None
    if not areas:
        return None
    total = sum(areas.values())
    shares = [f"{value} ({area / total:.1%})" for value, area in sorted(areas.items())]
    fact = f"masks must have 0 for background, received {' and '.join(shares)} and no 0 in "
    fact += first_names(sorted({mask.file for mask in masks}))
    # The largest class is background most probably.
    likely = sorted(areas, key=lambda value: areas[value])
    options = " or ".join(f"-P {option}{value}={structure}" for value in likely)
    remedy = f"say which value is {structure}: {options}"
    if len(areas) == 1:
        remedy = "save them with 0 where the structure is not, or leave them out"
    return Finding("no-background", fact, remedy, structure=structure, file=masks[0].file)


def _find_ignored(
    structure: str, painted: Sequence[tuple[SectionMeasures, MaskMeasures]], option: str
) -> list[Finding]:
    """Finds the largest number of a type beside ids, or classes, that are far smaller."""
    values = [mask.values.objects for _, mask in painted]
    together = np.unique(np.concatenate([np.zeros(0, np.int64), *values]))
    if together.size < 2 or int(together[-1]) not in _IGNORE_VALUES:
        return []
    largest = int(together[-1])
    if not _are_small(together[:-1], largest):
        return []
    findings = []
    for section, mask in painted:
        *small, last = mask.values.objects.tolist() or [0]
        if not small or last != largest:
            continue
        share = float(mask.values.areas[-1] / mask.values.areas.sum())
        fact = f"mask {mask.file} must hold 0 and 1, or ids, received {largest} ({share:.1%} of "
        fact += f"it) beside {', '.join(map(str, small[:_SHOWN]))}"
        fact += ", ..." if len(small) > _SHOWN else ""
        remedy = _explain_ignored(structure, small, largest, option)
        findings.append(section.finding("ignore-label", fact, remedy, structure, file=mask.file))
    return findings


def _explain_ignored(structure: str, small: list[int], largest: int, option: str) -> str:
    remedy = f"is {largest} an ignore label? Give -P ignore={largest}; if it is background, "
    if len(small) > _SHOWN:
        return remedy + "save it as 0; if it is an object, give it the next id"
    known = f"-P {option}" + ",".join(f"{value}={structure}" for value in small)
    return remedy + f"give {known}; if it is {structure} too, {known},{largest}={structure}"


def _are_small(others: np.ndarray, largest: int) -> bool:
    """Whether values are the first few, so that the largest of a type is none of their row."""
    if largest > _IGNORE_VALUES[0]:
        return bool(others[-1] <= largest // 2)
    if set(others.tolist()) <= _MIDDLE_GREYS:
        return True
    return bool(others[-1] <= min(2 * others.size + 1, _MOST_IDS))


def _find_merged(structure: str, section: SectionMeasures, mask: MaskMeasures) -> Finding | None:
    """Finds ids beyond what their type can tell apart."""
    limit = _LARGEST_EXACT.get(mask.values.dtype)
    largest = int(mask.values.values[-1])
    if limit is None or largest < limit:
        return None
    fact = f"mask {mask.file} holds ids up to {largest} as {mask.values.dtype}, which tells whole "
    fact += f"numbers apart below {limit} only, so that objects were merged when it was saved"
    remedy = "save the ids as uint32, or number them from 1"
    return section.finding("ids-merged", fact, remedy, structure, file=mask.file)


def _find_scattered(
    structure: str, section: SectionMeasures, mask: MaskMeasures, option: str
) -> Finding | None:
    """Finds ids that are in many pieces, as if several objects had been painted with one."""
    scattered = mask.values.scattered
    if not scattered:
        return None
    worst = max(scattered, key=lambda value: scattered[value])
    fact = f"id {worst} is in {scattered[worst]} separate pieces"
    if len(scattered) > 1:
        fact += f" ({len(scattered)} ids are in {FEWEST_PIECES} or more)"
    remedy = "if they are objects of their own, give each an id of its own, or save the mask as 0 "
    remedy += "and 1 so that every piece is an instance"
    if 1 < len(scattered) == mask.values.objects.size <= _MOST_CLASSES:
        remedy += f"; if values are classes, name them, as in -P {option}{worst}={structure}"
    marks = mask.instances.marks(np.isin(mask.instances.ids, list(scattered)))
    return section.finding(
        "one-id", fact, remedy, structure, file=mask.file, count=len(scattered), marks=marks
    )
