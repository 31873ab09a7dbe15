"""Scores of a prediction against the truth, one row each.

A row of ``METRICS`` says all that the suite knows of a metric: what is measured of a section and
how the sum over sections becomes a score, how it is shown and compared, and whether a search may
choose by it. Whoever scores, searches, tabulates or draws asks the row. In all rows of this table
that score a share both-empty is 1 and one-empty is 0; errors of pairs are not defined without one.

What is scored is a section (y, x), or in a dataset of volumes a whole volume (z, y, x).
"""

import math
import re
from collections.abc import Container, Iterable, Mapping
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from bench.errors import BenchError, unknown_name
from bench.metrics.consistency import (
    error_of_prediction,
    error_of_truth,
    mean_object_iou,
    object_consistency_error,
)
from bench.metrics.curves import average_precision
from bench.metrics.distances import (
    count_far_predicted,
    count_far_true,
    false_distance_hausdorff,
    false_distance_mean,
    mean_distance_of_prediction,
    mean_distance_of_truth,
    mean_over_units,
)
from bench.metrics.instances import (
    instance_f1,
    instance_f1_mean,
    instance_precision,
    instance_recall,
    panoptic_quality,
)
from bench.metrics.matched import mean_matched_iou
from bench.metrics.measures import (
    Measure,
    ScoredSection,
    dice_of_masks,
    mean_iou,
    measure_classes,
    measure_consistency,
    measure_distances_nm,
    measure_distances_px,
    measure_histogram,
    measure_mask_pixels,
    measure_matched_overlap,
    measure_matching,
    measure_pixels,
    measure_vesicles,
    pool_vesicles,
)
from bench.metrics.metric import Metric
from bench.metrics.overlap import dice_score, iou_score, precision_score, recall_score
from bench.metrics.prompted import prompted_rows
from bench.metrics.vesicles import (
    centre_error_nm,
    diameter_error,
    vesicle_f1,
    vesicle_precision,
    vesicle_recall,
)
from bench.structures import split_names
from bench.words import NONE

# What is compared and drawn where the user names no other, and ranks sections for their pictures.
HEADLINE = "dice"
# A name is part of MLflow's names and a column of CSV files.
_NAME = re.compile("[a-z][a-z0-9_]*")

# What two directed distances are made of, in px and in nm.
_LARGEST, _MEAN = (
    f"Mean of the {which} distances to truth and back to prediction, mean of images with both."
    for which in ("largest", "mean")
)
_of_pixels = partial(Metric, measure=measure_pixels, basis="pixels")
_of_instances = partial(Metric, measure=measure_matching, basis="instances")
_of_vesicles = partial(
    Metric, measure=measure_vesicles, basis="instances", volumes=True, about="vesicle"
)
_distance = partial(
    Metric, basis="pixels", direction="lower", high=math.inf, decimals=2, requested=True
)
_distance_px = partial(_distance, measure=measure_distances_px, unit="px")
_distance_nm = partial(_distance, measure=measure_distances_nm, unit="nm")
_of_objects = partial(Metric, measure=measure_consistency, basis="instances", requested=True)
_object_error = partial(_of_objects, direction="lower")
_far_voxels = partial(_distance, measure=measure_distances_nm, unit="voxels", decimals=0)

