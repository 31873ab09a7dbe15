"""What a score is of, beyond its numbers: the scale, the sections learned from, the instances."""

from collections.abc import Iterable
from dataclasses import dataclass

from bench.words import SECTION_UNIT


@dataclass(frozen=True)
class DataFacts:
    """What an evaluation says of its data; runs of an earlier version say nothing.

    Attributes:
        pixel_size_nm: Edge of a pixel; None where it is not known.
        training_sections: Annotated sections that the model learned from; None where it is not
            known.
        uncounted: Why scores of instances say nothing; empty where they do.
        unit: What has a score of its own: a section, or a volume.
    """

    pixel_size_nm: float | None = None
    training_sections: int | None = None
    uncounted: str = ""
    unit: str = SECTION_UNIT

    def count(self, number: int) -> str:
        """So many of what has a score of its own, in words."""
        return f"{number} {self.unit}{'s' * (number != 1)}"


def merge_facts(facts: Iterable[DataFacts]) -> DataFacts:
    """What several evaluations say of one dataset and structure, the first that says it."""
    found = list(facts)
    sizes = (each.pixel_size_nm for each in found if each.pixel_size_nm is not None)
    sections = (each.training_sections for each in found if each.training_sections is not None)
    reasons = (each.uncounted for each in found if each.uncounted)
    units = (each.unit for each in found if each.unit != DataFacts.unit)
    return DataFacts(
        next(sizes, None),
        next(sections, None),
        next(reasons, ""),
        next(units, DataFacts.unit),
    )
