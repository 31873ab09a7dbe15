"""The charts of the page, each with what it shows and what it lacks."""

from collections.abc import Callable, Iterator, Sequence

from matplotlib.figure import Figure

from bench.charts import score_chart
from bench.learning_curve import has_curve, learning_curve
from bench.page.charts import precision_recall_chart, to_svg, training_chart
from bench.page.elements import Markup, element
from bench.page.records import Curve, Shown
from bench.table_formats import shorten_dataset
from bench.tables import TableRow

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
LEARNING = "Dice against annotated training sections, mean over seeds, bars are one deviation."

Draw = Callable[[Sequence[Shown], Sequence[str]], Figure]


def score_figures(rows: Sequence[TableRow]) -> Iterator[Markup]:
    """A chart of Dice per structure and dataset."""
    for number, ((dataset, structure), members) in enumerate(by_structure(rows)):
        alt = f"Bars of Dice of {structure}, the numbers are in the table"
        chart = to_svg(score_chart(members), f"scores{number}", alt)
        yield figure(chart, title_of(dataset, structure, rows), SCORES, structure)


def learning_figures(rows: Sequence[TableRow]) -> Iterator[Markup]:
    """A learning curve per structure that has one."""
    for number, ((dataset, structure), members) in enumerate(by_structure(rows)):
        if has_curve(members):
            alt = f"Dice of {structure} against the number of annotated sections"
            chart = to_svg(learning_curve(members), f"learning{number}", alt)
            yield figure(chart, title_of(dataset, structure, rows), LEARNING, structure)


def precision_recall_figures(shown: Sequence[Shown], rows: Sequence[TableRow]) -> Iterator[Markup]:
    """A chart of precision against recall per structure and dataset."""
    return curve_figures(
        shown, rows, precision_recall_chart, "precision", PRECISION_RECALL, of_precision_recall
    )


def training_figures(shown: Sequence[Shown], rows: Sequence[TableRow]) -> Iterator[Markup]:
    """A chart of validation Dice while training per structure and dataset."""
    return curve_figures(shown, rows, training_chart, "training", TRAINING, of_training)


def of_precision_recall(shown: Shown) -> Curve:
    """Precision against recall of what is shown."""
    return shown.precision_recall


def of_training(shown: Shown) -> Curve:
    """The training curve of what is shown."""
    return shown.training


def curve_figures(
    shown: Sequence[Shown],
    rows: Sequence[TableRow],
    draw: Draw,
    name: str,
    caption: str,
    curve_of: Callable[[Shown], Curve],
) -> Iterator[Markup]:
    """A chart per structure and dataset; methods without a curve are named below it."""
    methods = list(dict.fromkeys(row.label for row in rows))
    for number, ((dataset, structure), members) in enumerate(by_structure(rows)):
        found = [one for one in shown if one.row in members]
        lacking = [
            element("li", f"{one.row.label}: {curve_of(one).missing}")
            for one in found
            if curve_of(one).missing
        ]
        alt = f"{caption.split(',')[0]}, of {structure}"
        drawn = len(lacking) < len(found)
        chart = to_svg(draw(found, methods), f"{name}{number}", alt) if drawn else Markup("")
        below = element("ul", lacking, class_="missing") if lacking else ""
        yield figure(chart, title_of(dataset, structure, rows), caption, structure, below)


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


def figure(chart: Markup, title: str, caption: str, structure: str, below: str = "") -> Markup:
    """A chart with its title and caption."""
    return element(
        "figure",
        element("h3", title),
        element("div", chart, class_="chart") if chart else "",
        element("figcaption", caption, below),
        data_structure=structure,
    )
