"""Matching of predicted to true vesicles by their centres, and the scores that follow from it.

A predicted ball matches a true one when each holds the other's centre: the distance of the centres
is at most the smaller radius. As an IoU the rule would ask for far less: two equal balls a radius
apart have an IoU of 5/27.

Pairs are one-to-one: of all ways to pair, one with the most pairs, and of these the smallest sum of
distances. Mostly there is nothing to choose. Where the true balls are apart, their centres are at
least r + r' apart, so a centre within r of one and within r' of the other lies where the two touch.
Balls of labels that are no balls, and predictions that overlap, may be ambiguous.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.errors import BenchError
from bench.metrics.morphometry import ball_radii, find_places

# Of products of sizes in nm the last digits are not exact: a distance equal to a radius is within.
_ROUNDING = 1e-9
# A fitted ball stands for a label that the border cuts where it covers it with this IoU.
_LEAST_COVER = 0.8
# What the border leaves of a ball fills more of its box than this; a larger box is no vesicle's.
_LEAST_FILL = 0.25
_LARGEST_BOX = 1 << 24


@dataclass(frozen=True, eq=False)
class Balls:
    """Balls in a volume.

    Attributes:
        centres_nm: (balls, 3), z, y, x from the centre of the first voxel.
        radii_nm: (balls,).
    """

    centres_nm: np.ndarray
    radii_nm: np.ndarray


@dataclass(frozen=True)
class VesicleMatching:
    """The matched vesicles of a volume, or of several: matchings add with ``+``.

    Attributes:
        truth: Vesicles of the truth.
        predicted: Vesicles of the prediction.
        diameter_errors: Of each pair 1 less the ratio of the smaller to the larger diameter.
        centre_errors_nm: Of each pair the distance of the centres.
    """

    truth: int = 0
    predicted: int = 0
    diameter_errors: tuple[float, ...] = ()
    centre_errors_nm: tuple[float, ...] = ()

    def __add__(self, other: "VesicleMatching") -> "VesicleMatching":
        return VesicleMatching(
            self.truth + other.truth,
            self.predicted + other.predicted,
            self.diameter_errors + other.diameter_errors,
            self.centre_errors_nm + other.centre_errors_nm,
        )

    @property
    def both_empty(self) -> bool:
        """Whether neither side has a vesicle: recall, precision and F1 are then 1."""
        return self.truth + self.predicted == 0

    @property
    def true_positive(self) -> int:
        """Pairs."""
        return len(self.centre_errors_nm)

    @property
    def false_positive(self) -> int:
        """Predicted vesicles without a partner."""
        return self.predicted - self.true_positive

    @property
    def false_negative(self) -> int:
        """Vesicles of the truth without a partner."""
        return self.truth - self.true_positive

    def describe(self) -> dict[str, float | int]:
        """Counts, scores, and mean and standard deviation (n - 1) over the pairs.

        What no pair or a single one does not define is left out.
        """
        found: dict[str, float | int] = {
            "vesicles": self.truth,
            "predicted": self.predicted,
            "true_positive": self.true_positive,
            "false_negative": self.false_negative,
            "false_positive": self.false_positive,
            "vesicle_recall": vesicle_recall(self),
            "vesicle_precision": vesicle_precision(self),
            "vesicle_f1": vesicle_f1(self),
        }
        for name, errors in (
            ("diameter_error", self.diameter_errors),
            ("centre_error_nm", self.centre_errors_nm),
        ):
            if errors:
                found[name] = float(np.mean(errors))
            if len(errors) > 1:
                found[f"{name}_sd"] = float(np.std(errors, ddof=1))
        return found


def vesicle_recall(matching: VesicleMatching) -> float:
    """Share of the vesicles of the truth that have a partner."""
    return _share(matching.true_positive, matching.truth, matching)


def vesicle_precision(matching: VesicleMatching) -> float:
    """Share of the predicted vesicles that have a partner."""
    return _share(matching.true_positive, matching.predicted, matching)


def vesicle_f1(matching: VesicleMatching) -> float:
    """F1 of vesicles."""
    return _share(2 * matching.true_positive, matching.truth + matching.predicted, matching)


def _share(part: int, whole: int, matching: VesicleMatching) -> float:
    """Divides; both empty is 1. With one side empty nothing matches: it is 0, also by 0."""
    return 1.0 if matching.both_empty else part / max(whole, 1)


def diameter_error(matching: VesicleMatching) -> float:
    """Mean over the pairs of 1 less the ratio of the diameters; NaN without a pair."""
    return _mean(matching.diameter_errors)


def centre_error_nm(matching: VesicleMatching) -> float:
    """Mean distance of the centres of the pairs, nm; NaN without a pair."""
    return _mean(matching.centre_errors_nm)


def _mean(errors: Sequence[float]) -> float:
    return math.fsum(errors) / len(errors) if errors else math.nan


def match_balls(*, truth: Balls, prediction: Balls) -> VesicleMatching:
    """Matches the balls of a volume one-to-one by mutual centres.

    Args:
        truth: The annotated balls.
        prediction: The predicted ones.

    Examples:
        >>> centres = np.array([[0.0, 0, 0], [30, 0, 0]])
        >>> found = match_balls(
        ...     truth=Balls(centres, np.array([10.0, 10])),
        ...     prediction=Balls(centres + [1, 2, 2], np.array([11.0, 2])),
        ... )
        >>> found.true_positive, found.centre_errors_nm, round(found.diameter_errors[0], 4)
        (1, (3.0,), 0.0909)
    """
    pairs, distances = pair_balls(truth=truth, prediction=prediction)
    radii = np.stack([truth.radii_nm[pairs[:, 0]], prediction.radii_nm[pairs[:, 1]]])
    return VesicleMatching(
        truth=len(truth.radii_nm),
        predicted=len(prediction.radii_nm),
        diameter_errors=tuple((1 - radii.min(axis=0) / radii.max(axis=0)).tolist()),
        centre_errors_nm=tuple(distances.tolist()),
    )


def pair_balls(*, truth: Balls, prediction: Balls) -> tuple[np.ndarray, np.ndarray]:
    """Pairs the balls of a volume one-to-one by mutual centres.

    Returns:
        (pairs, 2) places in the truth and in the prediction, in the order of the truth; and the
        distance of the centres of each, nm.
    """
    candidates, distances = _find_candidates(truth, prediction)
    shared = np.zeros(len(candidates), bool)
    for side in candidates.T:
        shared |= np.bincount(side, minlength=1)[side] > 1
    chosen = [np.flatnonzero(~shared), *_choose(candidates, distances, np.flatnonzero(shared))]
    kept = np.concatenate(chosen)
    kept = kept[np.argsort(candidates[kept, 0], kind="stable")]
    return candidates[kept], distances[kept]


def _find_candidates(truth: Balls, prediction: Balls) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of which each holds the other's centre, (pairs, 2), and their distances."""
    if not (len(truth.radii_nm) and len(prediction.radii_nm)):
        return np.zeros((0, 2), np.intp), np.zeros(0)
    # Imported late, as below: scores of sections do not need it.
    from scipy.spatial import KDTree

    tree = KDTree(prediction.centres_nm)
    near = tree.query_ball_point(truth.centres_nm, truth.radii_nm * (1 + _ROUNDING))
    first = np.repeat(np.arange(len(near)), [len(each) for each in near])
    second = np.concatenate([np.asarray(each, np.intp) for each in near])
    shifts = truth.centres_nm[first] - prediction.centres_nm[second]
    distances = np.sqrt(np.sum(shifts**2, axis=1))
    within = distances <= prediction.radii_nm[second] * (1 + _ROUNDING)
    return np.stack([first, second], axis=1)[within], distances[within]


