"""A recipe applied to arrays in memory: what a registered model does."""

import logging
import tempfile
from pathlib import Path

import numpy as np

from bench.errors import BenchError
from bench.metrics.curves import TOP_LEVEL
from bench.recipe.predictor import RecipePredictor, find_scale_warnings

log = logging.getLogger(__name__)

NAMES = ("instances", "probability")


def segment_array(
    predictor: RecipePredictor, images: np.ndarray, pixel_size_nm: float | None
) -> dict[str, np.ndarray]:
    """Segments one section or several.

    Args:
        predictor: The recipe on its device.
        images: Grey (y, x) or (n, y, x) of any bit depth; sections are independent of each other.
        pixel_size_nm: Their pixel size; None if not known: they are then fed as they are, and
            lengths of the recipe are taken in px.

    Returns:
        ``instances``: ids from 1 on, int32, 0 is background; ``probability``: float32 from 0 to
        1, in steps of 1/255. Both have the shape of ``images``.

    Raises:
        BenchError: If the images are not grey sections, or the pixel size is no length.
    """
    images = check_images(np.asarray(images))
    check_size(pixel_size_nm)
    for warning in find_warnings(predictor, pixel_size_nm):
        log.warning("warning: %s", warning)
    instances = np.empty(images.shape, dtype=np.int32)
    probability = np.empty(images.shape, dtype=np.float32)
    sections = images if images.ndim == 3 else images[None]
    for number, raw in enumerate(sections):
        place = number if images.ndim == 3 else ...
        with tempfile.TemporaryDirectory(prefix="synapse-bench-") as folder:
            maps = predictor.predict(raw, pixel_size_nm, Path(folder) / "tiles", ignore_steps)
        instances[place] = predictor.recipe.segment(maps, pixel_size_nm).labels
        probability[place] = maps.foreground.astype(np.float32) / TOP_LEVEL
    return dict(zip(NAMES, (instances, probability), strict=True))


def ignore_steps(more: int) -> None:
    """Nobody watches."""


def find_warnings(predictor: RecipePredictor, pixel_size_nm: float | None) -> list[str]:
    """What is suspicious about the pixel size."""
    if pixel_size_nm is None:
        return [
            "the pixel size is unknown, so images are fed as they are: give "
            'params={"pixel_size_nm": ...}'
        ]
    rescale = predictor.recipe.rescale
    return find_scale_warnings(predictor.infos, [pixel_size_nm], rescale=rescale)


def check_size(pixel_size_nm: float | None) -> None:
    """Raises BenchError for a pixel size that is no length."""
    if pixel_size_nm is not None and not (np.isfinite(pixel_size_nm) and pixel_size_nm > 0):
        raise BenchError(
            f"pixel_size_nm must be a length over 0, received {pixel_size_nm}: leave it out if it "
            "is unknown"
        )


def check_images(images: np.ndarray) -> np.ndarray:
    """Checks images, and gives whole numbers that came as JSON the depth that they need.

    Raises:
        BenchError: If they are not grey sections of finite numbers.
    """
    colour = images.ndim == 3 and images.shape[-1] in (3, 4)
    if images.ndim not in (2, 3) or colour or 0 in images.shape:
        raise BenchError(
            f"images must be grey and of shape (y, x) or (n, y, x), received {images.shape}: "
            "give one channel"
        )
    if images.dtype.kind not in "buif" or not np.isfinite(images).all():
        raise BenchError(
            f"images must hold finite numbers, received {images.dtype}: replace what is missing"
        )
    if images.dtype.kind == "b":
        return images.astype(np.uint8)
    if images.dtype.kind == "i" and images.min() >= 0:
        return images.astype(np.min_scalar_type(int(images.max())))
    return images
