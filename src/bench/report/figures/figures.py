"""Pictures of sections: the error overlay of a run, instances, the contact sheet of a dataset."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from bench.core.pixels import shrink_factor, shrink_image, shrink_labels
from bench.errors import BenchError
from bench.metrics.table import METRICS
from bench.report.figures.overlays import (
    ERROR_CLASSES,
    OKABE_ITO,
    PREDICTION_COLOUR,
    TRUTH_COLOUR,
    check_section,
    draw_outlines,
    draw_overlay,
    grey_rgb,
    outline_width,
    unit_colour,
)
from bench.report.figures.scale_bar import add_scale_bar
from bench.structures import STRUCTURES, order_structures, title_of

# Enough for a panel of half a screen; larger sections are shrunk to it before plotting.
PANEL_SIDE_PX = 1100
_PANEL_WIDTH_IN = 5.0
# In the order of STRUCTURES; other structures take those that are left.
_STRUCTURE_COLOURS = tuple(
    OKABE_ITO[name] for name in ("yellow", "sky blue", "vermillion", "bluish green", "orange")
)
_PANEL_TITLE_SIZE = 11
# A montage is looked at closely: about a screen's height, at its own resolution.
LONGEST_SIDE_PX = 2200
_DPI = 110
_SMALLEST_WIDTH_IN = 5.0
# Scores of a section that stand over its errors.
_WRITTEN = ("dice", "instance_f1")
COLOUR = OKABE_ITO["yellow"]


@dataclass(frozen=True)
class ContactPanel:
    """One section of the contact sheet.

    Attributes:
        split: Its split; a column of the sheet.
        section: Its name.
        raw: Image (y, x) of any bit depth.
        labels: Instance ids (y, x) of each structure.
        counts: Instances of each structure, for the title.
        pixel_size_nm: Edge of a pixel in nm; None where it is not known.
    """

    split: str
    section: str
    raw: np.ndarray
    labels: Mapping[str, np.ndarray]
    counts: Mapping[str, int]
    pixel_size_nm: float | None = None


def overlay_figure(
    raw: np.ndarray,
    *,
    truth: np.ndarray,
    prediction: np.ndarray,
    title: str,
    scores: Mapping[str, float],
    pixel_size_nm: float | None,
) -> Figure:
    """Draws a section with its annotation, with the predicted instances, and with the errors.

    Args:
        raw: Section (y, x) of any bit depth.
        truth: Instance ids (y, x), or a mask.
        prediction: Instance ids (y, x), or a mask.
        title: Says which section, structure and method.
        scores: Of this section; ``dice`` and ``instance_f1`` are written over the errors.
        pixel_size_nm: Edge of a pixel in nm; None where it is not known.

    Raises:
        BenchError: If the shapes differ or are not two-dimensional.
    """
    check_section(raw, truth.shape)
    check_section(prediction, truth.shape)
    factor = shrink_factor(raw.shape, PANEL_SIDE_PX)
    grey = grey_rgb(shrink_image(raw, factor))
    width_px = outline_width(grey)
    outlined = [
        draw_outlines(grey, shrink_labels(labels, factor), colour, width_px=width_px)
        for labels, colour in ((truth, TRUTH_COLOUR), (prediction, PREDICTION_COLOUR))
    ]
    errors = draw_overlay(raw, truth=truth, prediction=prediction, factor=factor)
    written = [
        f"{METRICS[metric].label} {METRICS[metric].write(scores[metric])}"
        for metric in _WRITTEN
        if metric in scores
    ]
    panels = {
        "Annotation": outlined[0],
        "Prediction": outlined[1],
        "Errors: " + (", ".join(written) or "not scored"): errors,
    }
    height = _PANEL_WIDTH_IN * grey.shape[0] / grey.shape[1] + 1.2
    figure = Figure(figsize=(3 * _PANEL_WIDTH_IN, height), layout="constrained")
    for axes, (name, image) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        _show_image(axes, image, name)
        add_scale_bar(axes, image.shape[1], pixel_size_nm and pixel_size_nm * factor)
    figure.suptitle(title, fontsize=17)
    _add_legend(figure, dict(ERROR_CLASSES.values()))
    return figure


def contact_sheet(panels: Sequence[ContactPanel]) -> Figure:
    """Draws annotated sections side by side, one column per split.

    Columns and rows are in the order of the panels. Each structure has one colour; a scale bar
    of a round length is drawn where the pixel size is known.

    Args:
        panels: A few sections of each split, large ones best through ``shrink_panel`` when read.

    Raises:
        BenchError: If there is no panel, or labels and image of one differ in shape.
    """
    if not panels:
        raise BenchError("a contact sheet needs a section, received none: pass one per split")
    columns: dict[str, list[ContactPanel]] = {}
    for panel in panels:
        columns.setdefault(panel.split, []).append(shrink_panel(panel))
    colours = choose_colours([name for panel in panels for name in panel.labels])
    rows = max(len(column) for column in columns.values())
    aspect = max(panel.raw.shape[0] / panel.raw.shape[1] for panel in panels)
    figure = Figure(
        figsize=(_PANEL_WIDTH_IN * len(columns), (_PANEL_WIDTH_IN * aspect + 0.6) * rows + 0.5),
        layout="constrained",
    )
    parts = figure.subfigures(1, len(columns), squeeze=False)[0]
    for part, (split, members) in zip(parts, columns.items(), strict=True):
        part.suptitle(split, fontsize=16, weight="bold")
        grid = part.subplots(rows, 1, squeeze=False)[:, 0]
        for axes in grid[len(members) :]:
            # As high as a place with an image, so that rows stay in line.
            axes.set_title(" \n ", fontsize=_PANEL_TITLE_SIZE)
            axes.set_axis_off()
        for axes, panel in zip(grid, members, strict=False):
            _draw_panel(axes, panel, colours)
    _add_legend(figure, {title_of(name): colour for name, colour in colours.items()})
    return figure


def shrink_panel(panel: ContactPanel) -> ContactPanel:
    """A panel small enough to plot; a caller that keeps only this bounds its memory.

    Raises:
        BenchError: If labels and image differ in shape.
    """
    for labels in panel.labels.values():
        check_section(panel.raw, labels.shape)
    factor = shrink_factor(panel.raw.shape, PANEL_SIDE_PX)
    size = panel.pixel_size_nm
    return replace(
        panel,
        raw=shrink_image(panel.raw, factor),
        labels={name: shrink_labels(labels, factor) for name, labels in panel.labels.items()},
        pixel_size_nm=None if size is None else size * factor,
    )


def _draw_panel(
    axes: Axes, panel: ContactPanel, colours: Mapping[str, tuple[int, int, int]]
) -> None:
    image = grey_rgb(panel.raw)
    # Large structures first, so that the outlines of small ones stay on top.
    for name in sorted(panel.labels, key=lambda name: -np.count_nonzero(panel.labels[name])):
        image = draw_outlines(
            image, panel.labels[name], colours[name], width_px=outline_width(image)
        )
    counts = ", ".join(f"{count} {name}" for name, count in panel.counts.items())
    title = f"{panel.section}\n{counts}" if counts else panel.section
    _show_image(axes, image, title, size=_PANEL_TITLE_SIZE)
    add_scale_bar(axes, image.shape[1], panel.pixel_size_nm)


def choose_colours(structures: Iterable[str]) -> dict[str, tuple[int, int, int]]:
    """A colour for each structure, the same in every picture for those of STRUCTURES.

    The others of a picture differ from these and from each other while there are colours left.
    """
    names = order_structures(structures)
    fixed = dict(zip(STRUCTURES, _STRUCTURE_COLOURS, strict=False))
    taken = {fixed[name] for name in names if name in fixed}
    free = itertools.cycle([c for c in _STRUCTURE_COLOURS if c not in taken] or _STRUCTURE_COLOURS)
    return {name: fixed[name] if name in fixed else next(free) for name in names}


def _show_image(axes: Axes, image: np.ndarray, title: str, *, size: int = 15) -> None:
    axes.imshow(image)
    axes.set_title(title, fontsize=size)
    axes.set_axis_off()


def _add_legend(figure: Figure, colours: Mapping[str, tuple[int, int, int]]) -> None:
    patches = [
        Patch(facecolor=unit_colour(colour), edgecolor="black", label=name)
        for name, colour in colours.items()
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), fontsize=14)


def instance_figure(
    raw: np.ndarray, labels: np.ndarray, *, title: str, pixel_size_nm: float | None
) -> Figure:
    """Draws the outlines of instances over a section, with a scale bar where it has a scale.

    Args:
        raw: Section (y, x) of any bit depth.
        labels: Instance ids (y, x).
        title: Says what it shows.
        pixel_size_nm: Edge of a pixel; None where it is not known.
    """
    factor = shrink_factor(raw.shape, LONGEST_SIDE_PX)
    image = grey_rgb(shrink_image(raw, factor))
    ids = shrink_labels(labels, factor)
    image = draw_outlines(image, ids, COLOUR, width_px=outline_width(image) // 2 + 1)
    height, width = image.shape[:2]
    width_in = max(_SMALLEST_WIDTH_IN, width / _DPI)
    figure = Figure(
        figsize=(width_in, width_in * height / width + 0.5), dpi=_DPI, layout="constrained"
    )
    axes = figure.subplots()
    _show_image(axes, image, title)
    add_scale_bar(axes, width, pixel_size_nm and pixel_size_nm * factor)
    return figure
