"""Boxes drawn on a section: those that are there, and those found."""

import numpy as np
from PIL import Image, ImageDraw

from bench.metrics.detection import Detections
from bench.report.figures.overlays import PREDICTION_COLOUR, TRUTH_COLOUR, grey_rgb

# Of the longer side.
_LINE_SHARE = 1 / 300


def draw_boxes(raw: np.ndarray, *, truth: np.ndarray, found: Detections) -> np.ndarray:
    """Draws true boxes and those found over a section.

    Args:
        raw: Section (y, x) of any bit depth.
        truth: Boxes (n, 4) that are there, drawn in TRUTH_COLOUR.
        found: Those found, in PREDICTION_COLOUR, each with its score.

    Returns:
        RGB (y, x, 3), uint8.
    """
    picture = Image.fromarray(grey_rgb(raw))
    draw = ImageDraw.Draw(picture)
    width = max(1, round(max(raw.shape) * _LINE_SHARE))
    # Corners of pixels: a box ends before the pixel that its second corner begins.
    for boxes, colour in ((truth, TRUTH_COLOUR), (found.boxes, PREDICTION_COLOUR)):
        for x0, y0, x1, y1 in boxes.tolist():
            draw.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=width)
    for (x0, y0, _, _), score in zip(found.boxes.tolist(), found.scores.tolist(), strict=True):
        draw.text((x0 + width, y0 + width), f"{score:.2f}", fill=PREDICTION_COLOUR)
    return np.asarray(picture)
