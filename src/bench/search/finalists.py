"""The blends that get post-processed, at all thresholds, openings and minimum areas."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial, reduce
from operator import add

import numpy as np

from bench.inference.blends import Blend
from bench.inference.prediction import SectionPrediction
from bench.metrics.curves import LEVELS, ThresholdCounts
from bench.metrics.instances import count_instances_only, count_overlaps
from bench.metrics.overlap import IS_OPEN
from bench.postprocess.ball_opening import are_cubes
from bench.postprocess.instances import open_levels
from bench.search.candidates import Evidence, is_of_pixels
from bench.search.map_search import Histograms, pixel_metric, rank
from bench.search.threshold_counts import DENOMINATOR, NUMERATORS, count_thresholds

# Sections counted at once: each takes about 40 bytes a pixel. Of volumes it is one.
_WORKERS = 2


def count_own_instances(
    prediction: SectionPrediction,
    truth: np.ndarray,
    min_areas: Sequence[int],
    levels: np.ndarray | None = None,
) -> ThresholdCounts:
    """Scores instances at all thresholds 0 .. 255 and minimum areas.

    A threshold takes pixels from them; what is left of one is kept where its area is enough. The
    numbers are those of ``segment_prediction`` at each threshold.

    Args:
        prediction: Maps (y, x) or (z, y, x), with instances.
        truth: Instance ids of the same shape, 0 background.
        min_areas: Smallest areas kept, px, ascending.
        levels: What is not annotated, of the same shape; None where all is.
    """
    assert prediction.instances is not None
    present = np.unique(prediction.foreground[prediction.instances > 0])
    # Between two levels that are there nothing changes.
    reached = np.searchsorted(present, np.arange(LEVELS))
    found = prediction.instances
    masks = (prediction.foreground >= level for level in present)
    count = _count_level if levels is None else partial(_count_level_partly, opened=levels)
    steps = [count(np.where(mask, found, 0), truth, min_areas) for mask in masks]
    steps.append(count(np.zeros_like(found), truth, min_areas))
    instances, predicted_px, true_px, ious = (
        np.stack([step[kind] for step in steps], axis=-1)[..., reached] for kind in range(4)
    )
    matched = np.stack([step[4] for step in steps], axis=-1)[..., reached]
    return ThresholdCounts(
        truth_px=int(np.count_nonzero(truth)),
        truth_instances=int(
            np.count_nonzero(np.unique(truth if levels is None else truth[levels == 0]))
        ),
        instances=instances,
        predicted_px=predicted_px,
        true_px=true_px,
        matched=matched,
        matched_iou=ious,
    )


def _count_level(
    labels: np.ndarray, truth: np.ndarray, min_areas: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Instances, their pixels, the true ones among them, the sum of IoU, and the matches.

    Each by minimum area, (areas,); the matches by IoU as well, (10, areas).
    """
    found = count_overlaps(truth, labels)
    shares = np.bincount(
        found.predicted_index, weights=found.intersections, minlength=len(found.predicted_areas)
    )
    pair_areas = found.predicted_areas[found.predicted_index]
    unions = found.truth_areas[found.truth_index] + pair_areas - found.intersections
    matches = DENOMINATOR * found.intersections > NUMERATORS[:, None] * unions
    ious = np.where(matches[0], found.intersections / unions, 0.0)
    least = np.asarray(min_areas)[:, None]
    kept, kept_pairs = found.predicted_areas >= least, pair_areas >= least
    return (
        kept.sum(axis=1),
        (kept * found.predicted_areas).sum(axis=1),
        (kept * shares).sum(axis=1).astype(np.int64),
        (kept_pairs * ious).sum(axis=1),
        np.stack([(kept_pairs & match).sum(axis=1) for match in matches]),
    )


