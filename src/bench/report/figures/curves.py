"""Curves of methods into a chart: one line each, with those of its other seeds thin beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.report.figures.looks import MethodLook, choose_looks
from bench.report.variants import variant_label
from bench.structures import title_of

# The first curve is the widest, so that one of the same values drawn later does not hide it.
_WIDTHS = (2.8, 1.6)
# In widths of the line: what is drawn of each of several equal curves in turn.
_DASH = 3.0
# A curve of so few points shows them.
_FEW_POINTS = 8
_BELOW_ZERO = -0.02


@dataclass(frozen=True)
class Curve:
    """Points of a curve, or why there are none."""

    x: Sequence[float] = ()
    y: Sequence[float] = ()
    missing: str = ""


@dataclass(frozen=True)
class TrainingCurves:
    """Validation Dice of the trainings of a row of the table.

    Attributes:
        iterations: Against the iteration, of the run of the median Dice.
        seconds: Against the seconds trained until then, of the same run.
        other_iterations: Against the iteration, of the runs of the other seeds that have it.
        other_seconds: Against the seconds, of these.
    """

    iterations: Curve
    seconds: Curve
    other_iterations: Sequence[Curve] = ()
    other_seconds: Sequence[Curve] = ()


def draw_curves(
    axes: Axes,
    curves: Mapping[str, Curve],
    looks: Mapping[str, MethodLook],
    others: Mapping[str, Sequence[Curve]],
) -> list[Line2D]:
    """Draws a curve per method; those without points are left out.

    Equal curves share the line: each has a dash of it in turn.

    Args:
        axes: Where to draw.
        curves: By method; at least one has points.
        looks: Of the methods.
        others: Curves of the same method that are drawn thin: its other seeds.

    Returns:
        Lines for a legend: whole, where the curves may have a dash in turn.
    """
    drawn = [method for method, curve in curves.items() if not curve.missing]
    points = {name: (tuple(curves[name].x), tuple(curves[name].y)) for name in drawn}
    for method, width in zip(drawn, np.linspace(*_WIDTHS, len(drawn)), strict=True):
        look = looks[method]
        for other in others.get(method, ()):
            axes.plot(other.x, other.y, look.line, color=look.colour, lw=0.8, alpha=0.5, zorder=1)
        equal = [name for name in drawn if points[name] == points[method]]
        few = len(points[method][0]) <= _FEW_POINTS
        (line,) = axes.plot(
            *points[method],
            look.line,
            color=look.colour,
            marker="o" if few else "",
            ms=3 + width,
            lw=width,
            label=variant_label(method),
        )
        if len(equal) > 1:
            gap, turn = _DASH * (len(equal) - 1), _DASH * equal.index(method)
            line.set(linestyle=(turn, (_DASH, gap)), linewidth=_WIDTHS[0])
    axes.spines[["top", "right"]].set_visible(False)
    return [
        Line2D([], [], color=looks[m].colour, linestyle=looks[m].line, label=variant_label(m))
        for m in drawn
    ]


def fit_dice_axis(axes: Axes) -> None:
    """Limits an axis of Dice to the scores there are, with a margin, within 0 to 1."""
    # A curve of zeros is above the axis.
    low, high = np.clip(axes.get_ylim(), _BELOW_ZERO, 1)
    axes.set_ylim(low, max(high, low + 0.05))
    axes.grid(axis="y", alpha=0.3)


def training_figure(
    curves: Mapping[tuple[str, str], Mapping[str, TrainingCurves]],
) -> Figure | None:
    """Draws validation Dice against iterations and against seconds, a line of both per structure.

    Args:
        curves: By dataset and structure, then by method, in the order of the table.

    Returns:
        None where no method has a curve.
    """
    panels = {
        cell: found
        for cell, found in curves.items()
        if not all(each.iterations.missing for each in found.values())
    }
    if not panels:
        return None
    looks = choose_looks(list(dict.fromkeys(name for found in curves.values() for name in found)))
    figure = Figure(figsize=(10, 0.8 + 3.6 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), 2, squeeze=False, sharey="row")
    legend: dict[str, Line2D] = {}
    for line, ((_, structure), found) in zip(grid, panels.items(), strict=True):
        by_iteration = {name: each.iterations for name, each in found.items()}
        by_second = {name: each.seconds for name, each in found.items()}
        thin = [
            {name: each.other_iterations for name, each in found.items()},
            {name: each.other_seconds for name, each in found.items()},
        ]
        for axes, chosen, others in zip(line, (by_iteration, by_second), thin, strict=True):
            handles = draw_curves(axes, chosen, looks, others)
            legend |= {str(handle.get_label()): handle for handle in handles}
            axes.set_title(title_of(structure))
            if not handles:
                why = "not logged by the version that trained"
                axes.text(0.5, 0.5, why, ha="center", transform=axes.transAxes)
        fit_dice_axis(line[0])
        line[1].grid(axis="y", alpha=0.3)
        line[0].set_ylabel("Validation Dice")
    grid[-1, 0].set_xlabel("Iteration")
    grid[-1, 1].set_xlabel("Seconds of training, validations included")
    figure.legend(
        handles=list(legend.values()),
        loc="outside lower center",
        ncols=2,
        fontsize=9,
        frameon=False,
    )
    return figure
