"""Checks a tree of annotated sections, one section in memory at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from bench.dataset.section_file import MaskCounts, summarise_structure
from bench.errors import BenchError
from bench.ingest.inspection.contrast import judge_contrast
from bench.ingest.inspection.findings import ERROR, Finding, group_findings, sort_findings
from bench.ingest.inspection.likeness import Series, Shift, describe_shift, judge_looks
from bench.ingest.inspection.masks import balancing_weight, judge_masks
from bench.ingest.inspection.meaning import judge_meaning
from bench.ingest.inspection.measures import SectionMeasures, list_fits
from bench.ingest.inspection.neighbours import NeighbourWatch
from bench.ingest.inspection.orientation import judge_orientation
from bench.ingest.inspection.reading import Show, inspect_section
from bench.ingest.inspection.sizes import judge_sizes
from bench.ingest.sources import SourceTree
from bench.ingest.splits import check_splits

_AREA_PERCENTILES = (0, 5, 50, 95, 100)


@dataclass(frozen=True, eq=False)
class StructureCounts:
    """A structure in one split.

    Attributes:
        structure: Its name.
        split: The split.
        sections: Sections with a mask of it that can be used.
        instances: Their instances.
        foreground: Share of their pixels that are foreground.
        areas_px: Smallest area, 5th percentile, median, 95th and largest; None if there is none.
        balance: Pixels of background for one of foreground; None without either.
        ignored: Share of all pixels that nobody annotated, which are none of those above.
    """

    structure: str
    split: str
    sections: int
    instances: int
    foreground: float
    areas_px: tuple[float, ...] | None
    balance: float | None
    ignored: float = 0.0


@dataclass(frozen=True, eq=False)
class Report:
    """What a tree holds and what is wrong with it.

    Attributes:
        pixel_size_nm: Edge of a pixel in nm; None where it is not known.
        sections: What was measured in every section.
        counts: Every structure in every split that has sections.
        findings: What is wrong, the most severe first.
    """

    pixel_size_nm: float | None
    sections: tuple[SectionMeasures, ...]
    counts: tuple[StructureCounts, ...]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        """How many errors there are; the same in many sections is one."""
        return sum(group.level == ERROR for group in group_findings(self.findings))

    @property
    def warnings(self) -> int:
        """How many warnings there are, counted likewise."""
        return len(group_findings(self.findings)) - self.errors

    def as_record(self) -> dict[str, Any]:
        """The content of findings.json."""
        return {
            "pixel_size_nm": self.pixel_size_nm,
            "errors": self.errors,
            "warnings": self.warnings,
            "findings": [finding.as_record() for finding in self.findings],
            "structures": [asdict(counts) for counts in self.counts],
            "sections": [_record_section(section) for section in self.sections],
        }


def inspect_tree(
    tree: SourceTree,
    *,
    show: Show | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Measures every section of a tree and says what is wrong; writes nothing.

    Args:
        tree: The sections.
        show: Called with small copies of every section whose raw image can be read.
        progress: Called with the sections done and their number.
    """
    sections: list[SectionMeasures] = []
    shifts: list[Shift | None] = []
    series = Series()
    watch = NeighbourWatch(tree)
    sources = (*tree.sections, *tree.unlabelled)
    for done, source in enumerate(sources, start=1):
        measures, raw = inspect_section(source, show)
        sections.append(measures)
        shifts.append(series.follow((source.split, source.region), raw))
        watch.add(source.name, raw)
        if progress is not None:
            progress(done, len(sources))
    findings = [
        *_judge_tree(tree, sections),
        *_judge_likeness(tree, sections, watch),
        *_judge_shifts(sections, shifts),
        *judge_sizes(tree.structures, sections, tree.pixel_size_nm),
    ]
    summaries = {
        structure: summarise_structure(_list_counts(structure, sections))
        for structure in tree.structures
    }
    for structure, summary in summaries.items():
        findings += judge_masks(structure, sections, summary)
        findings += judge_meaning(structure, sections, tree.structures)
    inverted = {
        (finding.section or "", finding.structure or "")
        for finding in findings
        if finding.kind == "mask-inverted"
    }
    correlations = [None if shift is None else shift.correlation for shift in shifts]
    findings += judge_contrast(sections, correlations, inverted)
    findings += judge_orientation(list_fits(tree.structures, sections))
    return Report(
        pixel_size_nm=tree.pixel_size_nm,
        sections=tuple(sections),
        counts=tuple(_count_structures(sections, summaries)),
        findings=sort_findings(findings),
    )


