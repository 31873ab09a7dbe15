"""A sheet of the pieces that are suggested: the image, what is pre-drawn, where models disagree."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from bench.core.pixels import shrink_factor, shrink_image, shrink_labels
from bench.report.figures.overlays import PREDICTION_COLOUR, draw_outlines, grey_rgb, outline_width
from bench.report.figures.scale_bar import draw_scale_bar

_SIDE_PX, _PANEL_IN = 700, 4.6


@dataclass(frozen=True, eq=False)
class SuggestionPanel:
    """A piece that is suggested.

    Attributes:
        title: What is said of it.
        raw: The image (y, x).
        labels: What is pre-drawn: ids (y, x).
        disagreement: Of the models (y, x) uint8.
        pixel_size_nm: Edge of a pixel in nm; None where it is not known.
    """

    title: str
    raw: np.ndarray
    labels: np.ndarray
    disagreement: np.ndarray
    pixel_size_nm: float | None


def suggestions_sheet(panels: Sequence[SuggestionPanel]) -> Figure:
    """Draws pieces below each other: outlines of what is pre-drawn, and disagreement beside."""
    shapes = [panel.raw.shape for panel in panels]
    heights = [_PANEL_IN * height / width + 0.4 for height, width in shapes]
    figure = Figure(figsize=(2 * _PANEL_IN, sum(heights)), layout="constrained")
    grid = figure.subplots(len(panels), 2, squeeze=False, height_ratios=heights)
    for (left, right), panel in zip(grid, panels, strict=True):
        factor = shrink_factor(panel.raw.shape, _SIDE_PX)
        grey = grey_rgb(shrink_image(panel.raw, factor))
        labels = shrink_labels(panel.labels, factor)
        drawn = draw_outlines(grey, labels, PREDICTION_COLOUR, width_px=outline_width(grey))
        size = panel.pixel_size_nm * factor if panel.pixel_size_nm else None
        left.imshow(draw_scale_bar(drawn, size))
        left.set_title(panel.title, fontsize=8)
        right.imshow(shrink_image(panel.disagreement, factor), cmap="magma", vmin=0, vmax=255)
        right.set_title("where models disagree: black not at all", fontsize=8)
        for axes in (left, right):
            axes.set_axis_off()
    return figure
