"""Sections of two splits that follow one another, where nobody says how far they are apart."""

import re
from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from bench.ingest.inspection.findings import Finding
from bench.ingest.inspection.likeness import correlate_images, sample_pixels
from bench.ingest.sources import SourceSection, SourceTree
from bench.ingest.splits import find_place, may_share

# Neighbours of VNC, 50 nm apart, correlate with 0.32 or more, those of ISBI 2012 with 0.05 to
# 0.34, others with less than 0.2.
_LEAST_CORRELATION = 0.2


class NeighbourWatch:
    """Compares the sections at the borders of splits, of which it keeps every few pixels."""

    def __init__(self, tree: SourceTree) -> None:
        """Begins with the tree; where it says the distance of sections, nothing is compared."""
        self.pairs = [] if tree.section_nm else _find_pairs(tree)
        self.wanted = {section.name for pair in self.pairs for section in pair}
        self.kept: dict[str, np.ndarray] = {}

    def add(self, name: str, raw: np.ndarray | None) -> None:
        """Takes a section by name with its raw image (y, x); None if it cannot be used."""
        if raw is not None and name in self.wanted:
            self.kept[name] = sample_pixels(raw).astype(np.float32)

    def judge(self) -> list[Finding]:
        """Finds the pairs that look alike, the most alike of every two splits."""
        found: dict[str, tuple[float, str]] = {}
        for first, second in self.pairs:
            likeness = _compare(self.kept, first.name, second.name)
            splits = f"{first.split} and {second.split}"
            if likeness >= max(_LEAST_CORRELATION, found.get(splits, (0.0, ""))[0]):
                names = f"{first.name} and {second.name} follow one another and correlate with "
                found[splits] = likeness, f"{names}{likeness:.2f}"
        remedy = (
            "leave out sections between the splits, or scores are too good; give section_nm where "
            "their distance is known"
        )
        return [
            Finding("neighbours", fact, remedy, split=splits) for splits, (_, fact) in found.items()
        ]


def _find_pairs(tree: SourceTree) -> list[tuple[SourceSection, SourceSection]]:
    """Sections of different splits whose numbers follow one another in the same series."""
    series: dict[tuple[str, str], list[tuple[int, SourceSection]]] = {}
    for section in tree.sections:
        place = find_place(section)
        if place is not None:
            name = "" if section.number is not None else _without_number(section.stem)
            series.setdefault((section.region, name), []).append((place, section))
    return [
        (first, second)
        for members in series.values()
        for (place, first), (following, second) in pairwise(sorted(members, key=lambda m: m[0]))
        if following == place + 1
        and first.split != second.split
        and not may_share(tree.splits_rule, {first.split, second.split})
    ]


def _without_number(stem: str) -> str:
    return re.sub(r"[0-9]+(?=[^0-9]*$)", "", stem)


def _compare(kept: Mapping[str, np.ndarray], first: str, second: str) -> float:
    one, other = kept.get(first), kept.get(second)
    if one is None or other is None or one.shape != other.shape:
        return 0.0
    return correlate_images(one, other)
