"""What a network that reconstructs makes of images: a column of three pictures for each."""

import numpy as np
from PIL import Image, ImageDraw

from bench.report.figures.scale_bar import find_font

_ROWS = ("image", "what the network sees", "reconstruction")
# Percentiles of the image that are black and white in all three.
_BLACK, _WHITE = 0.5, 99.5
_GAP_PX = 2
_TEXT_PX = 12


def draw_reconstructions(
    whole: np.ndarray, view: np.ndarray, reconstruction: np.ndarray
) -> np.ndarray:
    """Draws patches, the views that the network saw of them, and what it made of these.

    Args:
        whole: Patches (patches, y, x), normalised.
        view: The views.
        reconstruction: What was reconstructed.

    Returns:
        RGB (y, x, 3), uint8: the rows named in _ROWS, a column for each patch, in the same greys
        down a column.
    """
    columns = []
    for images in zip(whole, view, reconstruction, strict=True):
        low, high = np.percentile(images[0], (_BLACK, _WHITE))
        scale = 255 / max(float(high - low), 1e-6)
        grey = [np.clip((image - low) * scale, 0, 255) for image in images]
        padded = [np.pad(image, _GAP_PX, constant_values=255) for image in grey]
        columns.append(np.concatenate(padded))
    strip = np.rint(np.concatenate(columns, axis=1)).astype(np.uint8)
    picture = Image.fromarray(np.repeat(strip[..., None], 3, axis=2))
    draw, font = ImageDraw.Draw(picture), find_font(_TEXT_PX)
    height = whole.shape[1] + 2 * _GAP_PX
    for number, name in enumerate(_ROWS):
        place = (2 * _GAP_PX, number * height + 2 * _GAP_PX)
        draw.text(place, name, fill="white", font=font, stroke_width=2, stroke_fill="black")
    return np.asarray(picture)
