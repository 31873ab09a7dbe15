"""The charts of the page, as inline SVG in its colours, with what each lacks."""

import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import matplotlib
from matplotlib.figure import Figure

from bench.metrics.metric import Metric
from bench.metrics.table import METRICS
from bench.report.figures.charts import (
    draw_dice_levels,
    has_curve,
    learning_curve,
    score_chart,
)
from bench.report.figures.curves import Curve, draw_curves, fit_dice_axis
from bench.report.figures.looks import MethodLook, choose_looks
from bench.report.page.elements import Markup, element
from bench.report.page.records import Shown
from bench.report.table_formats import shorten_dataset
from bench.report.tables import TableRow
from bench.report.variants import variant_label
from bench.structures import title_of

# What the page's style sheet sets, for light and for dark.
_THEME = {"#000000": "currentColor", "#ffffff": "var(--paper)"}
# In letters: two columns of longer labels are wider than the chart.
_LONG_LABEL = 28
PRECISION_RECALL = (
    "Pixels of the whole split at every threshold, before post-processing, by the run of the "
    "median Dice of each method. Grey: lines of equal Dice."
)
TRAINING = (
    "Dice of the validation sections while training, at threshold 0.5, by the run of the median "
    "Dice of each method, thin by those of its other seeds; of a method of several stages, the "
    "last one. First against the iteration, then against the seconds of training, validations "
    "included, on whatever machine it was. Methods of equal curves share the line in turn."
)
_Draw = Callable[
    [Mapping[str, Curve], Mapping[str, MethodLook], Mapping[str, Sequence[Curve]]], Figure
]


def score_caption(metric: Metric) -> str:
    """What the charts of scores show."""
    return (
        f"Bar: {metric.heading} of the pooled {metric.basis}, mean over seeds. Whisker: 95 % "
        "interval of the mean section. A method has one colour in all charts."
    )


def learning_caption(metric: Metric) -> str:
    """What the learning curves show."""
    return (
        f"{metric.heading} of the pooled {metric.basis} against the annotated training sections, "
        "mean over seeds; bars are one standard deviation. Dashed: methods that learn from no "
        "annotation."
    )


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
    for colour, themed in _THEME.items():
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


def _curves_chart(
    curves: Mapping[str, Curve],
    looks: Mapping[str, MethodLook],
    others: Mapping[str, Sequence[Curve]],
    *,
    x: str,
    y: str,
) -> Figure:
    """Draws a curve per method into a figure with a legend; one of them has points."""
    labels = [variant_label(method) for method, curve in curves.items() if not curve.missing]
    columns = 1 if max(map(len, labels)) > _LONG_LABEL else 2
    figure = Figure(
        figsize=(5.6, 3.7 + 0.2 * math.ceil(len(labels) / columns)), layout="constrained"
    )
    axes = figure.subplots()
    handles = draw_curves(axes, curves, looks, others)
    axes.set(xlabel=x, ylabel=y)
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, fontsize=9, frameon=False
    )
    return figure


def precision_recall_chart(
    curves: Mapping[str, Curve],
    looks: Mapping[str, MethodLook],
    others: Mapping[str, Sequence[Curve]] = MappingProxyType({}),
) -> Figure:
    """Draws precision against recall of the methods of one structure."""
    figure = _curves_chart(curves, looks, others, x="Recall", y="Precision")
    draw_dice_levels(figure.axes[0])
    figure.axes[0].set(xlim=(0, 1.02), ylim=(0, 1.02))
    return figure


def training_chart(
    curves: Mapping[str, Curve],
    looks: Mapping[str, MethodLook],
    others: Mapping[str, Sequence[Curve]] = MappingProxyType({}),
    x: str = "Iteration",
) -> Figure:
    """Draws validation Dice against the iteration, or else, of the methods of one structure."""
    figure = _curves_chart(curves, looks, others, x=x, y="Validation Dice")
    fit_dice_axis(figure.axes[0])
    return figure


