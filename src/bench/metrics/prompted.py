"""Masks of prompts that were made from the annotation, each against its own object.

Such a model is told where every object is: its scores say how good masks are once something has
found the objects, and are not comparable with those of a model that finds them itself.
"""

import math
from collections.abc import Mapping, Sequence

# Kinds of prompts, and what tables call them.
PROMPTS = {
    "box": "Box",
    "point": "Point",
    "point_box": "Point and box",
    "points": "Points",
}
# IoU above which a mask counts as good, as it is part of a metric's name.
GOOD_IOUS = {"050": 0.5, "075": 0.75}

# Of a section: from the kind of prompt to the IoU of each of its objects.
PromptedIous = Mapping[str, Sequence[float]]


def mean_prompted_iou(kind: str, sections: Sequence[PromptedIous]) -> float:
    """Mean IoU over the objects of all sections; NaN where none was prompted so."""
    ious = _of_kind(kind, sections)
    return math.fsum(ious) / len(ious) if ious else math.nan


def share_above(kind: str, limit: float, sections: Sequence[PromptedIous]) -> float:
    """Share of the objects of all sections with an IoU above a limit; NaN without any."""
    ious = _of_kind(kind, sections)
    return sum(iou > limit for iou in ious) / len(ious) if ious else math.nan


def _of_kind(kind: str, sections: Sequence[PromptedIous]) -> list[float]:
    return [iou for section in sections for iou in section.get(kind, ())]
