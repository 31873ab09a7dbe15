"""Which object that a model found is which one that was annotated."""

import numpy as np
import pandas as pd

from bench.metrics.instances import count_overlaps

# The id of the annotated object that a found one is, and whether an annotated one was found.
PARTNER = "partner"


def match_objects(
    truth: pd.DataFrame,
    found: pd.DataFrame,
    *,
    true_labels: np.ndarray,
    found_labels: np.ndarray,
) -> None:
    """Adds a column to both tables of a section: the id of the partner at IoU > 0.5, 0 for none.

    At most one is; see `metrics.instances`.

    Args:
        truth: The annotated objects, by `describe_objects`.
        found: The objects that the model found.
        true_labels: Ids of the first.
        found_labels: Ids of the second, of the same shape.
    """
    overlaps = count_overlaps(true_labels, found_labels)
    areas = (
        overlaps.truth_areas[overlaps.truth_index]
        + overlaps.predicted_areas[overlaps.predicted_index]
    )
    matched = 3 * overlaps.intersections > areas
    first, second = overlaps.truth_index[matched], overlaps.predicted_index[matched]
    for table, here, there, others in (
        (truth, first, second, found),
        (found, second, first, truth),
    ):
        partners = np.zeros(len(table), np.int64)
        partners[here] = others["id"].to_numpy()[there]
        table[PARTNER] = partners