# A new metric is one row here, its functions, and a test.
METRICS: dict[str, Metric] = {
    "dice": _of_pixels(
        "Dice",
        "2 TP / (2 TP + FP + FN) over pixels.",
        dice_score,
        lambda n: (2 * n.true_px, n.predicted_px + n.truth_px),
    ),
    "iou": _of_pixels(
        "IoU",
        "TP / (TP + FP + FN) over pixels.",
        iou_score,
        lambda n: (n.true_px, n.predicted_px + n.truth_px - n.true_px),
    ),
    "precision": _of_pixels(
        "Precision",
        "TP / (TP + FP) over pixels.",
        precision_score,
        lambda n: (n.true_px, n.predicted_px),
        short="Prec.",
    ),
    "recall": _of_pixels(
        "Recall", "TP / (TP + FN) over pixels.", recall_score, lambda n: (n.true_px, n.truth_px)
    ),
    "instance_precision": _of_instances(
        "Inst. precision",
        "Predicted instances with a match at IoU > 0.5.",
        instance_precision,
        lambda n: (n.matched[0], n.instances),
        column=False,
    ),
    "instance_recall": _of_instances(
        "Inst. recall",
        "Instances of the truth with a match at IoU > 0.5.",
        instance_recall,
        lambda n: (n.matched[0], n.truth_instances),
        column=False,
    ),
    "instance_f1": _of_instances(
        "Inst. F1",
        "F1 of instances matched at IoU > 0.5.",
        instance_f1,
        lambda n: (2 * n.matched[0], n.instances + n.truth_instances),
    ),
    "instance_f1_mean": _of_instances(
        "Inst. F1 (mean)",
        "Instance F1, mean over IoU > 0.50, 0.55 .. 0.95.",
        instance_f1_mean,
        lambda n: (2 * n.matched.mean(axis=0), n.instances + n.truth_instances),
        column=False,
    ),
    "panoptic_quality": _of_instances(
        "PQ",
        "Instance F1 at IoU > 0.5 times the mean IoU of the matches.",
        panoptic_quality,
        lambda n: (2 * n.matched_iou, n.instances + n.truth_instances),
        column=False,
    ),
    "average_precision": Metric(
        "Average precision",
        "Precision over pixels, averaged over recall.",
        average_precision,
        measure=measure_histogram,
        basis="probability",
        column=False,
    ),
    "mask_dice": Metric(
        "Mask Dice",
        "Dice of the voxels that reached the threshold, before spheres were found in them.",
        dice_of_masks,
        measure=measure_mask_pixels,
        basis="pixels",
        volumes=True,
    ),
    "vesicle_recall": _of_vesicles(
        "Vesicle recall",
        "Vesicles of the truth with a partner: a ball each of which holds the other's centre.",
        pool_vesicles(vesicle_recall),
    ),
    "vesicle_precision": _of_vesicles(
        "Vesicle precision",
        "Predicted vesicles with a partner: a ball each of which holds the other's centre.",
        pool_vesicles(vesicle_precision),
        short="Vesicle\nprec.",
    ),
    "vesicle_f1": _of_vesicles(
        "Vesicle F1",
        "F1 of vesicles paired by mutual centres.",
        pool_vesicles(vesicle_f1),
    ),
    "diameter_error": _of_vesicles(
        "Diameter error",
        "1 less the ratio of the smaller to the larger diameter, mean over paired vesicles.",
        pool_vesicles(diameter_error),
        direction="lower",
    ),
    "centre_error_nm": _of_vesicles(
        "Centre error",
        "Distance of the centres of paired vesicles, mean.",
        pool_vesicles(centre_error_nm),
        direction="lower",
        high=math.inf,
        unit="nm",
        decimals=2,
    ),
    "false_distance_px": _distance_px("MFD", _LARGEST, mean_over_units(false_distance_hausdorff)),
    "false_distance_nm": _distance_nm("MFD", _LARGEST, mean_over_units(false_distance_hausdorff)),
    "false_distance_mean_px": _distance_px(
        "MFD (mean)", _MEAN, mean_over_units(false_distance_mean)
    ),
    "false_distance_mean_nm": _distance_nm(
        "MFD (mean)", _MEAN, mean_over_units(false_distance_mean)
    ),
    "cremi_score": _distance_nm(
        "CREMI score", "Mean of ADGT and ADF.", mean_over_units(false_distance_mean)
    ),
    "cremi_adgt": _distance_nm(
        "ADGT",
        "Mean distance of predicted voxels to the truth, mean of images with both.",
        mean_over_units(mean_distance_of_prediction),
    ),
    "cremi_adf": _distance_nm(
        "ADF",
        "Mean distance of voxels of the truth to the prediction, mean of images with both.",
        mean_over_units(mean_distance_of_truth),
    ),
    "cremi_fp": _far_voxels(
        "CREMI FP", "Predicted voxels more than 200 nm from the truth.", count_far_predicted
    ),
    "cremi_fn": _far_voxels(
        "CREMI FN", "Voxels of the truth more than 200 nm from a predicted one.", count_far_true
    ),
    "matched_iou": Metric(
        "Matched IoU",
        "IoU of the truth with those predicted instances that touch it, mean of the images.",
        mean_matched_iou,
        measure=measure_matched_overlap,
        basis="pixels",
        requested=True,
    ),
    "object_consistency_error": _object_error(
        "OCE",
        "The smaller of both object-level consistency errors, as published: see OCE (truth).",
        object_consistency_error,
    ),
    "object_error_truth": _object_error(
        "OCE (truth)",
        "Area of the truth's objects that none of the same shape covers: what is missed costs.",
        error_of_truth,
    ),
    "object_error_prediction": _object_error(
        "OCE (prediction)",
        "The same of the predicted objects: what is not there costs.",
        error_of_prediction,
    ),
    "object_iou": _of_objects(
        "Object IoU",
        "IoU of each object of the truth with the most alike predicted one, mean over objects.",
        mean_object_iou,
    ),
    "mean_iou": Metric(
        "Mean IoU",
        "IoU of each structure of a model of classes, of the most probable class, and their mean.",
        mean_iou,
        measure=measure_classes,
        basis="pixels",
        classes=True,
    ),
    **prompted_rows(),
}


