"""What measure leaves: tables, charts, pictures and a page."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bench.config.measuring import MeasureConfig
from bench.core.files import write_text, write_whole
from bench.report.figures.figures import instance_figure
from bench.report.figures.measured import distribution_figure, groups_figure
from bench.report.figures.planes import find_fullest
from bench.report.measured.held_out import describe_classes
from bench.report.measured.study import (
    Study,
    compare_groups,
    summarise,
    tabulate_objects,
    tabulate_sections,
)
from bench.report.page.measured_page import measured_page
from bench.steps.measuring.subject import MeasuredInput
from bench.tracking.runs import Run

MEASURED_PAGE, GROUPS_FIGURE = "measurements.html", "groups.png"
_OBJECTS, _SUMMARY, _COMPARISONS = "objects.csv", "summary.csv", "comparisons.csv"
_HELD_OUT, _DISTRIBUTIONS = "held_out.csv", "distributions.png"
_LARGEST_ARTIFACT_BYTES = 64 * 2**20
# Sections whose outlines the page shows.
_SHOWN = 3
_DPI = 110


@dataclass(frozen=True, eq=False)
class _Written:
    """Tables that were written."""

    summary: pd.DataFrame
    comparisons: pd.DataFrame


def write_measured(study: Study, measured: MeasuredInput, folder: Path) -> _Written:
    """Writes the tables, charts and the page of a study into a folder."""
    summary, sections = summarise(study), tabulate_sections(study)
    comparisons = compare_groups(study)
    tables = {
        _OBJECTS: tabulate_objects(study),
        f"{study.unit}s.csv": sections,
        _SUMMARY: summary,
    }
    if len(comparisons):
        tables[_COMPARISONS] = comparisons
    if study.held_out is not None:
        tables[_HELD_OUT] = describe_classes(study.held_out)
    for name, table in tables.items():
        write_text(folder / name, table.to_csv(index=False))
    figures = {
        GROUPS_FIGURE: groups_figure(study, summary, sections),
        _DISTRIBUTIONS: distribution_figure(study),
    }
    for name, figure in figures.items():
        _write_figure(figure, folder / name)
    page_figures = {name.partition(".")[0]: figure for name, figure in figures.items()}
    page = measured_page(study, summary, comparisons, page_figures, _draw_pictures(study, measured))
    write_text(folder / MEASURED_PAGE, page)
    return _Written(summary, comparisons)


def _write_figure(figure: Figure, path: Path) -> None:
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=_DPI))
    # The page draws it again, and need not lay it out again.
    figure.set_layout_engine("none")


def _draw_pictures(study: Study, measured: MeasuredInput) -> Mapping[str, bytes]:
    """Outlines of what was measured in the first, a middle and the last section, as PNG."""
    pictures = {}
    numbers = np.unique(np.linspace(0, len(measured.units) - 1, _SHOWN).astype(int))
    for unit in (measured.units[number] for number in numbers):
        labels = unit.read_labels(measured.subject, measured.structure)
        raw = unit.stack(lambda name: measured.subject.images[name].read())
        title = f"{unit.name}: {len(np.unique(labels[labels != 0]))} {study.structure}"
        if unit.axes == 3:
            plane = find_fullest(labels)[0]
            raw, labels, title = raw[plane], labels[plane], f"{title}, plane {plane}"
        figure = instance_figure(raw, labels, title=title, pixel_size_nm=unit.edges_nm[-1])
        content = io.BytesIO()
        figure.savefig(content, format="png")
        pictures[unit.name] = content.getvalue()
    return pictures


def log_measured(
    run: Run, config: MeasureConfig, study: Study, written: _Written, folder: Path
) -> None:
    """Leaves settings, the values of all sections, and the files in the run."""
    held_out = study.held_out.origin if study.held_out else "none"
    resolved = {"structure": study.structure, "one_value_is": study.drawn}
    run.log_settings(vars(config) | resolved | {"held_out": held_out}, config)
    run.keep_warnings(f"raw values alone: {reason}" for reason in study.reasons.values())
    every = written.summary[written.summary["level"] == "all"]
    metrics = {}
    for row in every.itertuples():
        for kind in ("raw", "corrected"):
            value = float(getattr(row, kind))
            if np.isfinite(value):
                metrics[f"measure/{row.quantity}_{kind}"] = value
    run.log_metrics(metrics)
    for path in sorted(folder.iterdir()):
        if path.stat().st_size <= _LARGEST_ARTIFACT_BYTES:
            run.log_file(path)