def _judge_tree(tree: SourceTree, sections: Sequence[SectionMeasures]) -> list[Finding]:
    """Collects what its reader noticed, what is wrong with splits, and with sections alone."""
    findings = [finding for section in sections for finding in section.findings]
    known = tree.base.dataset.manifest["warnings"] if tree.base else ()
    noticed = dict.fromkeys(warning for warning in tree.warnings if warning not in known)
    try:
        # What is added to a dataset need not have every split.
        if tree.base is None:
            noticed |= dict.fromkeys(check_splits(list(tree.sections), tree.structures))
    except BenchError as error:
        findings.append(Finding("splits", str(error)))
    findings += [Finding("noticed", text) for text in noticed]
    findings += _judge_ignored(tree, sections)
    for section in sections:
        if section.masks and not any(mask.instances.ids.size for mask in section.masks.values()):
            fact = f"all of its masks ({', '.join(section.masks)}) are empty"
            remedy = "leave it out if nobody annotated it, or a model learns that nothing is there"
            findings.append(section.finding("empty", fact, remedy))
    return findings


def _judge_ignored(tree: SourceTree, sections: Sequence[SectionMeasures]) -> list[Finding]:
    """Finds sections that are ignored as a whole, and that nothing is though something is said."""
    findings = [
        section.finding(
            "ignored",
            f"all of it is ignored for {structure}",
            "leave it out, or annotate some of it",
            structure,
        )
        for section in sections
        for structure, mask in section.masks.items()
        if mask.ignored_share == 1 and section.split != "train" and not tree.volumes
    ]
    if tree.ignore and not any(m.ignored for section in sections for m in section.masks.values()):
        fact = f"no section has a pixel of what ignore={tree.ignore} names"
        findings.append(Finding("ignored", fact, "correct it, or leave it out"))
    return findings


def _judge_likeness(
    tree: SourceTree, sections: Sequence[SectionMeasures], watch: NeighbourWatch
) -> list[Finding]:
    """Finds copies, and neighbours in two splits: by their looks, else by names and looks."""
    looks = [section.look for section in sections if section.look is not None]
    found = judge_looks(looks, tree.splits_rule)
    known = {finding.split for finding in found if finding.kind == "neighbours"}
    return [*found, *(finding for finding in watch.judge() if finding.split not in known)]


def _judge_shifts(
    sections: Sequence[SectionMeasures], shifts: Sequence[Shift | None]
) -> list[Finding]:
    remedy = "align the series if it is to be a volume; for single sections it is no harm"
    pairs = zip(pairwise(sections), pairwise(shifts), strict=True)
    return [
        section.finding("misaligned", f"{fact} {before.name}", remedy)
        for (before, section), (shift_before, shift) in pairs
        if (fact := describe_shift(shift, shift_before))
    ]


def _list_counts(structure: str, sections: Sequence[SectionMeasures]) -> list[MaskCounts]:
    return [
        MaskCounts(section.split, mask.instances.areas, mask.pixels, mask.kind, mask.ignored)
        for section in sections
        if (mask := section.masks.get(structure)) is not None
    ]


def _count_structures(
    sections: Sequence[SectionMeasures], summaries: Mapping[str, Mapping[str, Any]]
) -> list[StructureCounts]:
    counts = []
    for structure, summary in summaries.items():
        masks = _list_counts(structure, sections)
        for split in summary["instances"]:
            areas = [mask.areas for mask in masks if mask.split == split]
            foreground = summary["foreground_fraction"][split]
            pooled = np.concatenate(areas)
            spread = (
                tuple(np.percentile(pooled, _AREA_PERCENTILES).tolist()) if len(pooled) else None
            )
            counts.append(
                StructureCounts(
                    structure=structure,
                    split=split,
                    sections=len(areas),
                    instances=summary["instances"][split],
                    foreground=foreground,
                    areas_px=spread,
                    balance=balancing_weight(foreground),
                    ignored=summary.get("ignored", {}).get(split, 0.0),
                )
            )
    return counts


def _record_section(section: SectionMeasures) -> dict[str, Any]:
    masks = {
        structure: {
            "file": mask.file,
            "kind": mask.kind,
            "instances": int(mask.instances.ids.size),
            "foreground": mask.foreground,
            "contrast": mask.contrast,
            **({"ignored": mask.ignored_share} if mask.ignored else {}),
        }
        for structure, mask in section.masks.items()
    }
    raw = None if section.raw is None else asdict(section.raw)
    return {
        "name": section.name,
        "split": section.split,
        "file": section.file,
        "raw": raw,
        "masks": masks,
    }
