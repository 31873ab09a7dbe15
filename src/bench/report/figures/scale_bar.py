"""Scale bars of a round length, in arrays of pixels and in figures; nothing else draws one."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Of the width of a picture: the longest bar, its distance from the corner, and its thickness.
_LENGTH_SHARE = 0.25
_MARGIN_SHARE = 0.03
_THICKNESS_SHARE = 0.012
_TEXT_SHARE = 0.042
_SMALLEST_TEXT_PX = 10
_NM_PER_UM = 1000


def draw_scale_bar(image: np.ndarray, pixel_size_nm: float | None) -> np.ndarray:
    """Draws a scale bar into the lower left corner of a copy of a picture.

    Args:
        image: RGB (y, x, 3), uint8.
        pixel_size_nm: Edge of its pixels in nm; without one there is no bar.
    """
    if pixel_size_nm is None:
        return image
    height, width = image.shape[:2]
    length_nm = round_length(_LENGTH_SHARE * width * pixel_size_nm)
    length, margin = length_nm / pixel_size_nm, _MARGIN_SHARE * width
    thickness = max(2.0, _THICKNESS_SHARE * width)
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    bottom = height - 1 - margin
    bar = (margin, bottom - thickness, margin + length, bottom)
    draw.rectangle([round(end) for end in bar], fill="white", outline="black")
    size = max(_SMALLEST_TEXT_PX, round(_TEXT_SHARE * width))
    draw.text(
        (margin + length / 2, bottom - 1.6 * thickness),
        format_length(length_nm),
        fill="white",
        font=find_font(size),
        anchor="mb",
        stroke_width=max(1, size // 9),
        stroke_fill="black",
    )
    return np.asarray(picture)


def find_font(size_px: int) -> ImageFont.FreeTypeFont:
    """The font of what is written into pictures."""
    import matplotlib

    # It comes with matplotlib, and has the letter of micrometres.
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"
    return ImageFont.truetype(str(path), size_px)


def add_scale_bar(axes: "Axes", width_px: int, pixel_size_nm: float | None) -> None:
    """Draws a scale bar into the lower left corner of an image in a figure.

    Args:
        axes: Holds the image, a data unit to the pixel.
        width_px: Width of the image in px.
        pixel_size_nm: Edge of its pixels in nm; without one there is no bar.
    """
    if pixel_size_nm is None:
        return
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    length_nm = round_length(_LENGTH_SHARE * width_px * pixel_size_nm)
    length, margin = length_nm / pixel_size_nm, _MARGIN_SHARE * width_px
    thickness = _THICKNESS_SHARE * width_px
    bottom = max(axes.get_ylim()) - margin
    bar = Rectangle((margin, bottom - thickness), length, thickness)
    bar.set(facecolor="white", edgecolor="black", linewidth=0.8)
    axes.add_patch(bar)
    text = axes.text(
        margin + length / 2,
        bottom - 1.6 * thickness,
        format_length(length_nm),
        color="white",
        fontsize=11,
        ha="center",
        va="bottom",
    )
    text.set_path_effects([withStroke(linewidth=2.5, foreground="black")])


def round_length(longest_nm: float) -> float:
    """The longest of 1, 2 and 5 times a power of ten that is at most a length in nm."""
    power = 10.0 ** math.floor(math.log10(longest_nm))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= longest_nm)


def format_length(length_nm: float) -> str:
    """A length in the unit that people say it in.

    Examples:
        >>> format_length(500), format_length(1000), format_length(0.5)
        ('500 nm', '1 µm', '0.5 nm')
    """
    if length_nm < _NM_PER_UM:
        return f"{length_nm:g} nm"
    return f"{length_nm / _NM_PER_UM:g} µm"
