"""Check annotated images: a report on the terminal, and pictures of what was found."""

import json
import shutil
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path

import imagecodecs
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.core.files import write_json, write_whole
from bench.core.progress import show_progress
from bench.dataset.partial import list_shares
from bench.errors import BenchError
from bench.ingest.images.formats import stem_of
from bench.ingest.inspection.findings import ERROR, Finding, group_findings
from bench.ingest.inspection.measures import SectionMeasures, SmallSection
from bench.ingest.inspection.report import Report, StructureCounts, inspect_tree
from bench.ingest.sources import SourceTree
from bench.report.figures.figures import choose_colours
from bench.report.figures.inspection import draw_section_outlines, inspection_figure
from bench.report.figures.overlays import hatch_ignored
from bench.structures import find_structure

# Structures with larger areas are given in um^2.
_LARGE_AREA_NM2 = 1e6
_MISSING = "-"
_FINDINGS_FILE = "findings.json"


def _print_report(report: Report, console: Console) -> None:
    size = report.pixel_size_nm
    known = f"{size:g} nm per pixel" if size else "pixel size not known, areas are in px"
    console.print(Text(f"{_count(len(report.sections), 'section')}, {known}", style="bold"))
    console.print(_tabulate_sections(report))
    if report.counts:
        console.print(_tabulate_structures(report))
        console.print(Text(_describe_balance(report), style="dim"))
    for ignored in _describe_ignored(report):
        console.print(ignored, markup=False, soft_wrap=True)
    console.print()
    for group in group_findings(report.findings):
        style = "bold red" if group.level == ERROR else "yellow"
        line = Text(f"{group.level.upper():8}", style=style)
        console.print(line + Text(group.sentence), soft_wrap=not console.is_terminal)
    console.print(
        f"{_count(report.errors, 'error')} and {_count(report.warnings, 'warning')}", style="bold"
    )


def _tabulate_sections(report: Report) -> Table:
    table = _simple_table(
        "Split", "Sections", "Height x width", "Type", "Mean", "Deviation", "At ends"
    )
    groups: dict[tuple[str, str, str], list[SectionMeasures]] = defaultdict(list)
    for section in report.sections:
        raw = section.raw
        shape = _MISSING if raw is None else f"{raw.shape[0]} x {raw.shape[1]}"
        groups[section.split, shape, _MISSING if raw is None else raw.dtype].append(section)
    for (split, shape, dtype), members in groups.items():
        raws = [section.raw for section in members if section.raw is not None]
        ends = max((max(raw.share_lowest, raw.share_highest) for raw in raws), default=0.0)
        table.add_row(
            split,
            str(len(members)),
            shape,
            dtype,
            _describe_range([raw.mean for raw in raws]),
            _describe_range([raw.deviation for raw in raws]),
            f"{ends:.2%}" if raws else _MISSING,
        )
    return table


def _tabulate_structures(report: Report) -> Table:
    table = _simple_table(
        "Structure", "Split", "Inst.", "Foregr.", "Unit", "min", "5 %", "median", "95 %", "max"
    )
    for structure in dict.fromkeys(counts.structure for counts in report.counts):
        members = [counts for counts in report.counts if counts.structure == structure]
        unit, factor = _choose_unit(members, report.pixel_size_nm)
        for counts in members:
            areas = counts.areas_px or ()
            numbers = [_format_area(area * factor) for area in areas]
            table.add_row(
                structure,
                counts.split,
                str(counts.instances),
                f"{counts.foreground:.2%}",
                unit,
                *(numbers or [_MISSING] * 5),
            )
    return table


def _choose_unit(counts: list[StructureCounts], pixel_size_nm: float | None) -> tuple[str, float]:
    if pixel_size_nm is None:
        return "px", 1.0
    largest = max((max(entry.areas_px) for entry in counts if entry.areas_px), default=0.0)
    if largest * pixel_size_nm**2 >= _LARGE_AREA_NM2:
        return "um²", pixel_size_nm**2 / 1e6
    return "nm²", pixel_size_nm**2


def _format_area(area: float) -> str:
    """An area of three digits or more, in at most eight characters."""
    return f"{area:.0f}" if 1000 <= area < 1e6 else f"{area:.3g}"


def _describe_balance(report: Report) -> str:
    parts = []
    for counts in report.counts:
        if counts.split == "train" and counts.balance is not None:
            weight = find_structure(counts.structure).weigh_foreground(counts.foreground)
            parts.append(f"{counts.structure} {counts.balance:.3g} (default {weight:g})")
    return f"Foreground weight that balances train: {', '.join(parts) or _MISSING}"


