"""A blend: which maps are made one, before any threshold."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.inference.ensembles import MEAN, combine_levels
from bench.inference.prediction import SectionPrediction
from bench.inference.symmetries import IDENTITY


@dataclass(frozen=True)
class Blend:
    """Models, how they are combined, and the augmentations that each is averaged over.

    Attributes:
        members: Names of the models.
        augmentations: Names of symmetries, the same for every model.
        ensemble: Row of ENSEMBLES; a single model is its own mean.
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
