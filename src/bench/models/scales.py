"""What is suspicious about the size of pixels, by itself and beside that of a model."""

from collections.abc import Iterable

from bench.models.checkpoint import ModelInfo

# From 0.05 nm, finer than atoms are apart, to 1 um there is room for every electron micrograph.
_SMALLEST_NM, _LARGEST_NM = 0.05, 1000.0
# Pixel sizes that differ by more are reported: one of them is probably wrong.
_REPORTED_FACTOR = 2


def find_size_warnings(sizes: Iterable[float]) -> list[str]:
    """Says which pixel sizes no electron micrograph has, one line each.

    Args:
        sizes: Pixel sizes of images in nm.
    """
    return [
        f"pixels of {size:g} nm are not plausible in electron microscopy ({_SMALLEST_NM:g} to "
        f"{_LARGEST_NM:g} nm): check the unit, and correct it with -P pixel_size_nm=..."
        for size in sorted(set(sizes))
        if not _SMALLEST_NM <= size <= _LARGEST_NM
    ]


def find_scale_warnings(
    infos: Iterable[ModelInfo], sizes: Iterable[float], *, rescale: bool
) -> list[str]:
    """Says what is suspicious about the pixel sizes of images that models are fed, one line each.

    Args:
        infos: The models that are applied, or trained further.
        sizes: Pixel sizes of the images in nm.
        rescale: Whether images are resampled to each model's pixel size.
    """
    sizes = sorted(set(sizes))
    trained = sorted({info.input_pixel_size_nm for info in infos if info.input_pixel_size_nm})
    remedy = "check pixel_size_nm" if rescale else "use rescale=true"
    return find_size_warnings(sizes) + [
        f"the image has pixels of {size:g} nm and the model was trained at {model_nm:g} nm, "
        f"a factor over {_REPORTED_FACTOR}: {remedy}"
        for size in sizes
        for model_nm in trained
        if is_far(size, model_nm)
    ]


def is_far(size_nm: float, model_nm: float) -> bool:
    """Whether the pixel size of images is suspiciously far from that of a model."""
    return not 1 / _REPORTED_FACTOR <= size_nm / model_nm <= _REPORTED_FACTOR
