"""nnU-Net's own predictor: windows that overlap by half, weighted by a Gaussian, and mirrored."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.core.memory import explain_out_of_memory
from bench.inference.device import Compute
from bench.inference.feeding import resize_section
from bench.inference.prediction import (
    Predictor,
    SectionPrediction,
    map_back,
    model_shape,
    predict_one_by_one,
)
from bench.models.checkpoint import ModelInfo, load_checkpoint
from bench.models.outside.nnunet import (
    CONFIGURATION,
    STRUCTURE_LABEL,
    PlannedNetwork,
    silence_nnunet,
)

# Neighbouring windows are half a window apart, as in nnU-Net's own command.
_STEP = 0.5
# What nnU-Net reads of an image that has no pixel size: all that it plans is in px.
_SPACING = (999.0, 1.0, 1.0)
_WHITE = 255


def open_nnunet(path: Path, compute: Compute, structure: str) -> Predictor:
    """Reads a checkpoint of nnU-Net's network onto a device; it was made for one structure."""
    network, info = load_checkpoint(path)
    assert isinstance(network, PlannedNetwork)
    predict_levels = make_section_predictor(network, info, compute.device, mirrored=True)

    def predict(raw: np.ndarray, pixel_size_nm: float | None) -> SectionPrediction:
        shape = model_shape(raw.shape, info.input_pixel_size_nm, pixel_size_nm)
        fed = raw if shape == raw.shape else resize_section(raw, shape)
        with explain_out_of_memory("a section of nnU-Net", "use device=cpu, or smaller images"):
            return SectionPrediction(map_back(predict_levels(fed), raw.shape))

    return predict_one_by_one(predict)


def make_section_predictor(
    network: PlannedNetwork, info: ModelInfo, device: torch.device, *, mirrored: bool
) -> Callable[[np.ndarray], np.ndarray]:
    """Makes a network something that predicts sections at the pixel size of its training.

    It computes in fp32 on a CPU and under fp16 on a GPU, as nnU-Net does.

    Args:
        network: The network.
        info: What it is; its arguments have the plans.
        device: Where it runs.
        mirrored: Whether every window is predicted under all mirrorings of the training, too.

    Returns:
        From a section (y, x) of any bit depth to probabilities (y, x) uint8, round(255 p).
    """
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = PlansManager(info.arguments["plans"])
    configuration = plans.get_configuration(CONFIGURATION)
    dataset_json = info.arguments["dataset_json"]
    with silence_nnunet():
        predictor = nnUNetPredictor(
            tile_step_size=_STEP,
            use_gaussian=True,
            use_mirroring=mirrored,
            perform_everything_on_device=device.type == "cuda",
            device=device,
            allow_tqdm=False,
        )
        predictor.manual_initialization(
            *(network, plans, configuration, None, dataset_json, ""),
            tuple(info.arguments["mirror_axes"]),
        )

    def predict(raw: np.ndarray) -> np.ndarray:
        properties: dict[str, Any] = {"spacing": _SPACING}
        with silence_nnunet():
            fed, _, properties = configuration.preprocessor_class(verbose=False).run_case_npy(
                *(raw[None, None].astype(np.float32), None, properties),
                *(plans, configuration, dataset_json),
            )
            logits = predictor.predict_sliding_window_return_logits(torch.from_numpy(fed))
            return _levels(logits.float().cpu(), plans, configuration, dataset_json, properties)

    return predict


def _levels(
    logits: torch.Tensor, plans: Any, configuration: Any, dataset_json: Any, properties: Any
) -> np.ndarray:
    """Probabilities of the structure where the section was, from logits where it was cropped."""
    from nnunetv2.inference.export_prediction import (
        convert_predicted_logits_to_segmentation_with_correct_shape,
    )

    _, probabilities = convert_predicted_logits_to_segmentation_with_correct_shape(
        *(logits, plans, configuration, plans.get_label_manager(dataset_json), properties),
        return_probabilities=True,
        num_threads_torch=torch.get_num_threads(),
    )
    foreground: np.ndarray = probabilities[STRUCTURE_LABEL, 0]
    return np.round(_WHITE * foreground.clip(0, 1)).astype(np.uint8)