def score_figures(rows: Sequence[TableRow]) -> Iterator[Markup]:
    """A chart of Dice per structure and dataset with a score."""
    looks = choose_looks([row.method for row in rows])
    for number, ((dataset, structure), members) in enumerate(_by_structure(rows)):
        if any(row.scores for row in members):
            drawn = score_chart(members, looks)
            # The page has the title and the caption.
            drawn.axes[0].set_title("")
            drawn.supxlabel("")
            label = METRICS[members[0].metric].label
            alt = f"Bars of {label} of {structure}, the numbers are in the table"
            chart = to_svg(drawn, f"scores{number}", alt)
            yield _figure(_title_of(dataset, structure, rows), structure, chart)


def learning_figures(rows: Sequence[TableRow]) -> Iterator[Markup]:
    """A learning curve per structure and dataset that has one."""
    looks = choose_looks([row.method for row in rows])
    for number, ((dataset, structure), members) in enumerate(_by_structure(rows)):
        if has_curve(members):
            drawn = learning_curve(members, looks)
            drawn.axes[0].set_title("")
            label = METRICS[members[0].metric].label
            alt = f"{label} of {structure} against the number of annotated sections"
            chart = to_svg(drawn, f"learning{number}", alt)
            yield _figure(_title_of(dataset, structure, rows), structure, chart)


def precision_recall_figures(shown: Sequence[Shown], rows: Sequence[TableRow]) -> Iterator[Markup]:
    """A chart of precision against recall per structure and dataset."""
    curves = [(one.row, one.precision_recall, ()) for one in shown]
    return _curve_figures(curves, rows, precision_recall_chart, "Precision against recall")


def training_figures(shown: Sequence[Shown], rows: Sequence[TableRow]) -> Iterator[Markup]:
    """Charts of validation Dice per structure and dataset: against iterations, and seconds."""
    found = [(one.row, one.training) for one in shown]
    by_iteration = [(row, each.iterations, each.other_iterations) for row, each in found]
    yield from _curve_figures(
        by_iteration, rows, training_chart, "Validation Dice against iteration"
    )
    by_second = [(row, each.seconds, each.other_seconds) for row, each in found]
    if not all(each.seconds.missing for _, each in found):
        draw = partial(training_chart, x="Seconds of training")
        yield from _curve_figures(by_second, rows, draw, "Seconds and validation Dice")


def _curve_figures(
    curves: Sequence[tuple[TableRow, Curve, Sequence[Curve]]],
    rows: Sequence[TableRow],
    draw: _Draw,
    name: str,
) -> Iterator[Markup]:
    """A chart per structure and dataset with a score; methods without a curve are named below.

    The methods of all rows give the looks.
    """
    looks = choose_looks([row.method for row in rows])
    for number, ((dataset, structure), members) in enumerate(_by_structure(rows)):
        found = {row.method: curve for row, curve, _ in curves if row in members}
        others = {row.method: thin for row, _, thin in curves if row in members}
        if not found:
            continue
        chart = Markup("")
        if not all(curve.missing for curve in found.values()):
            key = f"{name.split()[0].lower()}{number}"
            chart = to_svg(draw(found, looks, others), key, f"{name}: {structure}")
        yield _figure(_title_of(dataset, structure, rows), structure, chart, _name_missing(found))


def _name_missing(curves: Mapping[str, Curve]) -> Markup:
    reasons: dict[str, list[str]] = {}
    for method, curve in curves.items():
        if curve.missing:
            reasons.setdefault(curve.missing, []).append(variant_label(method))
    lines = [element("li", f"{'; '.join(labels)}: {why}") for why, labels in reasons.items()]
    return element("figcaption", "Left out:", element("ul", lines)) if lines else Markup("")


def _by_structure(rows: Sequence[TableRow]) -> list[tuple[tuple[str, str], list[TableRow]]]:
    cells = dict.fromkeys((row.dataset, row.structure) for row in rows)
    return [(cell, [row for row in rows if (row.dataset, row.structure) == cell]) for cell in cells]


def _title_of(dataset: str, structure: str, rows: Sequence[TableRow]) -> str:
    several = len({row.dataset for row in rows}) > 1
    return title_of(structure) + (f", {shorten_dataset(dataset)}" if several else "")


def _figure(title: str, structure: str, chart: Markup, below: str = "") -> Markup:
    drawn = element("div", chart, class_="chart") if chart else ""
    return element("figure", element("h3", title), drawn, below, data_structure=structure)
