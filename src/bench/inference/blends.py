"""A blend: maps of models and symmetries made one, before any threshold."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.errors import BenchError, unknown_name
from bench.inference.prediction import Predictor, SectionPrediction
from bench.inference.symmetries import IDENTITY, find_symmetries

MEAN, MAXIMUM, VOTE = "mean", "maximum", "vote"


def round_mean(total: np.ndarray, count: int) -> np.ndarray:
    """Divides sums of levels by their number, halves rounded up; uint8."""
    return np.asarray((total + count // 2) // count, dtype=np.uint8)


def majority(members: Sequence[np.ndarray]) -> np.ndarray:
    """The level that more than half of the models reach.

    At any threshold it is foreground exactly where more than half of the masks are, so that one
    map stands for the votes at all of them. Two models have to agree.
    """
    ranked = np.sort(np.stack(members), axis=0)
    return np.asarray(ranked[(len(members) - 1) // 2])


# From the mean level of each model over augmentations to one map. The mean is not among them:
# it is of all maps at once, rounded once.
RANKS: dict[str, Callable[[Sequence[np.ndarray]], np.ndarray]] = {
    MAXIMUM: np.maximum.reduce,
    VOTE: majority,
}
_ENSEMBLES = (MEAN, *RANKS)


def combine_levels(
    maps: Sequence[Sequence[np.ndarray]], ensemble: str, weights: Sequence[int]
) -> np.ndarray:
    """Combines the maps of several models of one section.

    Args:
        maps: Per model its maps (uint8 of any shape, round(255 p)), one per augmentation; as many
            of each model.
        ensemble: ``mean`` of all, ``maximum`` of the models' means, or the majority's ``vote``.
        weights: Weight of each model in the mean, whole numbers from 1.

    Returns:
        One map of the same shape, uint8. A single map is returned as it is.

    Raises:
        BenchError: If there is no such ensemble, or a weighted one is not a mean.
    """
    if ensemble not in _ENSEMBLES:
        raise unknown_name("ensemble", ensemble, _ENSEMBLES)
    if ensemble == MEAN:
        total = sum_levels(
            [level for member in maps for level in member],
            [weight for member, weight in zip(maps, weights, strict=True) for _ in member],
        )
        return round_mean(total, sum(len(m) * w for m, w in zip(maps, weights, strict=True)))
    if set(weights) != {1}:
        raise BenchError(f"only a mean has weights, received {list(weights)} for {ensemble}")
    means = [round_mean(sum_levels(member, [1] * len(member)), len(member)) for member in maps]
    return RANKS[ensemble](means)


def sum_levels(maps: Sequence[np.ndarray], weights: Sequence[int], *, each: int = 1) -> np.ndarray:
    """The weighted sum of maps, or of sums of ``each`` maps.

    The type has room for half of the number of maps more, by which ``round_mean`` rounds.
    """
    count = each * sum(weights)
    wide = np.uint16 if 255 * count + count // 2 < 2**16 else np.uint32
    total = np.zeros(maps[0].shape, dtype=wide)
    for levels, weight in zip(maps, weights, strict=True):
        total += levels if weight == 1 else np.multiply(levels, weight, dtype=wide)
    return total


@dataclass(frozen=True)
class Blend:
    """Models, how they are combined, and the augmentations that each is averaged over.

    Attributes:
        members: Names of the models.
        augmentations: Names of symmetries, the same for every model.
        ensemble: Row of _ENSEMBLES; a single model is its own mean.
        weights: Weight of each model in a mean, whole numbers.
    """

    members: tuple[str, ...]
    augmentations: tuple[str, ...] = (IDENTITY,)
    ensemble: str = MEAN
    weights: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.weights:
            object.__setattr__(self, "weights", (1,) * len(self.members))

    @property
    def passes(self) -> int:
        """How often a network is applied: what the blend costs."""
        return len(self.members) * len(self.augmentations)

    @property
    def weighted(self) -> bool:
        """Whether its models count differently."""
        return len(set(self.weights)) > 1

    def apply(self, found: Iterable[Sequence[SectionPrediction]]) -> SectionPrediction:
        """Makes one of the maps of a section.

        A boundary is the mean, whatever the ensemble, where every model has one. Instances that a
        model finds itself are only kept of that model alone.

        Args:
            found: Per member its maps under each augmentation, in the blend's order.
        """
        maps = [list(member) for member in found]
        if len(maps) == 1 and len(maps[0]) == 1:
            return maps[0][0]
        foreground = combine_levels(
            [[each.foreground for each in member] for member in maps], self.ensemble, self.weights
        )
        boundaries = [
            [each.boundary for each in member if each.boundary is not None] for member in maps
        ]
        if not all(boundaries):
            return SectionPrediction(foreground)
        return SectionPrediction(foreground, combine_levels(boundaries, MEAN, self.weights))

    @property
    def plain(self) -> bool:
        """Whether it is one model's prediction of the section as it is."""
        return len(self.members) == 1 and self.augmentations == (IDENTITY,)

    @property
    def short(self) -> str:
        """As people say it, without the names of the symmetries."""
        if self.augmentations == (IDENTITY,):
            return f"{self.who()}, no augmentation"
        if len(self.augmentations) == 1:
            return f"{self.who()}, {self.augmentations[0]}"
        return f"{self.who()}, {len(self.augmentations)} symmetries"

    def who(self) -> str:
        """Its models and how they are combined."""
        if len(self.members) == 1:
            return self.members[0]
        named = [
            f"{weight} x {member}" if self.weighted else member
            for member, weight in zip(self.members, self.weights, strict=True)
        ]
        return f"{self.ensemble} of {' + '.join(named)}"

    def __str__(self) -> str:
        """As people say it."""
        names = f" ({', '.join(self.augmentations)})" if len(self.augmentations) > 1 else ""
        return f"{self.short}{names}"


