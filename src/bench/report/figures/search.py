"""Pictures of a search: score against threshold per blend, and what each ingredient is worth."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from bench.inference.blends import Blend
from bench.metrics.curves import LEVELS, ScoreHistogram
from bench.metrics.table import METRICS
from bench.report.figures.looks import COLOURS
from bench.search.ablation import Ingredient
from bench.search.candidates import best_merit, middle_of_best, pixel_curve

# Blends shown, the best first.
_SHOWN_BLENDS = 24
_NAME_LENGTH = 64


def surface_figure(
    histograms: Mapping[Blend, ScoreHistogram], order: Sequence[Blend], metric: str
) -> Figure:
    """Draws a pixel metric over thresholds (across) and blends (down).

    The best threshold of each blend is marked. Below the best blends stand the models alone
    without augmentation, for comparison.

    Args:
        histograms: Pixel scores of every blend.
        order: The blends, the best first.
        metric: A pixel metric.
    """
    plain = [blend for blend in order[_SHOWN_BLENDS:] if blend.plain]
    shown = [*order[:_SHOWN_BLENDS], *plain]
    row = METRICS[metric]
    curves = np.stack([pixel_curve(histograms[blend], metric) for blend in shown])
    places = [middle_of_best(curve, metric) for curve in curves]
    figure = Figure(figsize=(12, 1.6 + 0.24 * len(shown)), layout="constrained")
    axes = figure.subplots()
    # The best is bright.
    colours = "viridis" if row.direction == "higher" else "viridis_r"
    image = axes.imshow(curves, aspect="auto", cmap=colours, extent=(0, 1, len(shown) - 0.5, -0.5))
    best = [place / (LEVELS - 1) for place in places]
    axes.plot(best, range(len(shown)), "o", color="white", markeredgecolor="black", markersize=4)
    labels = [
        f"{_shorten(blend.short)}  {row.write(curve[place])}"
        for blend, curve, place in zip(shown, curves, places, strict=True)
    ]
    axes.set_yticks(range(len(shown)), labels, fontsize=7)
    axes.set_xlabel("Threshold (probability from which a pixel is foreground)")
    axes.set_title(
        f"{row.label} on validation, before post-processing: the best "
        f"{min(len(order), _SHOWN_BLENDS)} of {len(order)} blends"
        + (", and models alone" if plain else ""),
        loc="right",
    )
    figure.colorbar(image, label=row.heading)
    return figure


def ablation_figure(ingredients: Sequence[Ingredient], metric: str) -> Figure:
    """Draws what each ingredient alone, and all together, add to the plain model."""
    added, row = ingredients[1:], METRICS[metric]
    figure = Figure(figsize=(8, 1.3 + 0.4 * len(added)), layout="constrained")
    axes = figure.subplots()
    gains = [each.gain for each in added]
    colours = [COLOURS["blue"]] * (len(added) - 1) + [COLOURS["orange"]]
    axes.barh(range(len(added)), gains, color=colours)
    for place, each in enumerate(added):
        score = row.write(each.candidate.scores[metric])
        text = f" {row.write_change(each.gain)}: {score} "
        axes.text(max(each.gain, 0), place, text, va="center", fontsize=8)
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.set_yticks(range(len(added)), [each.name for each in added])
    axes.invert_yaxis()
    # Room for the numbers.
    axes.set_xlim(min(0, *gains), max(1e-3, *gains) * 1.35)
    axes.set_xlabel(f"{row.heading} gained on validation")
    plain = ingredients[0].candidate
    score = row.write(plain.scores[metric])
    axes.set_title(f"What each adds alone to {plain.blend.short} ({score})", loc="left")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def _shorten(name: str) -> str:
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…"


def order_blends(histograms: Mapping[Blend, ScoreHistogram], metric: str) -> list[Blend]:
    """The blends by their best score, the best first."""
    best = {blend: best_merit(each, metric) for blend, each in histograms.items()}
    return sorted(best, key=lambda blend: (-best[blend], blend.passes))