def _count_level_partly(
    labels: np.ndarray, truth: np.ndarray, min_areas: Sequence[int], opened: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """As ``_count_level`` where not all is annotated; whole instances reach a minimum area."""
    real, left = count_instances_only(truth, labels, opened)
    found = count_overlaps(real, left)
    ids, whole = np.unique(labels[labels != 0], return_counts=True)
    least = np.asarray(min_areas)[:, None]
    annotated = opened != IS_OPEN
    seen, true = (
        np.bincount(np.searchsorted(ids, labels[where]), minlength=ids.size)
        for where in (annotated & (labels != 0), annotated & (labels != 0) & (truth != 0))
    )
    counted = whole[np.searchsorted(ids, np.unique(left[left != 0]))]
    pairs = found.predicted_index
    unions = found.truth_areas[found.truth_index] + found.predicted_areas[pairs]
    unions -= found.intersections
    matches = DENOMINATOR * found.intersections > NUMERATORS[:, None] * unions
    ious = np.where(matches[0], found.intersections / unions, 0.0)
    kept, kept_pairs = whole >= least, counted[pairs] >= least
    return (
        (counted >= least).sum(axis=1),
        (kept * seen).sum(axis=1),
        (kept * true).sum(axis=1),
        (kept_pairs * ious).sum(axis=1),
        np.stack([(kept_pairs & match).sum(axis=1) for match in matches]),
    )


def choose_finalists(found: Histograms, number: int, metric: str) -> list[Blend]:
    """The best blends by pixels, and what they have to be better than.

    That is the best model alone, and it without augmentation. Where the metric is of instances it
    is every model alone: one that separates them may be the best with fewer pixels.

    Args:
        found: Pixel scores of all blends.
        number: How many of the best are taken.
        metric: The metric of the search.
    """
    of_pixels = is_of_pixels(metric)
    ranked = rank(found, pixel_metric(metric))
    alone = [blend for blend in ranked if len(blend.members) == 1]
    plain = [blend for blend in alone if blend.plain]
    best_alone = {blend.members: blend for blend in reversed(alone)}
    others = [*alone[:1], *plain[:1]] if of_pixels else list(best_alone.values())
    return list(dict.fromkeys([*ranked[:number], *others]))


def count_blend(
    evidence: Evidence, blend: Blend, radii: Sequence[int], min_areas: Sequence[int]
) -> dict[int, ThresholdCounts]:
    """Counts a blend over all sections at every threshold and minimum area, per opening.

    Instances that a model finds itself are not opened, so it has one count, at radius 0; nor are
    volumes whose voxels are not known to be cubes, where a ball of voxels is none.
    """

    def count(section: str) -> dict[int, ThresholdCounts]:
        prediction, truth = evidence.blend(blend, section), evidence.read_truth(section)
        opened = evidence.read_levels(section)
        if prediction.instances is not None:
            return {0: count_own_instances(prediction, truth, min_areas, opened)}
        opens = truth.ndim == 2 or are_cubes(evidence.voxel_size_nm)
        smoothed = (
            (radius, open_levels(prediction.foreground, radius_px=radius))
            for radius in (radii if opens else (0,))
        )
        return {
            radius: count_thresholds(levels, truth, min_areas, opened)
            for radius, levels in smoothed
        }

    with ThreadPoolExecutor(_WORKERS if evidence.voxel_size_nm is None else 1) as pool:
        counted = list(pool.map(count, evidence.sections))
    return {radius: reduce(add, (each[radius] for each in counted)) for radius in counted[0]}


def count_all(
    evidence: Evidence,
    blends: Sequence[Blend],
    radii: Sequence[int],
    min_areas: Sequence[int],
    report: Callable[[int, int, str], None],
) -> dict[Blend, dict[int, ThresholdCounts]]:
    """Counts several blends."""
    found = {}
    for number, blend in enumerate(blends, start=1):
        found[blend] = count_blend(evidence, blend, radii, min_areas)
        report(number, len(blends), "post-processing")
    return found
