"""Masks of prompts that were made from the annotation, each against its own object.

Such a model is told where every object is: its scores say how good masks are once something has
found the objects, and are not comparable with those of a model that finds them itself.
"""

import math
from collections.abc import Sequence
from functools import partial

from bench.metrics.measures import PromptedIous, measure_prompted
from bench.metrics.metric import Metric

# Kinds of prompts, and what tables call them.
PROMPTS = {
    "box": "Box",
    "point": "Point",
    "point_box": "Point and box",
    "points": "Points",
}
# IoU above which a mask counts as good, as it is part of a metric's name.
GOOD_IOUS = {"050": 0.5, "075": 0.75}

_of_prompts = partial(Metric, measure=measure_prompted, basis="instances", prompted=True)


def _mean_iou(kind: str, sections: Sequence[PromptedIous]) -> float:
    """Mean IoU over the objects of all sections; NaN where none was prompted so."""
    ious = _of_kind(kind, sections)
    return math.fsum(ious) / len(ious) if ious else math.nan


def _share_above(kind: str, limit: float, sections: Sequence[PromptedIous]) -> float:
    """Share of the objects of all sections with an IoU above a limit; NaN without any."""
    ious = _of_kind(kind, sections)
    return sum(iou > limit for iou in ious) / len(ious) if ious else math.nan


def _of_kind(kind: str, sections: Sequence[PromptedIous]) -> list[float]:
    return [iou for section in sections for iou in section.get(kind, ())]


def prompted_rows() -> dict[str, Metric]:
    """The rows of METRICS: of each kind of prompt one column, and how many masks are good."""
    means = {
        f"{kind}_iou": _of_prompts(
            f"{label} IoU",
            "IoU of each object's mask with the object that its prompt was made from, mean over "
            "objects.",
            partial(_mean_iou, kind),
        )
        for kind, label in PROMPTS.items()
    }
    shares = {
        f"{kind}_above_{written}": _of_prompts(
            f"{label} IoU > {limit:g}",
            f"Share of objects whose mask has an IoU above {limit:g} with its own object.",
            partial(_share_above, kind, limit),
            column=False,
        )
        for kind, label in PROMPTS.items()
        for written, limit in GOOD_IOUS.items()
    }
    return means | shares
