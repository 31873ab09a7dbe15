"""Which of the instances that Segment Anything finds are kept, by their area."""

from bench.config.training import MicrosamConfig
from bench.errors import BenchError
from bench.postprocess.segmentation import measure_areas, paper_settings, settings_from_annotations
from bench.steps.training.data import TrainingData
from bench.structures import Structure

# An instance may be larger than the largest annotated one by this factor.
LARGEST_FACTOR = 1.5


def choose_areas(
    config: MicrosamConfig, structure: Structure, data: TrainingData
) -> tuple[int, int | None]:
    """Areas of the smallest and largest instance, in px at the scale SAM is fed at.

    By default they follow the annotated training instances, with room on both sides; under
    ``size_filter=paper`` the minimum is the paper's and there is no maximum. What the user sets
    comes before both.
    """
    high = None
    scale = (data.dataset.pixel_size_nm or 1.0) / (data.fed_nm or 1.0)
    if config.size_filter == "paper":
        low = round(paper_settings(structure).min_area_px * scale**2)
    else:
        labels = [annotated for _, annotated in data.train()]
        low = settings_from_annotations(labels).min_area_px
        high = int(LARGEST_FACTOR * max(measure_areas(a).max(initial=0) for a in labels))
    if config.min_area_px is not None:
        low = round(config.min_area_px * scale**2)
    if config.max_area_px is not None:
        high = round(config.max_area_px * scale**2)
    if high is not None and high < low:
        raise BenchError(
            f"max_area_px must be at least min_area_px, received {high} and {low}: change one"
        )
    return low, high
