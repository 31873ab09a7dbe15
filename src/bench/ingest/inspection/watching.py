"""What prepare notices in pixels that it writes, of what the check would say."""

from collections.abc import Mapping

import numpy as np

from bench.errors import BenchError
from bench.ingest.inspection.contrast import find_inverted_raw, shows_contrast
from bench.ingest.inspection.findings import ERROR, group_findings
from bench.ingest.inspection.likeness import correlate_images, sample_pixels
from bench.ingest.inspection.meaning import judge_meaning
from bench.ingest.inspection.measures import MaskMeasures, SectionMeasures, list_fits
from bench.ingest.inspection.neighbours import NeighbourWatch
from bench.ingest.inspection.orientation import judge_orientation
from bench.ingest.inspection.sizes import judge_sizes
from bench.ingest.sources import SourceSection, SourceTree


class PixelWatch:
    """Keeps the measures of sections while they are written, and judges them at the end."""

    def __init__(self, tree: SourceTree) -> None:
        """Begins with the tree whose sections it will be given."""
        self.tree, self.neighbours = tree, NeighbourWatch(tree)
        self.sections: list[SectionMeasures] = []
        self.correlations: list[float | None] = []
        self._before: tuple[tuple[object, ...], np.ndarray] | None = None

    def add(
        self, section: SourceSection, raw: np.ndarray, masks: Mapping[str, MaskMeasures]
    ) -> None:
        """Takes the next section with its raw image (y, x) and what was measured in its masks."""
        self.neighbours.add(section.name, raw)
        place = (section.name, section.split, section.raw.file)
        self.sections.append(SectionMeasures(*place, masks=dict(masks)))
        series = (section.split, section.region, raw.shape)
        before, self._before = self._before, (series, sample_pixels(raw).copy())
        alike = before is not None and before[0] == series
        if before is None or not alike or shows_contrast(masks.values()):
            self.correlations.append(None)
        else:
            pixels = [sample.astype(np.float32) for sample in (before[1], self._before[1])]
            self.correlations.append(correlate_images(*pixels))

    def warn(self) -> list[str]:
        """Judges all sections; returns warnings.

        Raises:
            BenchError: If masks of a structure do not mean what they would be taken for.
        """
        structures = self.tree.structures
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
        findings += judge_orientation(list_fits(structures, self.sections))
        findings += judge_sizes(structures, self.sections, self.tree.pixel_size_nm)
        findings += self.neighbours.judge()
        return [group.sentence for group in group_findings(findings)]
