"""Pictures of one section as arrays: outlines and errors; and which sections are shown."""

from collections.abc import Mapping

import numpy as np

from bench.core.pixels import shrink_image, stretch_contrast
from bench.errors import BenchError
from bench.metrics.table import HEADLINE

# Okabe and Ito, Color Universal Design (2008): told apart by colour-blind readers.
OKABE_ITO: dict[str, tuple[int, int, int]] = {
    "orange": (230, 159, 0),
    "sky blue": (86, 180, 233),
    "bluish green": (0, 158, 115),
    "yellow": (240, 228, 66),
    "blue": (0, 114, 178),
    "vermillion": (213, 94, 0),
    "reddish purple": (204, 121, 167),
    "black": (0, 0, 0),
}
# Classes of a pixel (two bits: annotated, predicted), their names in legends and their tint.
FALSE_POSITIVE, FALSE_NEGATIVE, TRUE_POSITIVE = 0b01, 0b10, 0b11
ERROR_CLASSES: dict[int, tuple[str, tuple[int, int, int]]] = {
    TRUE_POSITIVE: ("found (true positive)", OKABE_ITO["sky blue"]),
    FALSE_POSITIVE: ("extra (false positive)", OKABE_ITO["vermillion"]),
    FALSE_NEGATIVE: ("missed (false negative)", OKABE_ITO["yellow"]),
}
TINT = np.float32(0.6)
# Of outlines, as of the pixels that only one of the two has.
TRUTH_COLOUR = OKABE_ITO["yellow"]
PREDICTION_COLOUR = OKABE_ITO["vermillion"]
# Weights of red, green and blue in what an eye finds bright; a brighter colour has a dark rim.
_BRIGHTNESS = np.array([0.299, 0.587, 0.114])
_BRIGHT = 140
# Of the longer side: wide enough to see in a thumbnail.
_OUTLINE_SHARE = 1 / 400
# The distance of two lines of hatching, of the longer side and in px at least.
_HATCH_SHARE, _LEAST_HATCH_PX = 1 / 40, 8
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_Scores = Mapping[str, Mapping[str, float]]


