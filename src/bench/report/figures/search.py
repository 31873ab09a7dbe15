"""Pictures of a search: score against threshold per blend, and what each ingredient is worth."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from bench.inference.blends import Blend
from bench.metrics.curves import LEVELS, ScoreHistogram
from bench.metrics.table import METRICS
from bench.report.figures.charts import COLOURS
from bench.search.ablation import Ingredient
from bench.search.candidates import middle_of_best, pixel_curve

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
    curves = np.stack([pixel_curve(histograms[blend], metric) for blend in shown])
    figure = Figure(figsize=(12, 1.6 + 0.24 * len(shown)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(
        curves, aspect="auto", cmap="viridis", extent=(0, 1, len(shown) - 0.5, -0.5)
    )
    best = [middle_of_best(curve) / (LEVELS - 1) for curve in curves]
    axes.plot(best, range(len(shown)), "o", color="white", markeredgecolor="black", markersize=4)
    labels = [
        f"{_shorten(blend.short)}  {curve.max():.3f}"
        for blend, curve in zip(shown, curves, strict=True)
    ]
    axes.set_yticks(range(len(shown)), labels, fontsize=7)
    axes.set_xlabel("Threshold (probability from which a pixel is foreground)")
    label = METRICS[metric].label
    axes.set_title(
        f"{label} on validation, before post-processing: the best {min(len(order), _SHOWN_BLENDS)} "
        f"of {len(order)} blends" + (", and models alone" if plain else ""),
        loc="right",
    )
    figure.colorbar(image, label=label)
    return figure


def ablation_figure(ingredients: Sequence[Ingredient], metric: str) -> Figure:
    """Draws what each ingredient alone, and all together, add to the plain model."""
    added = ingredients[1:]
    figure = Figure(figsize=(8, 1.3 + 0.4 * len(added)), layout="constrained")
    axes = figure.subplots()
    gains = [each.gain for each in added]
    colours = [COLOURS["blue"]] * (len(added) - 1) + [COLOURS["orange"]]
    axes.barh(range(len(added)), gains, color=colours)
    for place, each in enumerate(added):
        score = each.candidate.scores[metric]
        text = f" {each.gain:+.3f}: {score:.3f} "
        axes.text(max(each.gain, 0), place, text, va="center", fontsize=8)
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.set_yticks(range(len(added)), [each.name for each in added])
    axes.invert_yaxis()
    # Room for the numbers.
    axes.set_xlim(min(0, *gains), max(1e-3, *gains) * 1.35)
    axes.set_xlabel(f"{METRICS[metric].label} gained on validation")
    plain = ingredients[0].candidate
    axes.set_title(
        f"What each adds alone to {plain.blend.short} ({plain.scores[metric]:.3f})", loc="left"
    )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def _shorten(name: str) -> str:
    """A name cut to fit the axis."""
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…"


def order_blends(histograms: Mapping[Blend, ScoreHistogram], metric: str) -> list[Blend]:
    """The blends by their best score, the best first."""
    best = {blend: pixel_curve(each, metric).max() for blend, each in histograms.items()}
    return sorted(best, key=lambda blend: (-best[blend], blend.passes))
