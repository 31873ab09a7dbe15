"""Dice against the number of annotated sections that a method learned from."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report.figures.charts import COLOURS, METHOD_COLOURS
from bench.report.tables import TableRow
from bench.report.variants import variant_label

# Between two methods at the same number of sections; sections are 1 apart.
DODGE = 0.05


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
    figure = Figure(figsize=(1.8 + 4.2 * len(panels), 4.2), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False)
    numbers = sorted({int(row.method.partition(":")[2]) for row in rows if ":" in row.method})
    methods = list(dict.fromkeys(row.method.partition(":")[0] for row in rows if row.scores))
    names = [*(str(number) for number in numbers), "all"]
    for axes, (dataset, structure) in zip(grid[0], panels, strict=True):
        members = [r for r in rows if (r.dataset, r.structure) == (dataset, structure) and r.scores]
        draw_panel(axes, members, names, methods)
        axes.set_title(structure.capitalize())
        axes.set_xticks(range(len(names)), names)
        axes.set_xlabel("Annotated training sections")
    grid[0, 0].set_ylabel("Dice, mean over seeds")
    handles = {
        label: handle
        for axes in grid[0]
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=1 + len(panels)
    )
    return figure


def draw_panel(
    axes: Axes, rows: Sequence[TableRow], names: Sequence[str], methods: Sequence[str]
) -> None:
    """Draws the lines of one structure; a method has the same colour in every panel."""
    learning = {row.method.partition(":")[0] for row in rows if ":" in row.method}
    for number, method in enumerate(methods):
        colour = COLOURS[METHOD_COLOURS[number % len(METHOD_COLOURS)]]
        label = variant_label(method)
        found = {
            row.method.partition(":")[2] or "all": row
            for row in rows
            if row.method.partition(":")[0] == method
        }
        if not found:
            continue
        if method not in learning:
            dice = found["all"].scores["dice"]
            axes.axhline(dice, color=colour, linestyle="--", label=label)
            continue
        places = [place for place, name in enumerate(names) if name in found]
        points = [found[names[place]] for place in places]
        # Side by side, or equal scores would hide each other.
        shift = DODGE * (number - (len(methods) - 1) / 2)
        axes.errorbar(
            [place + shift for place in places],
            [row.scores["dice"] for row in points],
            yerr=[row.deviations.get("dice", 0.0) for row in points],
            color=colour,
            label=label,
            marker="o",
            capsize=3,
        )
    low, high = axes.get_ylim()
    axes.set_ylim(max(0.0, low - 0.02), min(1.0, high + 0.02))
    axes.grid(axis="y", alpha=0.3)
