"""A trained model as something that segments sections, at its pixel size, whatever its network."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.core.memory import explain_out_of_memory
from bench.errors import BenchError, unknown_name
from bench.inference.device import Compute
from bench.inference.feeding import (
    EnlargedSection,
    Moments,
    Rows,
    enlarges,
    resize_bands,
    resize_section,
)
from bench.methods import NORMALISATIONS
from bench.models.checkpoint import ModelInfo, load_info
from bench.models.networks import find_function, find_network
from bench.words import FIXED

# torch is imported where a network is applied, and not by all that read what one said.
if TYPE_CHECKING:
    import torch

    from bench.inference.tiles import Pixels

log = logging.getLogger(__name__)
# Pixel sizes closer than this, relatively, count as the same.
SAME_SCALE = 0.01
# White of 8 bits, of which fixed means and deviations are shares.
_BRIGHTEST = 255


def predict_all_at_model_scale(
    network: "torch.nn.Module",
    sections: Iterable[np.ndarray],
    *,
    info: ModelInfo,
    pixel_size_nm: float | None,
    compute: Compute,
) -> Iterator[np.ndarray]:
    """Predicts sections, resampled to the model's pixel size and mapped back where they differ.

    Where one of the pixel sizes is not known the sections are fed as they are.

    Args:
        network: The network, on the device.
        sections: Sections (y, x) of any bit depth.
        info: What the model is.
        pixel_size_nm: Pixel size of the sections; None if not known.
        compute: Device and precision.

    Yields:
        Probabilities (channels, y, x) of each section as uint8, round(255 p), in order.
    """
    from bench.inference.tiles import predict_sections

    shapes: deque[tuple[int, ...]] = deque()

    def feed() -> "Iterator[Pixels]":
        for raw in sections:
            shapes.append(raw.shape)
            yield feed_section(raw, info, pixel_size_nm)

    for probability in predict_sections(
        network,
        feed(),
        tile_px=info.tile_px,
        halo_px=info.halo_px,
        compute=compute,
        classes=bool(info.classes),
        moments=fixed_moments(info),
    ):
        shape = shapes.popleft()
        yield np.stack([map_back(channel, shape) for channel in probability])


def feed_section(raw: np.ndarray, info: ModelInfo, pixel_size_nm: float | None) -> "Pixels":
    """A section (y, x) at the pixel size that the model was trained at.

    Enlarged, it is computed where it is read: at 1.35 nm a montage of 5 nm has 14 times the pixels.

    Raises:
        BenchError: If the model's normalisation is fixed, and the section is not of 8 bits.
    """
    if info.normalisation == FIXED:
        check_depth(raw.dtype.name)
    shape = model_shape(raw.shape, info.input_pixel_size_nm, pixel_size_nm)
    if shape == raw.shape:
        return raw
    return (
        EnlargedSection.of(raw, shape) if enlarges(raw.shape, shape) else resize_section(raw, shape)
    )


def fixed_moments(info: ModelInfo) -> Moments | None:
    """Mean and deviation of all sections, where a model has them; None of each section's own."""
    if info.normalisation != FIXED or info.grey_scale is None:
        return None
    mean, deviation = info.grey_scale
    return Moments(_BRIGHTEST * mean, _BRIGHTEST * deviation)


def check_depth(depth: str) -> None:
    """Raises BenchError where sections of a depth, such as ``uint16``, have no fixed scale."""
    if depth != "uint8":
        raise BenchError(
            f"normalisation=fixed is of grey values of 8 bits, received sections of {depth}: train "
            "with normalisation=section"
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


@dataclass(frozen=True, eq=False)
class SectionPrediction:
    """What a model says of a section.

    Attributes:
        foreground: Probability of the structure, (y, x) uint8, round(255 p).
        boundary: Probability of a boundary between instances, likewise; None without one.
        instances: Ids (y, x) int32 where the model itself finds instances; None otherwise. They
            may not overlap; foreground outside of them is not part of any.
        classes: Probability of every class (classes, y, x) of a model of classes, the background
            first; None of any other. Only a prediction file keeps them.
    """

    foreground: np.ndarray
    boundary: np.ndarray | None = None
    instances: np.ndarray | None = None
    classes: np.ndarray | None = None


@dataclass(frozen=True)
class Predictor:
    """A model on its device.

    Attributes:
        predict_all: From sections (y, x) of any bit depth and their pixel size in nm (None: not
            known) to the prediction of each, in order.
    """

    predict_all: Callable[[Iterable[np.ndarray], float | None], Iterator[SectionPrediction]]

    def __call__(self, raw: np.ndarray, pixel_size_nm: float | None) -> SectionPrediction:
        """Predicts one section."""
        (prediction,) = self.predict_all([raw], pixel_size_nm)
        return prediction


def predict_one_by_one(
    predict: Callable[[np.ndarray, float | None], SectionPrediction],
) -> Predictor:
    """Makes a model that sees one section at a time a predictor."""
    return Predictor(
        lambda sections, pixel_size_nm: (predict(raw, pixel_size_nm) for raw in sections)
    )


def open_predictor(path: Path, compute: Compute, structure: str) -> tuple[Predictor, ModelInfo]:
    """Reads a checkpoint, whatever its network, onto a device.

    Args:
        path: The checkpoint.
        compute: Where it runs.
        structure: What is looked for, where the model has channels for several.
    """
    info = load_info(path)
    opened_by = find_function(find_network(info.architecture).opened_by)
    return opened_by(path, compute, structure), info


def open_tiled(path: Path, compute: Compute, structure: str) -> Predictor:
    """Reads a network that is applied tile by tile, from sections to logits.

    Raises:
        BenchError: If the model has no channel of the structure, or wants its sections normalised
            in a way that is not known here.
    """
    from bench.inference.engines import open_network

    # Before the weights: what was pretrained may have those of an encoder only.
    info = load_info(path)
    foreground = foreground_channel(info, structure)
    check_normalisation(info)
    network = open_network(path, compute)
    boundary = info.outputs.index("boundary") if "boundary" in info.outputs else None

    def predict(
        sections: Iterable[np.ndarray], pixel_size_nm: float | None
    ) -> Iterator[SectionPrediction]:
        remedy = f"lower tile_px (now {info.tile_px}) when you train, or use device=cpu"
        with explain_out_of_memory("a tile and its halo", remedy):
            for channels in predict_all_at_model_scale(
                network, sections, info=info, pixel_size_nm=pixel_size_nm, compute=compute
            ):
                yield SectionPrediction(
                    channels[foreground],
                    None if boundary is None else channels[boundary],
                    classes=channels if info.classes else None,
                )

    return Predictor(predict)


def check_normalisation(info: ModelInfo) -> None:
    """Raises BenchError where a model wants its sections normalised in an unknown way."""
    if info.normalisation not in NORMALISATIONS:
        raise unknown_name("normalisation", info.normalisation, NORMALISATIONS)


def foreground_channel(info: ModelInfo, structure: str) -> int:
    """The channel of a structure: that of its name, else the foreground.

    A model of cells has a boundary only (SynapseNet's ``compartments``), which is the membrane.

    Raises:
        BenchError: If the model has none of them.
    """
    for name in (structure, "foreground", *(["boundary"] if structure == "membrane" else [])):
        if name in info.outputs:
            return info.outputs.index(name)
    wanted = "" if info.classes else "'foreground' or "
    raise BenchError(
        f"the model must have a channel {wanted}{structure!r}, it has "
        f"{', '.join(info.outputs) or 'none'}: choose another source"
    )