def _choose(
    candidates: np.ndarray, distances: np.ndarray, open_pairs: np.ndarray
) -> list[np.ndarray]:
    """Of pairs that share a ball: the most that share none, with the smallest sum of distances.

    Each group of balls that pairs connect is an assignment problem of its own.
    """
    if not open_pairs.size:
        return []
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first, second = candidates[open_pairs].T
    nodes = first.max() + 1 + second.max() + 1
    graph = coo_array((np.ones(first.size), (first, first.max() + 1 + second)), (nodes, nodes))
    group_of = connected_components(graph, directed=False)[1][first]
    return [
        _assign(candidates, distances, open_pairs[group_of == group])
        for group in np.unique(group_of)
    ]


def _assign(candidates: np.ndarray, distances: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The best of the pairs of one group."""
    from scipy.optimize import linear_sum_assignment

    (rows, row), (columns, column) = (
        np.unique(side, return_inverse=True) for side in candidates[pairs].T
    )
    # What is no pair costs more than all pairs together, so that as few as can be are taken.
    place = np.full((len(rows), len(columns)), -1, np.intp)
    place[row, column] = pairs
    costs = np.full(place.shape, 1.0 + distances[pairs].sum())
    costs[row, column] = distances[pairs]
    taken = place[linear_sum_assignment(costs)]
    return np.asarray(taken[taken >= 0])


def keep_annotated(balls: Balls, void: np.ndarray, voxel_size_nm: Sequence[float]) -> Balls:
    """Those balls whose centres lie where somebody annotated, or beyond the volume.

    Args:
        balls: The balls.
        void: Where nobody annotated, bool (z, y, x).
        voxel_size_nm: Edges of a voxel (z, y, x).
    """
    places = np.rint(balls.centres_nm / np.asarray(voxel_size_nm, float)).astype(np.intp)
    inside = ((places >= 0) & (places < void.shape)).all(axis=1)
    kept = np.ones(len(places), bool)
    kept[inside] = ~void[tuple(places[inside].T)]
    return Balls(balls.centres_nm[kept], balls.radii_nm[kept])


def balls_of_labels(labels: np.ndarray, voxel_size_nm: Sequence[float]) -> Balls:
    """The balls that the instances of a volume stand for, in the order of their ids.

    Centre and radius are the centroid and that of the ball of the same volume. A label that the
    border cuts is a part of a ball: there they are those of the ball through its surface within
    the volume (least squares), if that covers the label; else as of the others.

    Args:
        labels: Instance ids (z, y, x), 0 background.
        voxel_size_nm: Edges of a voxel (z, y, x).

    Raises:
        BenchError: If the labels are not of a volume.
    """
    if labels.ndim != 3:
        raise BenchError(
            f"balls are of a volume (z, y, x), received labels of shape {labels.shape}: sections "
            "have no spheres"
        )
    edges = np.asarray(voxel_size_nm, float)
    places = find_places(labels)
    centres, radii = places.centroids * edges, ball_radii(places.voxels * edges.prod())
    at_border = (places.starts == 0) | (places.stops == labels.shape)
    boxes = np.prod(places.stops - places.starts, axis=1)
    fits = (places.voxels >= _LEAST_FILL * boxes) & (boxes <= _LARGEST_BOX)
    for place in np.flatnonzero(at_border.any(axis=1) & fits):
        # With a voxel beside it on either side, where there is one.
        start = np.maximum(places.starts[place] - 1, 0)
        box = tuple(map(slice, start, places.stops[place] + 1))
        fitted = _fit_ball(labels[box] == places.ids[place], edges)
        if fitted is not None:
            centres[place], radii[place] = fitted[0] + start * edges, fitted[1]
    return Balls(centres, radii)


def _fit_ball(mask: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, float] | None:
    """The ball through the faces between a mask and what is beside it.

    With c the centre and p a point, |p - c| = r is 2 p c + (r^2 - |c|^2) = |p|^2: linear.

    Args:
        mask: A box of the volume (z, y, x); what is cut by it has no face there.
        edges: Edges of a voxel, nm.

    Returns:
        Centre and radius, nm from the first voxel; None where they do not cover the mask.
    """
    points = []
    for axis in range(3):
        places = np.argwhere(np.diff(mask, axis=axis)).astype(float)
        places[:, axis] += 0.5
        points.append(places * edges)
    surface = np.concatenate(points)
    unknowns = np.column_stack([2 * surface, np.ones(len(surface))])
    if len(surface) < unknowns.shape[1]:
        return None
    solved = np.linalg.lstsq(unknowns, np.sum(surface**2, axis=1), rcond=None)[0]
    centre, squared = solved[:3], solved[3] + np.sum(solved[:3] ** 2)
    z, y, x = np.ogrid[tuple(map(slice, mask.shape))]
    shifts = [axis * edge - c for axis, edge, c in zip((z, y, x), edges, centre, strict=True)]
    ball = shifts[0] ** 2 + shifts[1] ** 2 + shifts[2] ** 2 <= squared
    cover = np.count_nonzero(ball & mask) / max(int(np.count_nonzero(ball | mask)), 1)
    return (centre, math.sqrt(squared)) if squared > 0 and cover >= _LEAST_COVER else None