def unit_colour(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    """A colour of 8 bits a channel in the range of matplotlib, 0 to 1."""
    red, green, blue = colour
    return red / 255, green / 255, blue / 255


def draw_overlay(
    raw: np.ndarray, *, truth: np.ndarray, prediction: np.ndarray, factor: int = 1
) -> np.ndarray:
    """Tints the right and wrong pixels of a prediction over the section.

    Args:
        raw: Section (y, x) of any bit depth.
        truth: Annotation (y, x), boolean or instance ids; foreground is not 0.
        prediction: Segmentation (y, x), likewise.
        factor: Edge in px of the blocks that are averaged to one pixel of the picture. A block
            of several classes gets their tints in proportion.

    Returns:
        RGB (y, x, 3), uint8: the section in grey, mixed with TINT of the colour of the class in
        ERROR_CLASSES; background stays grey.

    Raises:
        BenchError: If the shapes differ or are not two-dimensional.
    """
    check_section(raw, truth.shape)
    classes = classify_pixels(truth=truth, prediction=prediction)
    grey = stretch_contrast(shrink_image(raw, factor))
    shares = {key: shrink_image(classes == key, factor) for key in ERROR_CLASSES}
    overlay = np.empty((*grey.shape, 3), dtype=np.uint8)
    for channel in range(3):
        plane = grey.astype(np.float32)
        for key, (_, colour) in ERROR_CLASSES.items():
            plane += TINT * shares[key] * (np.float32(colour[channel]) - grey)
        overlay[..., channel] = np.rint(plane)
    return overlay


def hatch_ignored(raw: np.ndarray, ignored: np.ndarray | None) -> np.ndarray:
    """Hatches what nobody annotated on a copy of a section, which is then drawn as any other.

    Args:
        raw: Section (y, x) of any bit depth.
        ignored: Where nobody annotated, bool (y, x); None where all is annotated.
    """
    if ignored is None or not ignored.any():
        return raw
    height, width = raw.shape
    period = max(_LEAST_HATCH_PX, round(_HATCH_SHARE * max(height, width)))
    lines = (np.arange(height)[:, None] + np.arange(width)) % period < period // 4
    # Within the grey values that there are, so that the contrast of all else stays what it is.
    low, middle, high = np.percentile(raw, (5, 50, 95))
    hatched = raw.astype(np.float32)
    hatched[ignored] = (hatched[ignored] + np.float32(middle)) / 2
    hatched[ignored & lines] = high
    hatched[ignored & np.roll(lines, period // 4, axis=1)] = low
    return np.asarray(hatched.astype(raw.dtype))


# Of the structures of a model, in the order of its classes, again from the first after the last.
_CLASS_COLOURS = ("sky blue", "vermillion", "yellow", "bluish green", "reddish purple", "orange")


def draw_classes(raw: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Tints every pixel of a section in the colour of its class.

    Args:
        raw: Section (y, x) of any bit depth.
        classes: Class of each pixel (y, x): 0 background, which stays grey, k the k-th structure.

    Returns:
        RGB (y, x, 3), uint8: the section in grey, mixed with TINT of _CLASS_COLOURS.

    Raises:
        BenchError: If the shapes differ or are not two-dimensional.
    """
    check_section(raw, classes.shape)
    colours = np.array([OKABE_ITO[name] for name in _CLASS_COLOURS], dtype=np.float32)
    drawn, found = grey_rgb(raw), classes != 0
    tints = colours[(classes[found].astype(np.intp) - 1) % len(colours)]
    drawn[found] = np.rint(drawn[found] + TINT * (tints - drawn[found]))
    return drawn


def classify_pixels(*, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Classes of the pixels, uint8 (y, x): 0 background, else a key of ERROR_CLASSES.

    Raises:
        BenchError: If the shapes differ or are not two-dimensional.
    """
    check_section(prediction, truth.shape)
    classes: np.ndarray = 2 * (truth != 0).astype(np.uint8)
    classes += prediction != 0
    return classes


def find_outlines(labels: np.ndarray) -> np.ndarray:
    """Pixels of an instance that touch another instance or background, boolean (y, x).

    A pixel touches its four neighbours; the image's edge is no outline. Touching instances keep
    a line on either side, so that a merge shows as its absence.
    """
    outlines = np.zeros(labels.shape, dtype=bool)
    for before, after in (
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
    ):
        differs = labels[before] != labels[after]
        outlines[before] |= differs
        outlines[after] |= differs
    return np.asarray(outlines & (labels != 0))


def draw_outlines(
    image: np.ndarray, labels: np.ndarray, colour: tuple[int, int, int], *, width_px: int = 1
) -> np.ndarray:
    """Draws the outlines of instances on a copy of an image, widening them inwards.

    On either side of an outline is a rim, half as wide and at least a pixel: white, or black
    beside a bright colour. One of the two is seen on any grey.

    Args:
        image: RGB (y, x, 3), uint8.
        labels: Instance ids (y, x).
        colour: Of the outlines.
        width_px: Width of the outlines in px.
    """
    from scipy.ndimage import binary_dilation

    outlines = find_outlines(labels)
    if width_px > 1:
        outlines = binary_dilation(outlines, iterations=width_px - 1) & (labels != 0)
    rim = binary_dilation(outlines, iterations=max(1, width_px // 2))
    drawn = image.copy()
    drawn[rim] = _BLACK if _BRIGHTNESS @ colour > _BRIGHT else _WHITE
    drawn[outlines] = colour
    return drawn


def outline_width(image: np.ndarray) -> int:
    """Width of outlines in px that suits the size of an image."""
    longer_side: int = max(image.shape)
    return max(1, round(_OUTLINE_SHARE * longer_side))


def grey_rgb(raw: np.ndarray) -> np.ndarray:
    """A section (y, x) in grey, as RGB (y, x, 3), uint8."""
    return np.repeat(stretch_contrast(raw)[..., None], 3, axis=2)


def check_section(section: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raises BenchError unless an image is one section (y, x) of a shape."""
    if section.ndim != 2 or section.shape != shape:
        raise BenchError(
            f"raw, truth and prediction must be one section (y, x) of one shape, received "
            f"{section.shape} and {shape}: pass the same crop of each"
        )


def rank_sections(scores: _Scores) -> list[str]:
    """Names of the sections from the worst to the best Dice; equal ones in the order given."""
    scored = [name for name in scores if HEADLINE in scores[name]]
    return sorted(scored, key=lambda name: scores[name][HEADLINE])


def spread_sections(scores: _Scores, number: int) -> list[str]:
    """Up to ``number`` sections, evenly spaced from the worst to the best.

    With an odd number the median is among them: of an even count of sections the lower one.
    """
    ranked = rank_sections(scores)
    if len(ranked) <= number:
        return ranked
    return [ranked[place] for place in np.linspace(0, len(ranked) - 1, number).astype(int)]


def typical_sections(scores: _Scores) -> dict[str, str]:
    """The worst, the median and the best section, by name, with what each is.

    Two sections are the worst and the best, a single one is the only one.
    """
    ranked = rank_sections(scores)
    if len(ranked) == 1:
        return {ranked[0]: "only section"}
    roles: dict[str, str] = {}
    for place, role in ((0, "worst"), ((len(ranked) - 1) // 2, "median"), (-1, "best")):
        if ranked:
            roles.setdefault(ranked[place], role)
    return roles
