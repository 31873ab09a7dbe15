"""How far what was predicted lies from the truth and the other way round, voxel by voxel.

Two measures of synaptic clefts follow from it. The CREMI challenge averages ADGT, the mean distance
of predicted voxels to the truth, and ADF, that of the voxels of the truth to the prediction, and
counts those beyond 200 nm. The mean false distance is the mean of the two directed Hausdorff
distances; some publish under that name the mean of the two mean distances, which is a row of its
own. The distance to nothing is not defined, so a unit with an empty side has none of these.

Only voxels outside of the other side are looked up, among the voxels of its surface: the nearest
voxel to one that is outside is always on the surface. That costs as much as there are errors, where
a distance transform costs as much as there is volume.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.errors import BenchError
from bench.metrics.overlap import PIXELS_AT_ONCE, check_mask, check_same_shape

# CREMI: a cleft further than this from any of the other side is false.
_FALSE_BEYOND_NM = 200.0


@dataclass(frozen=True)
class _Directed:
    """Distances from the voxels of one side to the nearest of the other.

    Attributes:
        mean: Their mean; a voxel on both sides has distance 0.
        largest: The directed Hausdorff distance.
        far: Voxels whose distance exceeds ``far_beyond``.
    """

    mean: float
    largest: float
    far: int


@dataclass(frozen=True)
class Distances:
    """The distances of a section or a volume, both ways.

    Attributes:
        from_prediction: From predicted voxels to the truth.
        from_truth: From voxels of the truth to the prediction.
    """

    from_prediction: _Directed
    from_truth: _Directed


def find_distances(
    *,
    truth: np.ndarray,
    prediction: np.ndarray,
    sampling: Sequence[float] | None = None,
    invalid: np.ndarray | None = None,
    far_beyond: float = _FALSE_BEYOND_NM,
) -> Distances | None:
    """Measures how far the voxels of two masks are from each other.

    Args:
        truth: Mask (y, x) or (z, y, x); every value but 0 is foreground.
        prediction: Mask of the same shape.
        sampling: Edges of a voxel along the axes, nm; None counts in voxels.
        invalid: Voxels, where True, that count on neither side.
        far_beyond: Distance, in units of ``sampling``, beyond which a voxel is counted as far.

    Returns:
        None where a side is empty.

    Raises:
        BenchError: If the shapes differ, an array is no mask, or an edge is not above 0.

    Examples:
        >>> found = find_distances(
        ...     truth=np.array([[1, 1, 0, 0]]), prediction=np.array([[0, 1, 1, 1]])
        ... )
        >>> found.from_prediction.largest, found.from_prediction.mean, found.from_truth.mean
        (2.0, 1.0, 0.5)
    """
    check_same_shape(truth=truth, prediction=prediction)
    check_mask("truth", truth)
    check_mask("prediction", prediction)
    edges = _check_edges(sampling, truth.ndim)
    real, found = truth != 0, prediction != 0
    if invalid is not None:
        check_same_shape(truth=truth, prediction=invalid)
        real, found = real & (invalid == 0), found & (invalid == 0)
    if not (real.any() and found.any()):
        return None
    return Distances(
        from_prediction=_measure_directed(found, real, edges, far_beyond),
        from_truth=_measure_directed(real, found, edges, far_beyond),
    )


def _check_edges(sampling: Sequence[float] | None, axes: int) -> np.ndarray:
    edges = np.ones(axes) if sampling is None else np.asarray(sampling, float)
    if edges.shape != (axes,) or not (np.isfinite(edges) & (edges > 0)).all():
        raise BenchError(
            f"sampling must be {axes} edges above 0, one an axis, received {sampling}: give the "
            "edges of a voxel in nm"
        )
    return edges


def _measure_directed(
    side: np.ndarray, other: np.ndarray, edges: np.ndarray, far_beyond: float
) -> _Directed:
    from scipy.ndimage import binary_erosion
    from scipy.spatial import KDTree

    outside = np.ascontiguousarray(side & ~other).reshape(-1)
    voxels, total, largest, far = int(np.count_nonzero(side)), 0.0, 0.0, 0
    if outside.any():
        # The border of the image is no surface: beyond it nothing is looked up.
        surface = other & ~binary_erosion(other, border_value=1)
        tree = KDTree(np.argwhere(surface) * edges)
        for start in range(0, outside.size, PIXELS_AT_ONCE):
            places = start + np.flatnonzero(outside[start : start + PIXELS_AT_ONCE])
            if places.size:
                points = np.stack(np.unravel_index(places, side.shape), axis=1) * edges
                distances, _ = tree.query(points)
                total += float(distances.sum())
                largest = max(largest, float(distances.max()))
                far += int(np.count_nonzero(distances > far_beyond))
    return _Directed(total / voxels, largest, far)


def false_distance_hausdorff(found: Distances) -> float:
    """Mean of the two directed Hausdorff distances."""
    return (found.from_prediction.largest + found.from_truth.largest) / 2


def false_distance_mean(found: Distances) -> float:
    """Mean of the two mean distances; of distances in nm this is the CREMI score."""
    return (found.from_prediction.mean + found.from_truth.mean) / 2


def mean_distance_of_prediction(found: Distances) -> float:
    """ADGT: mean distance of the predicted voxels to the truth."""
    return found.from_prediction.mean


def mean_distance_of_truth(found: Distances) -> float:
    """ADF: mean distance of the voxels of the truth to the prediction."""
    return found.from_truth.mean


def mean_over_units(
    finish: Callable[[Distances], float],
) -> Callable[[Sequence[Distances]], float]:
    """The mean over the sections or volumes that have distances; NaN where none has."""

    def finish_mean(units: Sequence[Distances]) -> float:
        return math.fsum(map(finish, units)) / len(units) if units else math.nan

    return finish_mean


def count_far_predicted(units: Sequence[Distances]) -> float:
    """Predicted voxels far from the truth, of all units with distances; NaN where none has."""
    return sum(unit.from_prediction.far for unit in units) if units else math.nan


def count_far_true(units: Sequence[Distances]) -> float:
    """Voxels of the truth far from the prediction; NaN where no unit has distances."""
    return sum(unit.from_truth.far for unit in units) if units else math.nan