def find_metric(name: str) -> Metric:
    """Returns the metric of a name.

    Raises:
        BenchError: If the table has no such name.
    """
    if name not in METRICS:
        raise unknown_name("metric", name, METRICS)
    return METRICS[name]


def register_metric(name: str, row: Metric) -> None:
    """Adds a row to ``METRICS``; the same row twice is one.

    Args:
        name: Of small letters, digits and underscores: a column of CSV files, a part of the names
            in MLflow.
        row: The metric.

    Raises:
        BenchError: If the name is another metric's, or none for a metric.
    """
    if not _NAME.fullmatch(name):
        raise BenchError(
            f"the name of a metric is of small letters, digits and _, received {name!r}: rename it"
        )
    if METRICS.setdefault(name, row) != row:
        raise BenchError(
            f"a metric's name is free, {name!r} is {METRICS[name].label}: register "
            f"{row.label} under another name"
        )


def searchable_metrics() -> tuple[str, ...]:
    """Names of the metrics that a search may choose by."""
    return tuple(name for name, row in METRICS.items() if row.search)


def scored_metrics(
    structure: str,
    *,
    volumes: bool,
    requested: Iterable[str] = (),
    classes: bool = False,
    prompted: bool = False,
) -> tuple[str, ...]:
    """Names of the metrics that are asked of a structure, in sections or in whole volumes.

    What a step scores is part of its run's identity: a metric of volumes, or of vesicles alone, or
    one that is scored on request, leaves the finished runs of everything else as they are.

    Args:
        structure: Its name.
        volumes: Whether whole volumes are scored.
        requested: Names of the metrics that the user asks for besides.
        classes: Whether the model has classes, all of which are annotated.
        prompted: Whether the model is prompted by the annotation.
    """
    asked = set(requested)
    return tuple(
        name
        for name, row in METRICS.items()
        if row.about in structure
        and (volumes or not row.volumes)
        and (name in asked or not row.requested)
        and (classes or not row.classes)
        and (prompted or not row.prompted)
    )


def requested_metrics(patterns: str, structure: str, *, volumes: bool) -> tuple[str, ...]:
    """The metrics scored on request that a user names.

    Args:
        patterns: Names, comma-separated, ``*`` for anything: ``cremi_*,matched_iou``; or none.
        structure: The structure that is scored.
        volumes: Whether whole volumes are.

    Raises:
        BenchError: If a name is no metric's, or one's that is not asked of this structure, or of
            sections.
    """
    if patterns == NONE:
        return ()
    there = scored_metrics(structure, volumes=volumes, requested=METRICS)
    chosen = set()
    for pattern in split_names(patterns):
        found = [name for name in there if fnmatchcase(name, pattern)]
        if not found:
            raise unknown_name(f"metric of {structure}", pattern, there)
        chosen.update(found)
    return tuple(name for name in there if name in chosen and METRICS[name].requested)


def usual_metrics() -> tuple[str, ...]:
    """Names of all metrics but those of classes, of prompts, and what is scored on request."""
    left_out = {n for n, row in METRICS.items() if row.requested or row.classes or row.prompted}
    return tuple(name for name in METRICS if name not in left_out)


def table_columns(shown: Iterable[Container[str]] | None = None) -> dict[str, Metric]:
    """The metrics that are columns of a table, in its order.

    Args:
        shown: Of each row of the table what it has scores of: a metric of volumes, or one that is
            scored on request, is a column where a row has it. None for all that may be columns.
    """
    rows = None if shown is None else list(shown)
    return {
        name: row
        for name, row in METRICS.items()
        if row.column and (rows is None or not row.rare or any(name in each for each in rows))
    }


def measure_section(section: ScoredSection, names: Iterable[str]) -> dict[Measure, Any]:
    """Measures a section for some metrics, once for those that share what is measured."""
    measures = dict.fromkeys(METRICS[name].measure for name in names)
    return {measure: measure(section) for measure in measures}


def finish_scores(measured: Mapping[Measure, Any], names: Iterable[str]) -> dict[str, float]:
    """The scores of what was measured of a section, or added up over several.

    Args:
        measured: By the function that measured it.
        names: The metrics to finish.

    Returns:
        Metric -> score, without those that are not defined.
    """
    rows = {name: METRICS[name] for name in names}
    scores = {name: float(row.finish(measured[row.measure])) for name, row in rows.items()}
    return {name: score for name, score in scores.items() if math.isfinite(score)}
