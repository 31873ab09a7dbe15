"""Dice against the number of annotated sections that a method learned from."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.charts import COLOURS, METHOD_COLOURS
from bench.methods import variant_label
from bench.tables import TableRow


def has_curve(rows: Sequence[TableRow]) -> bool:
    """Whether a method was trained on several numbers of annotated sections."""
    return any(":" in row.method and row.scores for row in rows)


def learning_curve(rows: Sequence[TableRow]) -> Figure:
    """Draws a panel per structure and dataset, a line per method that learns from annotations.

    Bars are one standard deviation over the seeds. Methods that use no annotation are dashed.

    Args:
        rows: The rows of the benchmark table; variants are named ``method:sections``.
    """
    panels = list(dict.fromkeys((row.dataset, row.structure) for row in rows))
    figure = Figure(figsize=(1 + 4.2 * len(panels), 3.8), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)
    numbers = sorted({int(row.method.partition(":")[2]) for row in rows if ":" in row.method})
    names = [*(str(number) for number in numbers), "all"]
    for axes, (dataset, structure) in zip(grid[0], panels, strict=True):
        members = [r for r in rows if (r.dataset, r.structure) == (dataset, structure) and r.scores]
        draw_panel(axes, members, names)
        axes.set_title(structure.capitalize())
        axes.set_xticks(range(len(names)), names)
        axes.set_xlabel("Annotated training sections")
    grid[0, 0].set_ylabel("Dice, mean over seeds")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def draw_panel(axes: Axes, rows: Sequence[TableRow], names: Sequence[str]) -> None:
    """Draws the lines of one structure."""
    methods = list(dict.fromkeys(row.method.partition(":")[0] for row in rows))
    learning = {row.method.partition(":")[0] for row in rows if ":" in row.method}
    for number, method in enumerate(methods):
        colour = COLOURS[METHOD_COLOURS[number % len(METHOD_COLOURS)]]
        label = variant_label(method)
        found = {
            row.method.partition(":")[2] or "all": row
            for row in rows
            if row.method.partition(":")[0] == method
        }
        if method not in learning:
            dice = found["all"].scores["dice"]
            axes.axhline(dice, color=colour, linestyle="--", label=label)
            continue
        places = [place for place, name in enumerate(names) if name in found]
        points = [found[names[place]] for place in places]
        axes.errorbar(
            places,
            [row.scores["dice"] for row in points],
            yerr=[row.deviations.get("dice", 0.0) for row in points],
            color=colour,
            label=label,
            marker="o",
            capsize=3,
        )
    axes.set_ylim(0, 1)
