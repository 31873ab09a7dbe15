"""Object-level consistency error: how much of each object is not covered by one of its own."""

from dataclasses import dataclass

import numpy as np

from bench.metrics.instances import count_overlaps


@dataclass(frozen=True)
class ObjectConsistency:
    """What is added up over the objects of a section or a volume, of several with ``+``.

    Attributes:
        truth_px: Area of all objects of the truth.
        predicted_px: Area of all predicted objects.
        truth_error_px: Sum over the objects of the truth of area times error.
        predicted_error_px: The same over the predicted objects.
        truth_objects: Objects of the truth.
        best_ious: Sum over the objects of the truth of the IoU with the predicted object that is
            most like it.
    """

    truth_px: int = 0
    predicted_px: int = 0
    truth_error_px: float = 0.0
    predicted_error_px: float = 0.0
    truth_objects: int = 0
    best_ious: float = 0.0

    def __add__(self, other: "ObjectConsistency") -> "ObjectConsistency":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return ObjectConsistency(*(mine + others for mine, others in pairs))


def find_object_consistency(*, truth: np.ndarray, prediction: np.ndarray) -> ObjectConsistency:
    """Measures how consistent the objects of two label images are.

    The error of an object A is 1 less the mean IoU of A with those objects of the other image that
    touch it, weighted by their areas; 1 where none does.

    Args:
        truth: Instance ids, 0 background.
        prediction: Instance ids of the same shape.

    Examples:
        >>> truth = np.array([1, 1, 1, 1, 0, 2, 2])
        >>> found = find_object_consistency(truth=truth, prediction=np.array([1, 1, 0, 0, 0, 0, 0]))
        >>> error_of_truth(found), error_of_prediction(found)
        (0.6666666666666666, 0.5)

    References:
        Polak, Zhang and Pi, An evaluation metric for image segmentation of multiple objects, Image
        and Vision Computing 27 (2009) 1223.
    """
    found = count_overlaps(truth, prediction)
    of_truth, of_prediction = found.truth_index, found.predicted_index
    areas, others = found.truth_areas[of_truth], found.predicted_areas[of_prediction]
    ious = found.intersections / (areas + others - found.intersections)
    best = np.zeros(len(found.truth_areas))
    np.maximum.at(best, of_truth, ious)
    return ObjectConsistency(
        truth_px=int(found.truth_areas.sum()),
        predicted_px=int(found.predicted_areas.sum()),
        truth_error_px=_sum_errors(found.truth_areas, of_truth, others, ious),
        predicted_error_px=_sum_errors(found.predicted_areas, of_prediction, areas, ious),
        truth_objects=len(found.truth_areas),
        best_ious=float(best.sum()),
    )


def _sum_errors(
    areas: np.ndarray, index: np.ndarray, others: np.ndarray, ious: np.ndarray
) -> float:
    """Sums area times error over objects.

    Args:
        areas: Of the objects, px.
        index: Of each pair that overlaps, the object's place in ``areas``.
        others: The area of the other object of each pair.
        ious: IoU of each pair.
    """
    weights = np.bincount(index, others, minlength=len(areas))
    weighted = np.bincount(index, others * ious, minlength=len(areas))
    agreement = np.divide(weighted, weights, out=np.zeros(len(areas)), where=weights > 0)
    return float((areas * (1 - agreement)).sum())


def error_of_truth(found: ObjectConsistency) -> float:
    """Mean error of the objects of the truth, weighted by area: what is missed costs here."""
    return _mean_error(found, found.truth_error_px, found.truth_px)


def error_of_prediction(found: ObjectConsistency) -> float:
    """Mean error of the predicted objects, weighted by area: what is not there costs here."""
    return _mean_error(found, found.predicted_error_px, found.predicted_px)


def object_consistency_error(found: ObjectConsistency) -> float:
    """The smaller of both errors, as it is published: what is missed may cost nothing here."""
    return min(error_of_truth(found), error_of_prediction(found))


def mean_object_iou(found: ObjectConsistency) -> float:
    """Mean over the objects of the truth of the IoU with the most alike predicted object."""
    if not found.truth_objects:
        return 0.0 if found.predicted_px else 1.0
    return found.best_ious / found.truth_objects


def _mean_error(found: ObjectConsistency, error_px: float, area_px: int) -> float:
    """Divides; both empty is 0, one empty is 1."""
    if not (found.truth_px and found.predicted_px):
        return float(found.truth_px != found.predicted_px)
    return error_px / area_px
