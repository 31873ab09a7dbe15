"""The image of a layer: its patches laid over each other."""

from pathlib import Path

import numpy as np

from bench.errors import BenchError
from bench.ingest.annotations.rasterise import clip
from bench.ingest.annotations.trakem2.geometry import compose, invert, transform_points
from bench.ingest.annotations.trakem2.placing import ImagePatch, check_image
from bench.ingest.annotations.trakem2.project import TrakEM2Project
from bench.ingest.images.images import read_section
from bench.ingest.images.limits import check_decoded_size

# Coordinates of so many pixels are computed at once.
_BAND_PX = 2**20


def read_layer(
    project: TrakEM2Project, number: int, top: int, left: int, height: int, width: int
) -> np.ndarray:
    """Reads a window of a layer.

    A pixel is that of the topmost image over its centre, taken without interpolation; where
    there is no image it is 0. One image file is in memory at a time.

    Args:
        project: The project.
        number: The layer's number.
        top: First row of the window in the layer set.
        left: The same of its first column.
        height: Rows of the window.
        width: The same of its columns.

    Returns:
        Grey values (y, x), in a type that holds those of all images read.

    Raises:
        BenchError: If an image of the layer is non-linearly transformed, is missing, lies where
            it may not, or does not decode.
    """
    placed = _list_patches(project, number, (top, left, height, width))
    canvas = np.zeros((height, width), np.uint8)
    for count, (patch, path, matrix) in enumerate(placed):
        pixels = read_section(path, patch.page)
        _check_size(project, patch, pixels)
        cut = _find_source(pixels, matrix, (height, width))
        if len(placed) == 1 and cut is not None and cut.shape == canvas.shape:
            return np.ascontiguousarray(cut)
        dtype = np.result_type(canvas, pixels) if count else pixels.dtype
        canvas = canvas.astype(dtype, copy=False)
        _lay_patch(canvas, pixels, matrix)
    return canvas


def _list_patches(
    project: TrakEM2Project, number: int, window: tuple[int, int, int, int]
) -> list[tuple[ImagePatch, Path, np.ndarray]]:
    """Lists the patches in a window (top, left, height, width) of a layer, the undermost first.

    Returns:
        Each patch, the file to open, and the transform (2, 3) from its pixels to the window.
    """
    top, left, height, width = window
    to_window = np.array([[1.0, 0.0, -left], [0.0, 1.0, -top]])
    placed = []
    for patch in project.layers[number].patches:
        _check_transform(project, number, patch)
        matrix = compose(to_window, patch.matrix)
        # Without a size in the project, what the image covers is known when it is read.
        size = (patch.height, patch.width)
        if not all(size) or _find_overlap(matrix, size, (height, width)):
            placed.append((patch, check_image(patch, project.roots, project.path), matrix))
    stored = sum(path.stat().st_size for _, path, _ in placed)
    check_decoded_size(project.path, height * width, stored)
    return placed


def _check_transform(project: TrakEM2Project, number: int, patch: ImagePatch) -> None:
    if patch.bent:
        raise BenchError(
            f"images of {project.path} must be placed by affine transforms only, received a "
            f"non-linear one of {patch.path.name} in layer {number}: export the layers as flat "
            "images from TrakEM2, and import those into a copy of the project"
        )
    try:
        invert(patch.matrix)
    except ValueError as error:
        raise BenchError(
            f"{patch.path.name} in layer {number} of {project.path} must have {error}: place it "
            "again in TrakEM2"
        ) from error


def _check_size(project: TrakEM2Project, patch: ImagePatch, pixels: np.ndarray) -> None:
    height, width = pixels.shape
    if (patch.height or height, patch.width or width) != (height, width):
        raise BenchError(
            f"{patch.path} must have the size that {project.path} gives it, {patch.height} x "
            f"{patch.width} px (height x width), received {height} x {width}: put the image back "
            "that was annotated"
        )


def _find_overlap(
    matrix: np.ndarray, shape: tuple[int, int], size: tuple[int, int]
) -> tuple[slice, slice] | None:
    """Rows and columns that an image of a shape may cover of a canvas of a size; None for nothing.

    The matrix (2, 3) is from pixels of the image to those of the canvas, here and below.
    """
    height, width = shape
    corners = np.array([(0, 0), (width, 0), (0, height), (width, height)], float)
    placed = transform_points(matrix, corners)
    low, high = np.floor(placed.min(axis=0)), np.ceil(placed.max(axis=0))
    left, right = clip(int(low[0]), int(high[0]), size[1])
    top, bottom = clip(int(low[1]), int(high[1]), size[0])
    return (slice(top, bottom), slice(left, right)) if top < bottom and left < right else None


def _lay_patch(canvas: np.ndarray, pixels: np.ndarray, matrix: np.ndarray) -> None:
    """Lays an image (y, x) over a canvas (y, x) in place."""
    overlap = _find_overlap(matrix, pixels.shape, canvas.shape)
    if overlap is None:
        return
    rows, columns = overlap
    source = _find_source(pixels, matrix, canvas.shape)
    if source is not None:
        canvas[rows, columns] = source
        return
    inverse = invert(matrix)
    band = max(1, _BAND_PX // (columns.stop - columns.start))
    for start in range(rows.start, rows.stop, band):
        part = canvas[start : min(start + band, rows.stop), columns]
        _lay_band(part, pixels, inverse, (start, columns.start))


def _find_source(
    pixels: np.ndarray, matrix: np.ndarray, size: tuple[int, ...]
) -> np.ndarray | None:
    """The part of an image (y, x) that lies in a canvas, where it only has to be shifted.

    Returns:
        A view; None where the transform is not one by whole pixels, or nothing is covered.
    """
    height, width = size
    overlap = _find_overlap(matrix, pixels.shape, (height, width))
    shift = matrix[:, 2]
    whole = np.array_equal(matrix[:, :2], np.eye(2)) and np.array_equal(shift, np.floor(shift))
    if overlap is None or not whole:
        return None
    (rows, columns), x, y = overlap, int(shift[0]), int(shift[1])
    return pixels[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]


def _lay_band(
    part: np.ndarray, pixels: np.ndarray, inverse: np.ndarray, corner: tuple[int, int]
) -> None:
    """Lays an image (y, x) over a part (y, x) of a canvas in place; the corner is the part's.

    The inverse (2, 3) is from pixels of the canvas to those of the image.
    """
    y = np.arange(part.shape[0])[:, None] + corner[0] + 0.5
    x = np.arange(part.shape[1])[None] + corner[1] + 0.5
    (a, b, c), (d, e, f) = inverse
    # Comparing before the cast: numbers beyond the integers' range do not fit.
    source_x, source_y = a * x + b * y + c, d * x + e * y + f
    height, width = pixels.shape
    inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    part[inside] = pixels[source_y[inside].astype(np.intp), source_x[inside].astype(np.intp)]
