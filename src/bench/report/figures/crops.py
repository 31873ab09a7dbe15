"""The part of a section where prediction and annotation differ most, at full resolution."""

import math
from dataclasses import dataclass

import numpy as np

from bench.dataset.checks import instance_areas
from bench.report.figures.overlays import (
    PREDICTION_COLOUR,
    TRUTH_COLOUR,
    check_section,
    draw_outlines,
    draw_overlay,
    grey_rgb,
)
from bench.report.figures.scale_bar import draw_scale_bar

# Edge of a picture in px, at which it needs no scrolling on a small screen.
_SIDE_PX = 512
# Objects of a smaller diameter are enlarged until they are as large, but at most so many times.
_CLEAR_PX = 24
_MOST_ZOOM = 4
# Windows are tried at every 16th of their edge.
_STEPS = 16
_SPECK_SHARE = 1e-3
_LINE_PX = 3
PANELS = ("Annotation", "Prediction", "Errors")


@dataclass(frozen=True)
class _Crop:
    """A square of a section; one of a smaller section is cut to it.

    Attributes:
        top: First row.
        left: First column.
        height: Rows.
        width: Columns.
        zoom: Edge in px of the square that a pixel becomes.
    """

    top: int
    left: int
    height: int
    width: int
    zoom: int

    @property
    def view(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        rows = slice(self.top, self.top + self.height)
        return rows, slice(self.left, self.left + self.width)

    def __str__(self) -> str:
        """Where it is, as a caption says it."""
        enlarged = f", enlarged {self.zoom} times" if self.zoom > 1 else ", at full resolution"
        right, bottom = self.left + self.width, self.top + self.height
        return f"x {self.left} to {right}, y {self.top} to {bottom} px{enlarged}"


def choose_crop(*, truth: np.ndarray, prediction: np.ndarray) -> _Crop:
    """Chooses the square in which most pixels are foreground in only one of two segmentations.

    Where they agree everywhere it is that of the most foreground, and the first of equal ones. Its
    edge is 512 px of the picture: of the section so much less as small objects are enlarged.

    Args:
        truth: Instance ids (y, x), or a mask.
        prediction: Likewise.

    Raises:
        BenchError: If the shapes differ or are not two-dimensional.
    """
    check_section(prediction, truth.shape)
    zoom = _choose_zoom(truth if truth.any() else prediction)
    side = _SIDE_PX // zoom
    height, width = (min(length, side) for length in truth.shape)
    wrong = (truth != 0) != (prediction != 0)
    step = max(1, side // _STEPS)
    top, left = _fullest_window(wrong if wrong.any() else truth != 0, (height, width), step)
    return _Crop(top, left, height, width, zoom)


def _choose_zoom(labels: np.ndarray) -> int:
    """A power of two that enlarges objects to be clear, or a small section to be seen."""
    areas = np.sort(instance_areas(labels.astype(np.uint8) if labels.dtype == bool else labels))
    diameter = math.inf
    if areas.size:
        # Between the usual object, without specks beside a membrane, and that of the usual pixel,
        # such as touching vesicles drawn as one.
        weighted = float(areas[np.searchsorted(areas.cumsum(), areas.sum() / 2)])
        usual = float(np.median(areas[areas >= _SPECK_SHARE * weighted]))
        diameter = math.sqrt(4 / math.pi * math.sqrt(usual * weighted))
    diameter = min(diameter, max(labels.shape) * _CLEAR_PX / _SIDE_PX)
    zoom = 1
    while zoom < _MOST_ZOOM and diameter * zoom < _CLEAR_PX:
        zoom *= 2
    return zoom


def _fullest_window(mask: np.ndarray, shape: tuple[int, int], step: int) -> tuple[int, int]:
    """First row and column of the window that holds most of a mask, on a grid of steps."""
    rows, columns = (-(-length // step) for length in mask.shape)
    # Sums of blocks first: an integral of every pixel of a montage would fill the memory.
    padded = np.zeros((rows * step, columns * step), dtype=bool)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    blocks = padded.reshape(rows, step, columns, step).sum(axis=(1, 3))
    integral = np.zeros((rows + 1, columns + 1), dtype=np.int64)
    integral[1:, 1:] = blocks.cumsum(axis=0).cumsum(axis=1)
    high, wide = (
        min(-(-length // step), most) for length, most in zip(shape, blocks.shape, strict=True)
    )
    sums = integral[high:, wide:] - integral[:-high, wide:]
    sums += integral[:-high, :-wide] - integral[high:, :-wide]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    most = (mask.shape[0] - shape[0], mask.shape[1] - shape[1])
    return min(int(top) * step, most[0]), min(int(left) * step, most[1])


def draw_crop(
    raw: np.ndarray,
    *,
    truth: np.ndarray,
    prediction: np.ndarray,
    crop: _Crop,
    pixel_size_nm: float | None,
) -> dict[str, np.ndarray]:
    """Draws a crop with its annotation, with the prediction, and with the errors.

    Args:
        raw: Section (y, x) of any bit depth; its contrast is stretched within the crop.
        truth: Instance ids (y, x), or a mask.
        prediction: Likewise.
        crop: Of this section.
        pixel_size_nm: Edge of a pixel in nm; None where it is not known.

    Returns:
        RGB (y, x, 3), uint8, of each of PANELS, with a scale bar where there is a scale.

    Raises:
        BenchError: If the shapes differ or are not two-dimensional.
    """
    check_section(raw, truth.shape)
    part, truth, prediction = raw[crop.view], truth[crop.view], prediction[crop.view]
    grey = _enlarge(grey_rgb(part), crop.zoom)
    images = (
        draw_outlines(grey, _enlarge(truth, crop.zoom), TRUTH_COLOUR, width_px=_LINE_PX),
        draw_outlines(grey, _enlarge(prediction, crop.zoom), PREDICTION_COLOUR, width_px=_LINE_PX),
        _enlarge(draw_overlay(part, truth=truth, prediction=prediction), crop.zoom),
    )
    size = None if pixel_size_nm is None else pixel_size_nm / crop.zoom
    return {name: draw_scale_bar(image, size) for name, image in zip(PANELS, images, strict=True)}


def _enlarge(image: np.ndarray, zoom: int) -> np.ndarray:
    return image if zoom == 1 else image.repeat(zoom, axis=0).repeat(zoom, axis=1)
