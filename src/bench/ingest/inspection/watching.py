"""What prepare notices in pixels that it writes, of what the check would say."""

from collections.abc import Mapping, Sequence

import numpy as np

from bench.errors import BenchError
from bench.ingest.inspection.contrast import find_inverted_raw
from bench.ingest.inspection.findings import ERROR, group_findings
from bench.ingest.inspection.likeness import Series
from bench.ingest.inspection.meaning import judge_meaning
from bench.ingest.inspection.measures import MaskMeasures, SectionMeasures
from bench.ingest.sources import SourceSection


class PixelWatch:
    """Keeps the measures of sections while they are written, and judges them at the end."""

    def __init__(self) -> None:
        self.sections: list[SectionMeasures] = []
        self.correlations: list[float | None] = []
        self.series = Series()

    def add(
        self, section: SourceSection, raw: np.ndarray, masks: Mapping[str, MaskMeasures]
    ) -> None:
        """Takes the next section with its raw image (y, x) and what was measured in its masks."""
        measures = SectionMeasures(section.name, section.split, section.raw.file, masks=dict(masks))
        self.sections.append(measures)
        self.correlations.append(self.series.correlate((section.split, section.region), raw))

    def warn(self, structures: Sequence[str]) -> list[str]:
        """Judges all sections; returns warnings.

        Raises:
            BenchError: If masks of a structure do not mean what they would be taken for.
        """
        findings = [
            finding
            for structure in structures
            for finding in judge_meaning(structure, self.sections, structures)
        ]
        for group in group_findings(findings):
            if group.level == ERROR:
                raise BenchError(group.sentence)
        # What differs from the rest may be meant, so it does not stop.
        findings += find_inverted_raw(self.sections, self.correlations)
        return [group.sentence for group in group_findings(findings)]
