"""SynapseNet's own package, where it is installed: its inference, post-processing, newer models."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.errors import BenchError
from bench.inference.device import Compute
from bench.inference.prediction import SAME_SCALE, Predictor, SectionPrediction, predict_one_by_one
from bench.models.checkpoint import ModelInfo, load_checkpoint

# What their segmentation of a structure is called, and what it needs in 2D.
_SEGMENTATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "vesicles": ("vesicles_2d", {}),
    "mitochondria": ("mitochondria", {"ws_block_shape": (256, 256), "ws_halo": (48, 48)}),
}


def open_synapse_net(path: Path, info: ModelInfo, compute: Compute, structure: str) -> Predictor:
    """Applies a model of two channels as synapse_net does, up to its instances.

    Theirs is fp32, and separates instances by a watershed of its own. The tiles are the model's.

    Args:
        path: The checkpoint.
        info: What the model is.
        compute: The device.
        structure: What is segmented: vesicles or mitochondria.

    Raises:
        BenchError: If the package is not installed, or has no segmentation for it.
    """
    if importlib.util.find_spec("synapse_net") is None:
        raise BenchError(
            "segmentation=synapse_net needs the package synapse_net, which is not installed: "
            "install the extra synapse_net of pyproject.toml"
        )
    from synapse_net.inference.inference import run_segmentation

    if structure not in _SEGMENTATIONS or info.outputs != ("foreground", "boundary"):
        raise BenchError(
            f"segmentation=synapse_net separates {' and '.join(_SEGMENTATIONS)} of models with "
            f"foreground and boundary, received {structure} of a model with "
            f"{', '.join(info.outputs)}: use segmentation=own"
        )
    name, settings = _SEGMENTATIONS[structure]
    network: Any = load_checkpoint(path)[0].to(compute.device).eval()
    # Ours ends with logits.
    network.final_activation = torch.nn.Sigmoid()

    def predict(raw: np.ndarray, pixel_size_nm: float | None) -> SectionPrediction:
        labels, probabilities = run_segmentation(
            raw,
            network,
            name,
            tiling=_describe_tiles(info),
            scale=choose_scale(info.input_pixel_size_nm, pixel_size_nm),
            return_predictions=True,
            **settings,
        )
        levels = (probabilities * 255).round().astype(np.uint8)
        return SectionPrediction(levels[0], levels[1], labels.astype(np.int32))

    return predict_one_by_one(predict)


def _describe_tiles(info: ModelInfo) -> dict[str, dict[str, int]]:
    """A model's tiles in their terms: the tile includes the halo."""
    edge, halo = info.tile_px + 2 * info.halo_px, info.halo_px
    return {"tile": {"x": edge, "y": edge, "z": 1}, "halo": {"x": halo, "y": halo, "z": 0}}


def choose_scale(model_nm: float | None, section_nm: float | None) -> list[float] | None:
    """Their scale factors (y, x); None where the section is fed as it is."""
    if model_nm is None or section_nm is None or abs(section_nm / model_nm - 1) < SAME_SCALE:
        return None
    return [section_nm / model_nm] * 2
