"""Charts of scores: bars, precision against recall, Dice against annotated sections."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.errors import BenchError
from bench.metrics.metric import Metric
from bench.metrics.table import METRICS
from bench.report.figures.looks import COLOURS, MethodLook, choose_looks
from bench.report.table_formats import shorten_dataset, units_of
from bench.report.tables import TableRow
from bench.report.variants import variant_label
from bench.structures import title_of
from bench.words import of_units

_REASON_LENGTH = 44
# Of the range of a score, beside the longest bar.
_NUMBER_SHARE = 0.13
# Between two methods at the same number of sections; sections are 1 apart.
_DODGE = 0.05
# Of an axes: where a legend is over no curve.
_BELOW = (0.5, -0.14)


def score_chart(rows: Sequence[TableRow], looks: Mapping[str, MethodLook] | None = None) -> Figure:
    """Draws the score of every method as a bar, one panel per structure, one line per dataset.

    The score is of the metric of the rows, and the axis of its range. The whisker is the interval
    over sections, drawn where it lies: it is of the mean score of a section, so a bar (pooled
    pixels) may end outside it. A method without any score is left out; a cell without one whose
    method has others is hatched and says why.

    Args:
        rows: Rows of the table.
        looks: Of each method; by default those of the methods here.

    Raises:
        BenchError: If no row has a score.
    """
    methods = list(dict.fromkeys(row.method for row in rows if row.scores))
    rows = [row for row in rows if row.method in methods]
    if not rows:
        raise BenchError("a chart needs a row of the table, received none: evaluate a run first")
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    structures = list(dict.fromkeys(row.structure for row in rows))
    looks = looks or choose_looks(methods)
    figure = Figure(
        figsize=(2.2 + 3.3 * len(structures), (0.42 * len(methods) + 1.1) * len(datasets) + 0.4),
        layout="constrained",
    )
    grid = figure.subplots(len(datasets), len(structures), squeeze=False, sharex=True, sharey=True)
    for line, dataset in enumerate(datasets):
        for column, structure in enumerate(structures):
            axes = grid[line, column]
            members = [r for r in rows if (r.dataset, r.structure) == (dataset, structure)]
            if members:
                limits = _axis_range(rows, METRICS[rows[0].metric])
                _draw_bars(axes, members, [looks[method] for method in methods], methods, limits)
            axes.set_title(title_of(structure))
        if len(datasets) > 1:
            grid[line, 0].set_ylabel(f"Dataset {shorten_dataset(dataset)}")
    labels = {row.method: row.label for row in rows}
    grid[0, 0].set_yticks(range(len(methods)), [labels[method] for method in methods])
    # Upside down: the first method on top.
    grid[0, 0].set_ylim(len(methods) - 0.5, -0.5)
    metric = METRICS[rows[0].metric]
    low, high = _axis_range(rows, metric)
    # Room for the numbers.
    grid[0, 0].set_xlim(low, high + _NUMBER_SHARE * (high - low))
    for axes in grid[-1]:
        axes.set_xlabel(metric.heading)
    figure.supxlabel(
        f"Bar: pooled {metric.basis}, mean over seeds\nWhisker: "
        + of_units("95 % interval of the mean section", units_of(rows)),
        fontsize=9,
    )
    return figure


def _axis_range(rows: Sequence[TableRow], metric: Metric) -> tuple[float, float]:
    """The lowest and the highest value of a metric: those that can be, else those there are."""
    found = [0.0, *(row.scores[row.metric] for row in rows if row.metric in row.scores)]
    found += [end for row in rows for end in row.interval or ()]
    low = metric.low if math.isfinite(metric.low) else min(found)
    high = metric.high if math.isfinite(metric.high) else max(found)
    return low, high if high > low else low + 1


def _draw_bars(
    axes: Axes,
    rows: Sequence[TableRow],
    looks: Sequence[MethodLook],
    methods: Sequence[str],
    limits: tuple[float, float],
) -> None:
    for row in rows:
        metric, position = METRICS[row.metric], methods.index(row.method)
        if row.metric not in row.scores:
            _draw_missing(axes, position, row.reason or f"no {metric.label} score", limits)
            continue
        score = row.scores[row.metric]
        look = looks[position]
        bar = axes.barh(position, score, height=0.7, color=look.colour)
        if row.oracle:
            # It is told what others have to find.
            bar.patches[0].set(alpha=0.35, hatch="xx")
        elif look.line != "-":
            # Striped where a line of it is broken: another bar has the colour, too.
            bar.patches[0].set(hatch="//", edgecolor="white", linewidth=0)
        low, high = row.interval or (score, score)
        if row.interval:
            axes.errorbar(
                (low + high) / 2, position, xerr=(high - low) / 2, color="black", capsize=4
            )
        weight = "bold" if row.metric in row.best else "normal"
        end, text = max(score, high) + 0.015 * (limits[1] - limits[0]), metric.write(score)
        axes.text(end, position, text, va="center", weight=weight, size=9)
    axes.spines[["top", "right"]].set_visible(False)
    # Beyond the scores that can be is room for the numbers alone.
    axes.spines["bottom"].set_bounds(*limits)
    if math.isfinite(METRICS[rows[0].metric].span):
        axes.set_xticks(np.linspace(*limits, 6))


def _draw_missing(axes: Axes, position: int, reason: str, limits: tuple[float, float]) -> None:
    low, high = limits
    bar = axes.barh(position, high - low, left=low, height=0.7, facecolor="white", hatch="///")
    bar.patches[0].set(edgecolor="0.75", linewidth=0.8)
    text = f"not run: {' '.join(reason.split())}"
    if len(text) > _REASON_LENGTH:
        text = text[: _REASON_LENGTH - 1].rstrip() + "…"
    axes.text(
        (low + high) / 2,
        position,
        text,
        ha="center",
        va="center",
        size=8,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
    )


def precision_recall_figure(
    thresholds: np.ndarray, precision: np.ndarray, recall: np.ndarray, chosen_threshold: float
) -> Figure:
    """Draws precision against recall, and both with Dice against the threshold.

    Args:
        thresholds: Probability from which a pixel is foreground (threshold), in any order.
        precision: At each threshold; NaN where nothing is predicted.
        recall: At each threshold.
        chosen_threshold: Is marked; between two thresholds its scores are interpolated.

    Raises:
        BenchError: If the lengths differ, or the chosen threshold is outside the thresholds.
    """
    if not 0 < len(thresholds) == len(precision) == len(recall):
        raise BenchError(
            "thresholds, precision and recall must have one length above 0, received "
            f"{len(thresholds)}, {len(precision)} and {len(recall)}: pass one sweep"
        )
    order = np.argsort(thresholds)
    at, p, r = (
        np.asarray(values, dtype=float)[order] for values in (thresholds, precision, recall)
    )
    if not at[0] <= chosen_threshold <= at[-1]:
        raise BenchError(
            f"the chosen threshold must be within the sweep, {at[0]:g} to {at[-1]:g}, received "
            f"{chosen_threshold:g}: choose it from the same sweep"
        )
    dice = np.divide(2 * p * r, p + r, out=np.zeros_like(p), where=p + r != 0)
    chosen_p, chosen_r, chosen_dice = (
        float(np.interp(chosen_threshold, at, values)) for values in (p, r, dice)
    )
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    curve, sweep = figure.subplots(1, 2)
    draw_dice_levels(curve)
    curve.plot(r, p, color=COLOURS["blue"], lw=2, marker=".", label="Thresholds")
    label = f"Chosen threshold {chosen_threshold:.3g}: Dice {chosen_dice:.3f}"
    curve.plot(chosen_r, chosen_p, "o", ms=10, color=COLOURS["vermillion"], label=label)
    curve.set(xlabel="Recall", ylabel="Precision", xlim=(0, 1.02), ylim=(0, 1.02))
    curve.set_title("Precision and recall")
    for name, values, colour, style in (
        ("Precision", p, "orange", "--"),
        ("Recall", r, "sky blue", "-."),
        ("Dice", dice, "blue", "-"),
    ):
        sweep.plot(at, values, style, color=COLOURS[colour], lw=2, label=name)
    sweep.axvline(chosen_threshold, color=COLOURS["vermillion"], lw=1.5, label="Chosen threshold")
    sweep.set(xlabel="Threshold (probability)", ylim=(0, 1.02), title="Scores at each threshold")
    for axes in (curve, sweep):
        axes.legend(loc="upper center", bbox_to_anchor=_BELOW, ncols=2, fontsize=9, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_dice_levels(axes: Axes) -> None:
    """Draws faint lines of equal Dice into a plot of precision against recall."""
    for level in (0.2, 0.4, 0.6, 0.8):
        recall = np.linspace(level / (2 - level), 1, 100)
        precision = level * recall / (2 * recall - level)
        axes.plot(recall, precision, color="black", alpha=0.2, lw=1, zorder=0)
        # Outside, where no curve runs.
        axes.text(
            1.03, precision[-1], f"Dice {level:g}", alpha=0.7, size=8, va="center", clip_on=False
        )


def has_curve(rows: Sequence[TableRow]) -> bool:
    """Whether a method was trained on several numbers of annotated sections."""
    return any(":" in row.method and row.scores for row in rows)


def learning_curve(
    rows: Sequence[TableRow], looks: Mapping[str, MethodLook] | None = None
) -> Figure:
    """Draws a panel per structure and dataset, a line per method that learns from annotations.

    Bars are one standard deviation over the seeds. Methods that use no annotation are dashed.

    Args:
        rows: The rows of the benchmark table; variants are named ``method:sections``.
        looks: Of each method; by default those of the methods here.
    """
    scored = [row for row in rows if row.metric in row.scores]
    panels = list(dict.fromkeys((row.dataset, row.structure) for row in rows))
    figure = Figure(figsize=(1.8 + 4.2 * len(panels), 4.2), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False)
    numbers = sorted({int(row.method.partition(":")[2]) for row in rows if ":" in row.method})
    methods = list(dict.fromkeys(row.method.partition(":")[0] for row in scored))
    # Of a method and its variants the colour is the same.
    found = (looks or choose_looks(methods)).items()
    colours = {name.partition(":")[0]: look.colour for name, look in found}
    names = [*(str(number) for number in numbers), "all"]
    for axes, (dataset, structure) in zip(grid[0], panels, strict=True):
        members = [r for r in scored if (r.dataset, r.structure) == (dataset, structure)]
        _draw_panel(axes, members, names, [(method, colours[method]) for method in methods])
        axes.set_title(title_of(structure))
        axes.set_xticks(range(len(names)), names)
        axes.set_xlabel("Annotated training sections")
    grid[0, 0].set_ylabel(f"{METRICS[rows[0].metric].heading}, mean over seeds")
    handles = {
        label: handle
        for axes in grid[0]
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=1 + len(panels)
    )
    return figure


def _draw_panel(
    axes: Axes,
    rows: Sequence[TableRow],
    names: Sequence[str],
    methods: Sequence[tuple[str, tuple[float, float, float]]],
) -> None:
    """Draws the lines of one structure; a method has the same colour in every panel."""
    if not rows:
        return
    score = rows[0].metric
    metric = METRICS[score]
    learning = {row.method.partition(":")[0] for row in rows if ":" in row.method}
    for number, (method, colour) in enumerate(methods):
        label = variant_label(method)
        found = {
            row.method.partition(":")[2] or "all": row
            for row in rows
            if row.method.partition(":")[0] == method
        }
        if not found:
            continue
        if method not in learning:
            level = found["all"].scores[score]
            axes.axhline(level, color=colour, linestyle="--", label=label)
            continue
        places = [place for place, name in enumerate(names) if name in found]
        points = [found[names[place]] for place in places]
        # Side by side, or equal scores would hide each other.
        shift = _DODGE * (number - (len(methods) - 1) / 2)
        axes.errorbar(
            [place + shift for place in places],
            [row.scores[score] for row in points],
            yerr=[row.deviations.get(score, 0.0) for row in points],
            color=colour,
            label=label,
            marker="o",
            capsize=3,
        )
    low, high = axes.get_ylim()
    margin = 0.02 * (metric.span if math.isfinite(metric.span) else high - low)
    axes.set_ylim(max(metric.low, low - margin), min(metric.high, high + margin))
    axes.grid(axis="y", alpha=0.3)


def stage_chart(dice: Mapping[str, float]) -> Figure:
    """Draws Dice after each stage of a post-processing as bars, the first stage on top.

    Args:
        dice: Dice by stage, in their order.
    """
    figure = Figure(figsize=(6, 0.42 * len(dice) + 1.1), layout="constrained")
    axes = figure.subplots()
    values = list(dice.values())
    axes.barh(list(dice), values, color=COLOURS["blue"])
    for position, value in enumerate(values):
        axes.text(value + 0.01, position, METRICS["dice"].write(value), va="center", fontsize=9)
    axes.invert_yaxis()
    axes.set(xlabel="Dice of all volumes", xlim=(0, 1.12), title="After each stage")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
