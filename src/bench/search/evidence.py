"""What the search works on: stored maps of a validation split and its annotations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.inference.blends import Blend
from bench.inference.prediction import SectionPrediction


@dataclass(frozen=True)
class Evidence:
    """Predictions of several models of the same sections.

    Attributes:
        sections: Names of the sections.
        members: Augmentations stored of each model, by the model's name.
        read: From a model, a section and an augmentation to the maps.
        read_truth: From a section to its instance ids (y, x).
    """

    sections: Sequence[str]
    members: Mapping[str, tuple[str, ...]]
    read: Callable[[str, str, str], SectionPrediction]
    read_truth: Callable[[str], np.ndarray]

    def blend(self, blend: Blend, section: str) -> SectionPrediction:
        """The one prediction that a blend makes of a section."""
        return blend.apply(
            [self.read(member, section, name) for name in blend.augmentations]
            for member in blend.members
        )

    def shared_augmentations(self, members: Sequence[str]) -> tuple[str, ...]:
        """The augmentations that all of these models have."""
        first, *others = (self.members[name] for name in members)
        return tuple(name for name in first if all(name in stored for stored in others))
