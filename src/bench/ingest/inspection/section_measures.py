"""What is kept of a section once its pixels are gone."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bench.ingest.inspection.findings import Finding
from bench.ingest.inspection.instances import Instances
from bench.ingest.inspection.likeness import Look
from bench.ingest.inspection.measures import RawMeasures


@dataclass(frozen=True, eq=False)
class SmallSection:
    """A section small enough for a picture.

    Attributes:
        name: Its name.
        raw: Its raw image (y, x).
        labels: Its instances (y, x) by structure; those that cannot be used are missing.
        factor: Pixels of the section in one of these, along an edge.
    """

    name: str
    raw: np.ndarray
    labels: Mapping[str, np.ndarray]
    factor: int


@dataclass(frozen=True, eq=False)
class MaskMeasures:
    """What is measured in one mask.

    Attributes:
        file: Its file.
        pixels: Its size in px.
        kind: ``binary``, ``ids`` or ``empty``, as `read_instances` says.
        instances: Its instances.
        contrast: How much brighter the structure is than the rest, in deviations of the raw
            image; None where there is too little of either.
    """

    file: str
    pixels: int
    kind: str
    instances: Instances
    contrast: float | None

    @property
    def foreground(self) -> float:
        """Share of the pixels that are foreground."""
        return float(self.instances.areas.sum()) / self.pixels


@dataclass(eq=False)
class SectionMeasures:
    """What is measured in a section.

    Attributes:
        name: Its name.
        split: Its split.
        file: The raw image's file.
        raw: Its grey values; None if it cannot be read.
        look: How it looks, to find copies; None if it cannot be used.
        masks: Its masks by structure; those that cannot be used are missing.
        findings: What is wrong with this section alone.
    """

    name: str
    split: str
    file: str
    raw: RawMeasures | None = None
    look: Look | None = None
    masks: dict[str, MaskMeasures] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def report(
        self,
        kind: str,
        fact: str,
        remedy: str = "",
        structure: str | None = None,
        *,
        file: str | None = None,
        count: int | None = None,
        marks: tuple[tuple[float, float, float], ...] = (),
    ) -> None:
        """Adds a finding about this section; the file is that of its raw image if not given."""
        place = (self.split, self.name, structure, file or self.file)
        self.findings.append(Finding(kind, fact, remedy, *place, count, marks))
