"""Picture of the instances found in one section, where there is no annotation."""

import numpy as np
from matplotlib.figure import Figure

from bench.core.pixels import shrink_factor, shrink_image, shrink_labels
from bench.report.figures.figures import add_scale_bar, grey_rgb, outline_width, show_image
from bench.report.figures.overlays import OKABE_ITO, draw_outlines

# A montage is looked at closely: about a screen's height, at its own resolution.
LONGEST_SIDE_PX = 2200
DPI = 110
SMALLEST_WIDTH_IN = 5.0
COLOUR = OKABE_ITO["yellow"]


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
    width_in = max(SMALLEST_WIDTH_IN, width / DPI)
    figure = Figure(
        figsize=(width_in, width_in * height / width + 0.5), dpi=DPI, layout="constrained"
    )
    axes = figure.subplots()
    show_image(axes, image, title)
    if pixel_size_nm is not None:
        add_scale_bar(axes, width, pixel_size_nm * factor)
    return figure
