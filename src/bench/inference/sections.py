"""A model applied to a section at the pixel size that the model was trained at."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
import torch

from bench.inference.device import Compute
from bench.inference.feeding import EnlargedSection, Rows, enlarges, resize_bands, resize_section
from bench.inference.tiles import Pixels, predict_sections
from bench.models.checkpoint import ModelInfo

log = logging.getLogger(__name__)

# Pixel sizes closer than this, relatively, count as the same.
SAME_SCALE = 0.01


def predict_at_model_scale(
    network: torch.nn.Module,
    raw: np.ndarray,
    *,
    info: ModelInfo,
    pixel_size_nm: float | None,
    compute: Compute,
) -> np.ndarray:
    """Predicts a section, resampled to the model's pixel size and mapped back where they differ.

    Where one of the pixel sizes is not known the section is fed as it is.

    Args:
        network: The network, on the device.
        raw: Section (y, x) of any bit depth.
        info: What the model is.
        pixel_size_nm: Pixel size of the section; None if not known.
        compute: Device and precision.

    Returns:
        Probabilities (channels, y, x) of the section as uint8, round(255 p).
    """
    (probability,) = predict_all_at_model_scale(
        network, [raw], info=info, pixel_size_nm=pixel_size_nm, compute=compute
    )
    return probability


def predict_all_at_model_scale(
    network: torch.nn.Module,
    sections: Iterable[np.ndarray],
    *,
    info: ModelInfo,
    pixel_size_nm: float | None,
    compute: Compute,
) -> Iterator[np.ndarray]:
    """Predicts sections of one pixel size, each as predict_at_model_scale does, in order."""
    shapes: deque[tuple[int, ...]] = deque()

    def feed() -> Iterator[Pixels]:
        for raw in sections:
            shapes.append(raw.shape)
            yield feed_section(raw, info, pixel_size_nm)

    for probability in predict_sections(
        network, feed(), tile_px=info.tile_px, halo_px=info.halo_px, compute=compute
    ):
        shape = shapes.popleft()
        yield np.stack([map_back(channel, shape) for channel in probability])


def feed_section(raw: np.ndarray, info: ModelInfo, pixel_size_nm: float | None) -> Pixels:
    """A section (y, x) at the pixel size that the model was trained at.

    Enlarged, it is computed where it is read: at 1.35 nm a montage of 5 nm has 14 times the pixels.
    """
    shape = model_shape(raw.shape, info.input_pixel_size_nm, pixel_size_nm)
    if shape == raw.shape:
        return raw
    return (
        EnlargedSection.of(raw, shape) if enlarges(raw.shape, shape) else resize_section(raw, shape)
    )


def map_back(probability: Rows, shape: tuple[int, ...]) -> np.ndarray:
    """Probabilities (y, x) that were predicted of a fed section, in the section's shape; uint8."""
    if probability.shape == shape:
        return np.asarray(probability[:])
    bands = (band.round().astype(np.uint8) for band in resize_bands(probability, shape))
    return np.concatenate(list(bands))


def model_shape(
    shape: tuple[int, ...], model_nm: float | None, section_nm: float | None
) -> tuple[int, ...]:
    """Shape of a section at the model's pixel size; its own where they agree or are unknown."""
    if model_nm is None or section_nm is None or abs(section_nm / model_nm - 1) < SAME_SCALE:
        return shape
    return tuple(max(1, round(side * section_nm / model_nm)) for side in shape)