def _describe_ignored(report: Report) -> list[str]:
    """What share of each split and section nobody annotated, a line per structure and split."""
    lines = []
    for counts in report.counts:
        shares = {
            section.name: mask.ignored_share
            for section in report.sections
            if section.split == counts.split
            and (mask := section.masks.get(counts.structure)) is not None
            and mask.ignored
        }
        if shares:
            lines.append(
                f"Ignored of {counts.structure} in {counts.split}: {100 * counts.ignored:.3g} % "
                f"({list_shares(shares)})"
            )
    return lines


def _simple_table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    for column in columns:
        left = column in ("Structure", "Split", "Type", "Unit")
        table.add_column(column, justify="left" if left else "right", no_wrap=True)
    return table


def _describe_range(values: list[float]) -> str:
    if not values:
        return _MISSING
    ends = dict.fromkeys(f"{value:.3g}" for value in (min(values), max(values)))
    return " to ".join(ends)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def check(tree: SourceTree, output: Path | None = None, console: Console | None = None) -> Report:
    """Reads every section once, says what the tree holds and what is wrong with it.

    Args:
        tree: The sections.
        output: Folder for a picture of every section and findings.json; None writes nothing.
        console: Where the tables are printed; the terminal if not given.

    Returns:
        The report; `fail_on_errors` ends the command with it.
    """
    album = None if output is None else _Album(output, tree)
    with show_progress("check") as advance:
        report = inspect_tree(
            tree,
            show=None if album is None else album.add,
            progress=lambda done, total: advance(done, total, ""),
        )
    _print_report(report, console or Console())
    if output is not None and album is not None:
        album.finish(report)
        write_json(output / _FINDINGS_FILE, report.as_record())
    return report


def fail_on_errors(report: Report) -> None:
    """Raises BenchError if anything found is an error, so that the command ends with status 2."""
    if not report.errors:
        return
    raise BenchError(
        f"annotated images must be free of errors, received {_count(report.errors, 'error')} and "
        f"{_count(report.warnings, 'warning')}: correct what is listed, or leave those sections out"
    )


def name_of_data(tree: SourceTree) -> str:
    """What a tree is called, after its folder or file: the name of the folder of its pictures."""
    given = tree.given.resolve()
    return (given.name if given.is_dir() else stem_of(given)) or "input"


def choose_picture(report: Report) -> str:
    """The section to look at first: the one with the most findings; empty if none was drawn."""
    counts = Counter(finding.section for finding in report.findings)
    drawn = [section.name for section in report.sections if section.raw is not None]
    return max(drawn, key=lambda name: counts[name], default="")


def publish_pictures(folder: Path, target: Path) -> Path:
    """Copies the files of a check to a folder, in the place of those of the check before."""
    before = target / _FINDINGS_FILE
    if before.is_file():
        for section in json.loads(before.read_text(encoding="utf-8"))["sections"]:
            (target / f"{section['name']}.png").unlink(missing_ok=True)
    for file in sorted(folder.iterdir()):
        write_whole(target / file.name, partial(shutil.copyfile, file))
    return target


class _Album:
    """The pictures of a check: written as sections are read, completed when all is known."""

    def __init__(self, folder: Path, tree: SourceTree) -> None:
        self.folder = folder
        self.colours = choose_colours(tree.structures)
        self.factors: dict[str, int] = {}

    def path(self, section: str) -> Path:
        return self.folder / f"{section}.png"

    def add(self, small: SmallSection) -> None:
        """Writes the picture of a section with its outlines alone."""
        raw = hatch_ignored(small.raw, small.ignored)
        outlined = draw_section_outlines(raw, small.labels, self.colours)
        png = imagecodecs.png_encode(outlined, level=1)

        def write(path: Path) -> None:
            path.write_bytes(png)

        write_whole(self.path(small.name), write)
        self.factors[small.name] = small.factor

    def finish(self, report: Report) -> None:
        """Adds what was found in each section, legend and scale bar to its picture."""
        findings: dict[str, list[Finding]] = defaultdict(list)
        for finding in report.findings:
            if finding.section is not None:
                findings[finding.section].append(finding)
        with show_progress("draw") as advance:
            for done, name in enumerate(self.factors, start=1):
                self.draw(name, findings[name], report.pixel_size_nm)
                advance(done, len(self.factors), "")

    def draw(self, name: str, findings: list[Finding], pixel_size_nm: float | None) -> None:
        figure = inspection_figure(
            np.asarray(imagecodecs.png_decode(self.path(name).read_bytes())),
            name=name,
            findings=findings,
            factor=self.factors[name],
            colours=self.colours,
            pixel_size_nm=pixel_size_nm,
        )
        write_whole(self.path(name), partial(figure.savefig, format="png"))
