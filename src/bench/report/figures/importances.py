"""Which features decided, as bars."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from bench.report.figures.looks import COLOURS

_SHOWN, _LITTLE = 30, 0.005


def draw_importances(importances: Mapping[str, float]) -> Figure:
    """Draws the share of each feature as a bar, the largest on top; of so many at most.

    Args:
        importances: Shares of 1 by what the feature is, the largest first.
    """
    shown = list(importances.items())[:_SHOWN]
    figure = Figure(figsize=(8, 1 + 0.22 * len(shown)), layout="constrained")
    axes = figure.subplots()
    axes.barh([name for name, _ in shown], [share for _, share in shown], color=COLOURS["blue"])
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    left = sum(importances.values()) - sum(share for _, share in shown)
    axes.set_xlabel(
        f"Share of what all splits gained ({len(shown)} of {len(importances)} features"
        f"{f', the others {left:.2f}' if left > _LITTLE else ''})"
    )
    return figure
