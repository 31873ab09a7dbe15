"""Places the points of an IMOD model in the image it belongs to."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.errors import BenchError
from bench.ingest.annotations.imod_model import LARGEST_COORDINATE, ImodContour, StoredModel
from bench.ingest.images.mrc import MrcGeometry

HAS_ORIGIN, FLIPPED = 1 << 14, 1 << 16  # flags of a model
LARGEST_SCALE = 1e3
SAME = 1e-3


def place_model(
    path: Path, model: StoredModel, image: MrcGeometry | None
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Returns the scale and shift (x, y, z) from points of a model to its image in px.

    3dmod notes in MINX where what it had loaded lay (ctrans), where the whole image lies (otrans)
    and the sides of a voxel (cscale). A model of another image goes by what both say of space.

    Returns:
        Scale, shift in px, and a warning where the image is another one.
    """
    scale, shift = np.ones(3), np.zeros(3)
    if model.minx is None:
        return scale, shift, []
    if not np.isfinite(model.minx).all():
        raise BenchError(
            f"the image reference (MINX) of model {path} must be finite, received "
            f"{model.minx.tolist()}: save it again in 3dmod"
        )
    whole, spacing, loaded = model.minx
    if (spacing <= 0).any():
        return scale, shift, []
    if image is not None and is_of_another_image(model, image):
        sides = np.where(np.array(image.spacing) > 0, image.spacing, spacing)
        scale, shift = spacing / sides, (np.array(image.origin) - loaded) / sides
        moved = ", ".join(f"{value:g}" for value in shift)
        moved = f"scaled by {scale[0]:g} and moved by {moved} px (x, y, z)"
        if not ((scale > 1 / LARGEST_SCALE) & (scale < LARGEST_SCALE)).all():
            raise BenchError(
                f"model {path} must fit its image, received voxels that want it {moved}: correct "
                "the pixel size of the image"
            )
        return scale, shift, [f"{path.name} was drawn on another image: it is {moved}"]
    if model.flags & HAS_ORIGIN:
        shift = (whole - loaded) / spacing
    return scale, shift, []


def is_of_another_image(model: StoredModel, image: MrcGeometry) -> bool:
    """Whether a model with MINX was drawn on an image of another size and another place."""
    size = np.array(model.size)
    if model.flags & FLIPPED:
        size = size[[0, 2, 1]]
    if model.minx is None or (size <= 0).any() or (size == image.size).all():
        return False
    whole, spacing, _ = model.minx
    sides = np.where(np.array(image.spacing) > 0, image.spacing, spacing)
    near = np.abs(sides - spacing) <= SAME * spacing
    placed = np.abs(np.array(image.origin) - whole) <= SAME * spacing
    return not (near.all() and (placed.all() or not model.flags & HAS_ORIGIN))


def place_contours(
    path: Path,
    contours: Sequence[ImodContour],
    model: StoredModel,
    scale: np.ndarray,
    shift: np.ndarray,
) -> None:
    """Moves the points of contours to their place in px of the image, those of all at once."""
    if not contours:
        return
    points = np.concatenate([contour.points for contour in contours])
    points = place_points(path, points, model, scale, shift)
    start = 0
    for contour in contours:
        end = start + len(contour.points)
        contour.points, start = points[start:end], end


def place_points(
    path: Path, points: np.ndarray, model: StoredModel, scale: np.ndarray, shift: np.ndarray
) -> np.ndarray:
    """Returns points (n, 3) in px of the image, y and z of a flipped model exchanged."""
    if model.flags & FLIPPED:
        points = points[:, [0, 2, 1]]
    points = points * scale + shift
    # NaN is not within either.
    if not (np.abs(points) <= LARGEST_COORDINATE).all():
        bad = points[~(np.abs(points) <= LARGEST_COORDINATE).all(axis=1)][0]
        raise BenchError(
            f"points of model {path} must lie within {LARGEST_COORDINATE:g} px, received "
            f"{bad.tolist()} (x, y, z): delete them in 3dmod"
        )
    return points
