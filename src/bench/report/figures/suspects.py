"""Pictures of doubtful objects: a crop of the section, what was annotated, and what models find."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from bench.advice.suspects import Suspect
from bench.report.figures.overlays import (
    OKABE_ITO,
    PREDICTION_COLOUR,
    TRUTH_COLOUR,
    draw_outlines,
    grey_rgb,
)
from bench.report.figures.scale_bar import draw_scale_bar

# Edge of a picture in px; what is around an object, in its own extents, and in px at least.
_SIDE_PX = 384
_AROUND, _LEAST_PX = 1.5, 48
_COLUMNS = 5
_PANEL_IN = 2.6
_FRAME_PX = 2


def draw_suspect(
    raw: np.ndarray,
    labels: np.ndarray,
    found: np.ndarray,
    suspect: Suspect,
    pixel_size_nm: float | None,
) -> np.ndarray:
    """Draws a crop around an object: annotation yellow, what models find red, the object framed.

    Args:
        raw: Its section (y, x) of any bit depth.
        labels: Instance ids of the annotation (y, x).
        found: Where models find the structure, bool (y, x).
        suspect: The object.
        pixel_size_nm: Edge of a pixel in nm; None where it is not known.

    Returns:
        RGB (y, x, 3), uint8.
    """
    view, inner = _choose_view(suspect, raw.shape)
    zoom = max(1, _SIDE_PX // max(raw[view].shape))
    image, truth, prediction = (
        each.repeat(zoom, axis=0).repeat(zoom, axis=1)
        for each in (grey_rgb(raw[view]), labels[view], found[view])
    )
    width = 1 + zoom // 3
    image = draw_outlines(image, prediction, PREDICTION_COLOUR, width_px=width)
    image = draw_outlines(image, truth, TRUTH_COLOUR, width_px=width)
    framed = image.copy()
    rows, columns = (slice(side.start * zoom, side.stop * zoom) for side in inner)
    framed[rows, columns] = OKABE_ITO["bluish green"]
    rows, columns = (slice(s.start + _FRAME_PX, s.stop - _FRAME_PX) for s in (rows, columns))
    framed[rows, columns] = image[rows, columns]
    return draw_scale_bar(framed, pixel_size_nm / zoom if pixel_size_nm else None)


def _choose_view(
    suspect: Suspect, shape: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The crop, a square within the section if that is large enough; and the object's box in it."""
    extents = suspect.mask.shape
    side = max(_LEAST_PX, round((1 + _AROUND) * max(extents)))
    view, inner = [], []
    for start, extent, whole in zip(suspect.corner, extents, shape, strict=True):
        first = min(max(0, start + extent // 2 - side // 2), max(0, whole - side))
        view.append(slice(first, min(first + side, whole)))
        # A frame is drawn around the object, not on it.
        low, high = max(0, start - first - _FRAME_PX), start - first + extent + _FRAME_PX
        inner.append(slice(low, min(high, view[-1].stop - first)))
    return (view[0], view[1]), (inner[0], inner[1])


def suspects_sheet(pictures: Sequence[np.ndarray], titles: Sequence[str], title: str) -> Figure:
    """Draws pictures side by side, in the order of the list.

    Args:
        pictures: RGB (y, x, 3), uint8, of any sizes; at least one.
        titles: A line over each.
        title: A line over all.
    """
    rows = -(-len(pictures) // _COLUMNS)
    size = (_PANEL_IN * _COLUMNS, (_PANEL_IN + 0.3) * rows + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    for axes in figure.subplots(rows, _COLUMNS, squeeze=False).flat:
        axes.set_axis_off()
    for axes, picture, text in zip(figure.axes, pictures, titles, strict=False):
        axes.imshow(picture)
        axes.set_title(text, fontsize=7)
    figure.suptitle(title, fontsize=10)
    return figure
