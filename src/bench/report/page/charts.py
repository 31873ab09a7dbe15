"""Charts as inline SVG, in the colours of the page they stand on."""

import io
import math
import re
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report.figures.charts import COLOURS, METHOD_COLOURS, draw_dice_levels
from bench.report.page.elements import Markup, element
from bench.report.page.records import Curve

# Methods beyond the colours there are begin them again, with other lines.
LINES = ("-", "--", ":", "-.")
# What the page's style sheet sets, for light and for dark.
THEME = {"#000000": "currentColor", "#ffffff": "var(--paper)"}
# A curve of so few points shows them.
FEW_POINTS = 8
# In letters: two columns of longer labels are wider than the chart.
LONG_LABEL = 28


def to_svg(figure: Figure, name: str, alt: str) -> Markup:
    """Writes a figure as an SVG element that scales with the page.

    Equal figures give equal text. Black and white become the page's ink and paper.

    Args:
        figure: The figure.
        name: Of letters and digits, another one for every chart of a page: ids depend on it.
        alt: What the chart shows, for those who do not see it.
    """
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    text = io.StringIO()
    # Text stays text, which a reader can search; the font is the page's.
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(text, format="svg")
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    view = re.search(r'viewBox="0 0 ([\d.]+) [\d.]+"', svg)
    assert view is not None
    # With the date of this moment.
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Names of groups, which nothing refers to and other charts repeat.
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    for colour, themed in THEME.items():
        svg = svg.replace(colour, themed)
    inner = svg[svg.index(">") + 1 :].removesuffix("\n").removesuffix("</svg>")
    return element(
        "svg",
        Markup(inner),
        viewBox=view[0][9:-1],
        role="img",
        aria_label=alt,
        style=f"width:{float(view[1]) / 72 * 96:.0f}px",
    )


def curves_chart(curves: Mapping[str, Curve], methods: Sequence[str], *, x: str, y: str) -> Figure:
    """Draws a curve per method; those without points are left out.

    Args:
        curves: From the label of a method to its curve, one of which has points.
        methods: Labels of all methods of the benchmark: their places give the colours, which are
            those of the score chart.
        x: Label of the x axis.
        y: Label of the y axis.
    """
    drawn = [label for label, curve in curves.items() if not curve.missing]
    columns = 1 if max(map(len, drawn)) > LONG_LABEL else 2
    height = 3.7 + 0.2 * math.ceil(len(drawn) / columns)
    figure = Figure(figsize=(5.6, height), layout="constrained")
    axes = figure.subplots()
    for label in drawn:
        curve, place = curves[label], methods.index(label)
        axes.plot(
            curve.x,
            curve.y,
            LINES[place // len(METHOD_COLOURS) % len(LINES)],
            color=COLOURS[METHOD_COLOURS[place % len(METHOD_COLOURS)]],
            marker="o" if len(curve.x) <= FEW_POINTS else "",
            ms=5,
            lw=1.8,
            label=label,
        )
    axes.set(xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, fontsize=9, frameon=False
    )
    return figure


def precision_recall_chart(curves: Mapping[str, Curve], methods: Sequence[str]) -> Figure:
    """Draws precision against recall of the methods of one structure."""
    figure = curves_chart(curves, methods, x="Recall", y="Precision")
    draw_dice_levels(figure.axes[0])
    figure.axes[0].set(xlim=(0, 1.02), ylim=(0, 1.02))
    return figure


def training_chart(curves: Mapping[str, Curve], methods: Sequence[str]) -> Figure:
    """Draws validation Dice against the iteration of the methods of one structure."""
    figure = curves_chart(curves, methods, x="Iteration", y="Validation Dice")
    keep_unit_range(figure.axes[0])
    return figure


def keep_unit_range(axes: Axes) -> None:
    """Shows the scores there are, with a margin, within 0 to 1."""
    low, high = np.clip(axes.get_ylim(), 0, 1)
    axes.set_ylim(low, max(high, low + 0.05))
    axes.grid(axis="y", alpha=0.3)
