"""From what a model says of a section to instances, whatever kind of model it is."""

from dataclasses import replace

import numpy as np

from bench.inference.prediction import SectionPrediction
from bench.postprocess.instances import Instances, clean_mask, drop_small_instances
from bench.postprocess.segmentation import PostprocessSettings
from bench.postprocess.watershed import WatershedSettings, separate_instances


def segment_prediction(
    prediction: SectionPrediction,
    *,
    level: int,
    settings: PostprocessSettings,
    watershed: WatershedSettings | None,
) -> Instances:
    """Makes instances of a section.

    Instances that the model found itself are kept apart and not opened. A foreground becomes its
    components; where there is a boundary, the watershed separates what touches in them.

    Args:
        prediction: The maps (y, x).
        level: The stored probability (0 to 255) from which a pixel is foreground.
        settings: Opening and smallest area.
        watershed: How touching instances are separated; None leaves them together.
    """
    mask = prediction.foreground >= level
    if prediction.instances is not None:
        found = np.where(mask, prediction.instances, 0)
        labels = drop_small_instances(found, min_area_px=settings.min_area_px)
        return Instances(labels, int(np.count_nonzero(mask)), int(np.count_nonzero(labels)))
    cleaned = clean_mask(
        mask, opening_radius_px=settings.opening_radius_px, min_area_px=settings.min_area_px
    )
    if prediction.boundary is None or watershed is None:
        return cleaned
    labels = separate_instances(
        prediction.foreground, prediction.boundary, mask=cleaned.labels > 0, settings=watershed
    )
    return replace(cleaned, labels=labels)
