"""The charts of the page: one per structure and dataset, with what it lacks."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from matplotlib.figure import Figure

from bench.report.figures.charts import score_chart
from bench.report.figures.learning_curve import has_curve, learning_curve
from bench.report.page.charts import precision_recall_chart, to_svg, training_chart
from bench.report.page.elements import Markup, element
from bench.report.page.records import Curve, Shown
from bench.report.table_formats import shorten_dataset
from bench.report.tables import TableRow

SCORES = (
    "Bar: Dice of the pooled pixels, mean over seeds. Whisker: 95 % interval of the mean section."
)
PRECISION_RECALL = (
    "Pixels of the whole split at every threshold, before post-processing, by the run of the "
    "median Dice of each method. Grey: lines of equal Dice."
)
TRAINING = (
    "Dice of the validation sections while training, at threshold 0.5, by the run of the median "
    "Dice of each method; of a method of several stages, the last one."
)
LEARNING = (
    "Dice of the pooled pixels against the annotated training sections, mean over seeds; bars are "
    "one standard deviation. Dashed: methods that learn from no annotation."
)

Draw = Callable[[Mapping[str, Curve], Sequence[str]], Figure]


def score_figures(rows: Sequence[TableRow]) -> Iterator[Markup]:
    """A chart of Dice per structure and dataset with a score."""
    for number, ((dataset, structure), members) in enumerate(by_structure(rows)):
        if any(row.scores for row in members):
            drawn = score_chart(members)
            # The page has the title and the caption.
            drawn.axes[0].set_title("")
            drawn.supxlabel("")
            alt = f"Bars of Dice of {structure}, the numbers are in the table"
            chart = to_svg(drawn, f"scores{number}", alt)
            yield figure(title_of(dataset, structure, rows), structure, chart)


def learning_figures(rows: Sequence[TableRow]) -> Iterator[Markup]:
    """A learning curve per structure and dataset that has one."""
    for number, ((dataset, structure), members) in enumerate(by_structure(rows)):
        if has_curve(members):
            drawn = learning_curve(members)
            drawn.axes[0].set_title("")
            alt = f"Dice of {structure} against the number of annotated sections"
            chart = to_svg(drawn, f"learning{number}", alt)
            yield figure(title_of(dataset, structure, rows), structure, chart)


def precision_recall_figures(shown: Sequence[Shown], rows: Sequence[TableRow]) -> Iterator[Markup]:
    """A chart of precision against recall per structure and dataset."""
    curves = [(one.row, one.precision_recall) for one in shown]
    return curve_figures(curves, rows, precision_recall_chart, "Precision against recall")


def training_figures(shown: Sequence[Shown], rows: Sequence[TableRow]) -> Iterator[Markup]:
    """A chart of validation Dice while training per structure and dataset."""
    curves = [(one.row, one.training) for one in shown]
    return curve_figures(curves, rows, training_chart, "Validation Dice against iteration")


def curve_figures(
    curves: Sequence[tuple[TableRow, Curve]], rows: Sequence[TableRow], draw: Draw, name: str
) -> Iterator[Markup]:
    """A chart per structure and dataset with a score; methods without a curve are named below.

    Args:
        curves: The curve of every scored row.
        rows: All rows; their methods, in this order, give the colours.
        draw: Draws the curves of one structure by the labels of their methods.
        name: What is drawn.
    """
    methods = list(dict.fromkeys(row.label for row in rows))
    for number, ((dataset, structure), members) in enumerate(by_structure(rows)):
        found = {row.label: curve for row, curve in curves if row in members}
        if not found:
            continue
        chart = Markup("")
        if not all(curve.missing for curve in found.values()):
            key = f"{name.split()[0].lower()}{number}"
            chart = to_svg(draw(found, methods), key, f"{name}: {structure}")
        yield figure(title_of(dataset, structure, rows), structure, chart, name_missing(found))


def name_missing(curves: Mapping[str, Curve]) -> Markup:
    """A list of the reasons why methods have no curve; empty where all have one."""
    reasons: dict[str, list[str]] = {}
    for label, curve in curves.items():
        if curve.missing:
            reasons.setdefault(curve.missing, []).append(label)
    lines = [element("li", f"{'; '.join(labels)}: {why}") for why, labels in reasons.items()]
    return element("figcaption", "Left out:", element("ul", lines)) if lines else Markup("")


def by_structure(
    rows: Sequence[TableRow],
) -> list[tuple[tuple[str, str], list[TableRow]]]:
    """The rows of each dataset and structure."""
    cells = dict.fromkeys((row.dataset, row.structure) for row in rows)
    return [(cell, [row for row in rows if (row.dataset, row.structure) == cell]) for cell in cells]


def title_of(dataset: str, structure: str, rows: Sequence[TableRow]) -> str:
    """The structure, and the dataset where there are several."""
    several = len({row.dataset for row in rows}) > 1
    return structure.capitalize() + (f", {shorten_dataset(dataset)}" if several else "")


def figure(title: str, structure: str, chart: Markup, below: str = "") -> Markup:
    """A chart with its title."""
    drawn = element("div", chart, class_="chart") if chart else ""
    return element("figure", element("h3", title), drawn, below, data_structure=structure)
