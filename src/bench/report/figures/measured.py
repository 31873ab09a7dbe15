"""Charts of measurements: sizes of objects, and groups with every section as a point."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report.figures.looks import METHOD_COLOURS
from bench.report.measured.quantities import Quantity, object_values
from bench.report.measured.study import Study

# Those of objects whose distribution is drawn, where there are any.
_DRAWN = (
    *("diameter_nm", "area_nm2", "volume_nm3", "circularity", "feret_nm", "mean_grey"),
    *("neighbour_nm", "distance_nm"),
)
_BINS = 24
# What is far out would leave the rest in one bin.
_SHOWN = (0.5, 99.5)
_COLUMNS = 3
_RAW, _CORRECTED = "0.55", "black"
# Between what was found and what is corrected, and how far points of one group lie apart.
_APART, _SPREAD = 0.2, 0.12


def distribution_figure(study: Study) -> Figure:
    """Draws how the objects of each group are distributed, a panel per quantity.

    Dashed is what was found, every object once. Solid is corrected: an object stands for as many
    as its size says, at its corrected value. Both have an area of 1.
    """
    quantities = [q for q in study.quantities if q.name in _DRAWN]
    figure, panels = _make_panels(len(quantities))
    for axes, quantity in zip(panels, quantities, strict=False):
        _draw_distribution(axes, study, quantity)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _draw_distribution(axes: Axes, study: Study, quantity: Quantity) -> None:
    tables = {
        group: pd.concat([study.measured.tables[n] for n in places])
        for group, places in study.members.items()
    }
    estimator = study.estimators[quantity.name]
    found = {group: object_values(quantity, table) for group, table in tables.items()}
    values = np.concatenate(list(found.values()))
    values = values[np.isfinite(values)]
    axes.set(xlabel=_heading(quantity), ylabel="Share of objects", yticks=[])
    axes.spines[["top", "right", "left"]].set_visible(False)
    if not values.size:
        axes.text(0.5, 0.5, "no object", transform=axes.transAxes, ha="center")
        return
    low, high = np.percentile(values, _SHOWN)
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    for (group, table), colour in zip(tables.items(), METHOD_COLOURS, strict=False):
        defined = np.isfinite(found[group])
        _draw_steps(axes, edges, found[group][defined], None, colour, f"{group}, found", "--")
        standing = estimator.weigh_objects(table)
        if standing is not None:
            weights, corrected = standing
            _draw_steps(
                axes,
                edges,
                corrected[defined],
                weights[defined],
                colour,
                f"{group}, corrected",
                "-",
            )


def _draw_steps(
    axes: Axes,
    edges: np.ndarray,
    values: np.ndarray,
    weights: np.ndarray | None,
    colour: tuple[float, float, float],
    label: str,
    line: str,
) -> None:
    counts, _ = np.histogram(values, edges, weights=weights)
    total = counts.sum()
    if total > 0:
        axes.stairs(counts / total, edges, color=colour, label=label, linestyle=line, lw=1.6)


def groups_figure(study: Study, summary: pd.DataFrame, sections: pd.DataFrame) -> Figure:
    """Draws every section as a point, and the value of each group with its 95 % interval.

    Grey and left is what was found, black and right what is corrected.

    Args:
        study: The study.
        summary: By `summarise`.
        sections: By `tabulate_sections`.
    """
    figure, panels = _make_panels(len(study.quantities))
    groups = list(study.members)
    for axes, quantity in zip(panels, study.quantities, strict=False):
        of_sections = sections[sections["quantity"] == quantity.name]
        rows = summary[(summary["quantity"] == quantity.name) & (summary["level"] != "region")]
        values: dict[str, Any] = {row["name"]: row for row in rows.to_dict("records")}
        for place, group in enumerate(groups):
            names = [study.measured.names[n] for n in study.members[group]]
            points = of_sections[of_sections[study.unit].isin(names)]
            _draw_group(axes, place, points, values[group])
        axes.set_xticks(range(len(groups)), groups)
        axes.set(xlim=(-0.6, len(groups) - 0.4), ylabel=_heading(quantity))
        axes.set_title(quantity.label, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(
        f"Grey: as found; black: corrected. A point is a {study.unit}, a line the 95 % interval",
        fontsize=10,
    )
    return figure


def _draw_group(axes: Axes, place: int, points: pd.DataFrame, row: Mapping[str, float]) -> None:
    for key, side, colour in (("raw", -_APART, _RAW), ("corrected", _APART, _CORRECTED)):
        values = points[key].to_numpy(float)
        spread = np.linspace(-_SPREAD, _SPREAD, len(values)) if len(values) > 1 else np.zeros(1)
        axes.plot(place + side + spread, values, ".", color=colour, alpha=0.45, ms=5, mew=0)
        value = float(row[key])
        if not math.isfinite(value):
            continue
        axes.plot(place + side, value, "_", color=colour, ms=16, mew=2)
        low, high = float(row[f"{key}_low"]), float(row[f"{key}_high"])
        if math.isfinite(low):
            axes.plot([place + side] * 2, [low, high], color=colour, lw=1.8)


def _make_panels(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(_COLUMNS, max(count, 1))
    lines = math.ceil(max(count, 1) / columns)
    figure = Figure(figsize=(3.6 * columns, 2.7 * lines + 0.4), layout="constrained")
    panels = list(figure.subplots(lines, columns, squeeze=False).ravel())
    for axes in panels[count:]:
        axes.set_visible(False)
    return figure, panels


def _heading(quantity: Quantity) -> str:
    return f"{quantity.label} ({quantity.unit})" if quantity.unit else quantity.label
