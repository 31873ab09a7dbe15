"""The quality of masks against how badly boxes are drawn."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from bench.methods import ORACLE
from bench.metrics.prompted import PROMPTS
from bench.report.figures.looks import METHOD_COLOURS
from bench.report.intervals import bootstrap_interval


def distortion_figure(curves: Mapping[str, Mapping[float, Sequence[float]]], title: str) -> Figure:
    """Draws mean IoU against the distortion of boxes, a line per kind of prompt with a box.

    The band is the 95 % bootstrap interval of the mean over objects.

    Args:
        curves: From a kind of prompt and a distortion in px to the IoU of every object.
        title: What is shown.
    """
    figure = Figure(figsize=(5.6, 4.0), layout="constrained")
    axes = figure.subplots()
    for (kind, curve), colour in zip(curves.items(), METHOD_COLOURS, strict=False):
        distortions = sorted(curve)
        means = [float(np.mean(curve[d])) for d in distortions]
        axes.plot(distortions, means, marker="o", color=colour, label=f"{PROMPTS[kind]} {ORACLE}")
        ends = [bootstrap_interval(curve[d], limits=(0, 1)) for d in distortions]
        low, high = zip(*(e or (m, m) for e, m in zip(ends, means, strict=True)), strict=True)
        axes.fill_between(distortions, low, high, color=colour, alpha=0.2)
    axes.set(xlabel="Largest shift of an edge of the box (px)", ylabel="Mean IoU of an object")
    axes.set(ylim=(0, 1), title=f"{title} {ORACLE}")
    axes.legend(loc="lower left", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
