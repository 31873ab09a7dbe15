"""Check annotated images: a report on the terminal, and pictures of what was found."""

from collections import defaultdict
from functools import partial
from pathlib import Path

import imagecodecs
import numpy as np
from rich.console import Console

from bench.core.files import write_json, write_whole
from bench.core.progress import show_progress
from bench.errors import BenchError
from bench.ingest.inspection.findings import Finding
from bench.ingest.inspection.report import Report, inspect_tree
from bench.ingest.inspection.section_measures import SmallSection
from bench.ingest.sources import SourceTree
from bench.report.figures.inspection import choose_colours, draw_section_outlines, inspection_figure
from bench.steps.check_report import count, print_report

FINDINGS_FILE = "findings.json"


def check(tree: SourceTree, output: Path | None = None, console: Console | None = None) -> Report:
    """Reads every section once, says what the tree holds and what is wrong with it.

    Args:
        tree: The sections.
        output: Folder for a picture of every section and findings.json; None writes nothing.
        console: Where the tables are printed; the terminal if not given.

    Returns:
        The report; `fail_on_errors` ends the command with it.
    """
    album = None if output is None else Album(output, tree)
    with show_progress("check") as advance:
        report = inspect_tree(
            tree,
            show=None if album is None else album.add,
            progress=lambda done, total: advance(done, total, ""),
        )
    print_report(report, console or Console())
    if output is not None and album is not None:
        album.finish(report)
        write_json(output / FINDINGS_FILE, report.as_record())
    return report


def fail_on_errors(report: Report) -> None:
    """Raises BenchError if anything found is an error, so that the command ends with status 2."""
    if not report.errors:
        return
    raise BenchError(
        f"annotated images must be free of errors, received {count(report.errors, 'error')} and "
        f"{count(report.warnings, 'warning')}: correct what is listed, or leave those sections out"
    )


class Album:
    """The pictures of a check: written as sections are read, completed when all is known."""

    def __init__(self, folder: Path, tree: SourceTree) -> None:
        self.folder = folder
        self.colours = choose_colours(tree.structures)
        self.factors: dict[str, int] = {}

    def path(self, section: str) -> Path:
        """The picture of a section."""
        return self.folder / f"{section}.png"

    def add(self, small: SmallSection) -> None:
        """Writes the picture of a section with its outlines alone."""
        outlined = draw_section_outlines(small.raw, small.labels, self.colours)
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
        """Completes the picture of one section."""
        figure = inspection_figure(
            np.asarray(imagecodecs.png_decode(self.path(name).read_bytes())),
            name=name,
            findings=findings,
            factor=self.factors[name],
            colours=self.colours,
            pixel_size_nm=pixel_size_nm,
        )
        write_whole(self.path(name), partial(figure.savefig, format="png"))
