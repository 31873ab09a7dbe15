"""A trained model as something that segments sections, whatever its network."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.core.memory import explain_out_of_memory
from bench.errors import BenchError
from bench.inference.device import Compute
from bench.inference.sections import predict_all_at_model_scale
from bench.models.checkpoint import ModelInfo, load_checkpoint, load_info


@dataclass(frozen=True, eq=False)
class SectionPrediction:
    """What a model says of a section.

    Attributes:
        foreground: Probability of the structure, (y, x) uint8, round(255 p).
        boundary: Probability of a boundary between instances, likewise; None without one.
        instances: Ids (y, x) int32 where the model itself finds instances; None otherwise. They
            may not overlap; foreground outside of them is not part of any.
    """

    foreground: np.ndarray
    boundary: np.ndarray | None = None
    instances: np.ndarray | None = None


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
    """Reads a checkpoint, whatever its architecture, onto a device.

    Args:
        path: The checkpoint.
        compute: Where it runs.
        structure: What is looked for, where the model has channels for several.
    """
    info = load_info(path)
    if info.architecture == "sam":
        from bench.inference.sam_masks import open_sam

        return open_sam(path, info, compute), info
    return open_unet(path, compute, structure), info


def open_unet(path: Path, compute: Compute, structure: str) -> Predictor:
    """Reads a U-Net."""
    network, info = load_checkpoint(path)
    network.to(compute.device)
    foreground = foreground_channel(info, structure)
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
                    channels[foreground], None if boundary is None else channels[boundary]
                )

    return Predictor(predict)


def foreground_channel(info: ModelInfo, structure: str) -> int:
    """The channel of a structure: that of its name, else the foreground.

    A model of cells has a boundary only (SynapseNet's ``compartments``), which is the membrane.

    Raises:
        BenchError: If the model has none of them.
    """
    for name in (structure, "foreground", *(["boundary"] if structure == "membrane" else [])):
        if name in info.outputs:
            return info.outputs.index(name)
    raise BenchError(
        f"the model must have a channel 'foreground' or {structure!r}, it has "
        f"{', '.join(info.outputs)}: choose another source"
    )
