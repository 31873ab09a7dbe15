"""The blends that get post-processed, at all thresholds, openings and minimum areas."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from operator import add

from bench.inference.blends import Blend
from bench.postprocess.instances import open_levels
from bench.search.candidates import PIXEL_METRICS
from bench.search.evidence import Evidence
from bench.search.map_search import RANKED_BY, Histograms, rank
from bench.search.own_instances import count_own_instances
from bench.search.threshold_counts import ThresholdCounts, count_thresholds

# Sections counted at once: each takes about 40 bytes a pixel.
WORKERS = 2


def choose_finalists(found: Histograms, number: int, metric: str) -> list[Blend]:
    """The best blends by pixels, and what they have to be better than.

    That is the best model alone, and it without augmentation. Where the metric is of instances it
    is every model alone: one that separates them may be the best with fewer pixels.

    Args:
        found: Pixel scores of all blends.
        number: How many of the best are taken.
        metric: The metric of the search.
    """
    of_pixels = metric in PIXEL_METRICS
    ranked = rank(found, metric if of_pixels else RANKED_BY)
    alone = [blend for blend in ranked if len(blend.members) == 1]
    plain = [blend for blend in alone if blend.plain]
    best_alone = {blend.members: blend for blend in reversed(alone)}
    others = [*alone[:1], *plain[:1]] if of_pixels else list(best_alone.values())
    return list(dict.fromkeys([*ranked[:number], *others]))


def count_blend(
    evidence: Evidence, blend: Blend, radii: Sequence[int], min_areas: Sequence[int]
) -> dict[int, ThresholdCounts]:
    """Counts a blend over all sections at every threshold and minimum area, per opening.

    Instances that a model finds itself are not opened, so it has one count, at radius 0.
    """

    def count(section: str) -> dict[int, ThresholdCounts]:
        prediction, truth = evidence.blend(blend, section), evidence.read_truth(section)
        if prediction.instances is not None:
            return {0: count_own_instances(prediction, truth, min_areas)}
        opened = (
            (radius, open_levels(prediction.foreground, radius_px=radius)) for radius in radii
        )
        return {radius: count_thresholds(levels, truth, min_areas) for radius, levels in opened}

    with ThreadPoolExecutor(WORKERS) as pool:
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
