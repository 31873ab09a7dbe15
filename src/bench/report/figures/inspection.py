"""The picture of a checked section: outlines of every structure, and rings where findings lie."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch

from bench.ingest.inspection.findings import Finding
from bench.report.figures.overlays import draw_outlines, grey_rgb, outline_width, unit_colour
from bench.report.figures.scale_bar import add_scale_bar
from bench.structures import title_of

_WIDTH_IN = 8.0
_DPI = 130
# Rings stay clear of the object, and can be seen around one of a few pixels.
_RING_MARGIN = 1.5
_LEAST_RING_SHARE = 1 / 90
# White between black lines shows on any grey and beside the colours of all structures.
_RING_STYLES: dict[str, Literal["-", ":", "--", "-."]] = {
    "tiny": ":",
    "large": "-",
    "overlap": "--",
    "cut": "-.",
}
# More would hide the image.
MOST_RINGS = 300
_TITLE_SIZE = 9
_LINES_IN_TITLE = 4
_LINE_LENGTH = 100


def draw_section_outlines(
    raw: np.ndarray, labels: Mapping[str, np.ndarray], colours: Mapping[str, tuple[int, int, int]]
) -> np.ndarray:
    """Draws a section in grey with the outlines of every structure, large structures below.

    Args:
        raw: Section (y, x) of finite numbers.
        labels: Instances (y, x) by structure.
        colours: Of each structure.

    Returns:
        RGB (y, x, 3), uint8.
    """
    image = grey_rgb(raw)
    width_px = outline_width(image)
    for name in sorted(labels, key=lambda name: -np.count_nonzero(labels[name])):
        image = draw_outlines(image, labels[name], colours[name], width_px=width_px)
    return image


def inspection_figure(
    outlined: np.ndarray,
    *,
    name: str,
    findings: Sequence[Finding],
    factor: int,
    colours: Mapping[str, tuple[int, int, int]],
    pixel_size_nm: float | None,
) -> Figure:
    """Draws what was found in a section over its outlines.

    Args:
        outlined: RGB (y, x, 3) of the section with its outlines, uint8.
        name: The section's name.
        findings: Those about this section, the most severe first.
        factor: Pixels of the section in one of the picture, along an edge.
        colours: Of each structure.
        pixel_size_nm: Edge of a pixel of the section in nm; None where it is not known.
    """
    height, width = outlined.shape[:2]
    lines = describe_findings(findings)
    figure = Figure(
        figsize=(_WIDTH_IN, min(_WIDTH_IN * height / width, _WIDTH_IN) + 1.1 + 0.16 * len(lines)),
        dpi=_DPI,
        layout="constrained",
    )
    axes = figure.subplots()
    axes.imshow(outlined)
    axes.set_axis_off()
    figure.suptitle("\n".join([name, *lines]), fontsize=_TITLE_SIZE, x=0.01, ha="left")
    for finding in findings:
        style = _RING_STYLES.get(finding.kind, "-")
        for y, x, radius in finding.marks[:MOST_RINGS]:
            ring = max(_RING_MARGIN * radius / factor, _LEAST_RING_SHARE * max(height, width))
            centre = ((x + 0.5) / factor - 0.5, (y + 0.5) / factor - 0.5)
            for colour, line in (("black", 2.6), ("white", 1.3)):
                circle = Circle(centre, ring, fill=False, color=colour, lw=line, linestyle=style)
                axes.add_patch(circle)
    add_scale_bar(axes, width, pixel_size_nm and pixel_size_nm * factor)
    _add_keys(
        figure, colours, {finding.kind: finding.title for finding in findings if finding.marks}
    )
    return figure


def describe_findings(findings: Sequence[Finding]) -> list[str]:
    """The first findings of a section, a short line each."""
    lines = []
    for finding in findings[:_LINES_IN_TITLE]:
        text = ": ".join(filter(None, (finding.title, finding.structure, finding.fact)))
        lines.append(text if len(text) <= _LINE_LENGTH else f"{text[:_LINE_LENGTH]}...")
    more = len(findings) - _LINES_IN_TITLE
    return [*lines, f"and {more} more"] if more > 0 else lines


def _add_keys(
    figure: Figure, colours: Mapping[str, tuple[int, int, int]], rings: Mapping[str, str]
) -> None:
    handles: list[Patch | Line2D] = [
        Patch(facecolor=unit_colour(colour), edgecolor="black", label=title_of(name))
        for name, colour in colours.items()
    ]
    handles += [
        Line2D([], [], color="black", linestyle=_RING_STYLES.get(kind, "-"), label=title)
        for kind, title in rings.items()
    ]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9)