def describe_blend(blend: Blend) -> dict[str, Any]:
    """A blend as columns of a table."""
    return {
        "members": " + ".join(blend.members),
        "ensemble": blend.ensemble if len(blend.members) > 1 else "single",
        "weights": ":".join(map(str, blend.weights)),
        "augmentations": " ".join(blend.augmentations),
        "passes": blend.passes,
    }


def predict_augmented(
    predict: Predictor, raw: np.ndarray, pixel_size_nm: float | None, augmentations: Sequence[str]
) -> Iterator[tuple[str, SectionPrediction]]:
    """Predicts a section under symmetries, as they become ready.

    The section is transformed, not its tiles: what the network sees is the transformed section
    with a tile grid of its own, so every map is that of the transformed section alone. Tiles of
    several symmetries share batches.

    Args:
        predict: The model.
        raw: Section (y, x) of any bit depth.
        pixel_size_nm: Its pixel size; None if not known.
        augmentations: Names of the symmetries.

    Yields:
        Name and maps (y, x), back in the section's geometry, in the given order.

    Raises:
        BenchError: If there is no such symmetry.
    """
    symmetries = find_symmetries(augmentations)
    views = (np.ascontiguousarray(symmetry.forward(raw)) for symmetry in symmetries)
    predictions = predict.predict_all(views, pixel_size_nm)
    for symmetry, prediction in zip(symmetries, predictions, strict=True):
        yield symmetry.name, turn_back(prediction, symmetry.inverse)


def turn_back(
    prediction: SectionPrediction, inverse: Callable[[np.ndarray], np.ndarray]
) -> SectionPrediction:
    """Applies an inverse to all maps."""
    foreground, *others = (
        None if pixels is None else inverse(pixels)
        for pixels in (prediction.foreground, prediction.boundary, prediction.instances)
    )
    assert foreground is not None
    if prediction.classes is not None:
        others.append(np.stack([inverse(each) for each in prediction.classes]))
    return SectionPrediction(foreground, *others)


def mean_prediction(predictions: Iterable[SectionPrediction]) -> SectionPrediction:
    """The mean of the probabilities, halves of a level rounded up; a single prediction is itself.

    They are summed as they come, so memory does not grow with their number.

    Args:
        predictions: At least one, all of one model and section. Of several, none has instances:
            ids have no mean.
    """
    iterator = iter(predictions)
    first = next(iterator)
    sums = [pixels.astype(np.uint16) for pixels in _levels_of(first)]
    count = 1
    for prediction in iterator:
        count += 1
        for total, pixels in zip(sums, _levels_of(prediction), strict=True):
            total += pixels
    if count == 1:
        return first
    return SectionPrediction(*(round_mean(total, count) for total in sums))


def _levels_of(prediction: SectionPrediction) -> list[np.ndarray]:
    maps = (prediction.foreground, prediction.boundary)
    return [pixels for pixels in maps if pixels is not None]
