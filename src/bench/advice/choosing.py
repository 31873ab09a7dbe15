"""Which pieces to annotate: where models disagree, and what looks new."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.advice.pieces import measure_distances

# Disagreement counts by its rank among the pieces, from this to 1: a piece on which models agree
# is not worth nothing, as all of them may be wrong.
_LEAST = 0.1


@dataclass(frozen=True)
class Choice:
    """A piece in the order in which it is chosen.

    Attributes:
        place: Its place among the pieces that were given.
        novelty: How unlike it is to what is annotated or chosen before it; 0 where it is the same.
        score: Novelty times the weight of its disagreement.
    """

    place: int
    novelty: float
    score: float


def measure_disagreement(predictions: Sequence[np.ndarray]) -> np.ndarray:
    """How far apart models are in each pixel: the mean difference of two of them, from 0 to 1.

    Of one model, how undecided it is: 1 at a probability of one half, 0 where it is certain.

    Args:
        predictions: Probabilities (y, x) uint8, round(255 p), of each model.

    Returns:
        float32 (y, x).
    """
    chances = np.stack([each.astype(np.float32) / 255 for each in predictions])
    if len(chances) == 1:
        return np.asarray(4 * chances[0] * (1 - chances[0]))
    # Sorted, the k-th of n is the larger in k pairs and the smaller in n - 1 - k.
    count = len(chances)
    weights = (2 * np.arange(count) - (count - 1)).astype(np.float32)
    total = np.tensordot(weights, np.sort(chances, axis=0), axes=1)
    return np.asarray(total / (count * (count - 1) / 2))


def choose_pieces(
    looks: Sequence[np.ndarray],
    disagreements: Sequence[float],
    known: Sequence[np.ndarray],
    count: int,
) -> list[Choice]:
    """Chooses pieces one after the other, each where novelty times disagreement is largest.

    A piece that was chosen counts as annotated for the next, so that neighbours which look alike
    are not chosen together: disagreement as in query by committee (Seung et al. 1992), novelty as
    in the greedy cover of core sets (Sener and Savarese 2018).

    Args:
        looks: What each piece looks like (``describe_look``).
        disagreements: Mean disagreement of the models on each.
        known: What the annotated sections look like; may be none.
        count: How many to choose; all, where there are fewer.

    Returns:
        The choices in their order.
    """
    distances = measure_distances(looks, [*known, *looks])
    to_known, among = distances[:, : len(known)], distances[:, len(known) :]
    # Without anything to compare with, what is unlike most of the others is as far as they are.
    nearest = to_known.min(axis=1) if len(known) else among.mean(axis=1)
    ranks = np.argsort(np.argsort(disagreements, kind="stable"), kind="stable")
    weights = _LEAST + (1 - _LEAST) * (ranks + 1) / len(ranks)
    chosen: list[Choice] = []
    free = np.ones(len(looks), dtype=bool)
    while free.any() and len(chosen) < count:
        scores = np.where(free, nearest * weights, -1.0)
        place = int(scores.argmax())
        chosen.append(Choice(place, float(nearest[place]), float(scores[place])))
        free[place] = False
        nearest = np.minimum(nearest, among[:, place])
    return chosen
