"""The blends that get post-processed, at all thresholds, openings and minimum areas."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from operator import add

from bench.inference.blends import Blend
from bench.postprocess.instances import open_levels
from bench.search.evidence import Evidence
from bench.search.map_search import Histograms, rank
from bench.search.own_instances import count_own_instances
from bench.search.threshold_counts import ThresholdCounts, count_thresholds

# Sections counted at once: each takes about 40 bytes a pixel.
WORKERS = 2


def choose_finalists(found: Histograms, number: int, metric: str) -> list[Blend]:
    """The best blends, the best model alone, and the best model without augmentation.

    The last two are there to say what the others are worth.
    """
    ranked = rank(found, metric)
    alone = [blend for blend in ranked if len(blend.members) == 1]
    plain = [blend for blend in alone if blend.passes == 1]
    return list(dict.fromkeys([*ranked[:number], *alone[:1], *plain[:1]]))


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
