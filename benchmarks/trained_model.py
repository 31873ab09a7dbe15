"""A small trained model and sections to judge it by, for the measurements of inference.

Without a model of one's own: a U-Net of SynapseNet's size, trained for two minutes on a phantom.
It is kept in the work folder.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bench.dataset.prepared import PreparedDataset
from bench.inference.device import Compute
from bench.models.checkpoint import ModelInfo, build_model, load_info, save_checkpoint
from bench.phantom.region import make_region
from bench.training.augment import Augmentation
from bench.training.loop import LoopSettings, make_trainee, train_batch
from bench.training.objectives import make_loss, supervised
from bench.training.patches import PatchFeed, PatchSettings

STRUCTURE, SIZE_PX, PIXEL_NM = "membrane", 1024, 5.0
ARGUMENTS = {"in_channels": 1, "out_channels": 1, "depth": 4, "features": 32}
ITERATIONS, BATCH, PATCH_PX = 80, 4, 256


@dataclass(frozen=True, eq=False)
class Subject:
    """What is measured.

    Attributes:
        model: Checkpoint of ours.
        info: What it is.
        image: A section (y, x) that it has not seen.
        truth: Instance ids (y, x) of it.
        trained_here: Whether the model is the phantom's.
    """

    model: Path
    info: ModelInfo
    image: np.ndarray
    truth: np.ndarray
    trained_here: bool


def choose_subject(
    work: Path, compute: Compute, model: Path | None, dataset: Path | None
) -> Subject:
    """A model and a dataset's first validation section, or those of the phantom."""
    if model and dataset:
        prepared, info = PreparedDataset.open(str(dataset)), load_info(model)
        name = next(iter(prepared.sections("val")))
        truth = prepared.read_labels(name, info.structure)
        return Subject(model, info, prepared.read_raw(name), truth, False)
    region = make_region(
        shape=(3, SIZE_PX, SIZE_PX), pixel_size_nm=PIXEL_NM, domain="resin", seed=0
    )
    labels = region.labels[STRUCTURE]
    path = work / f"phantom_{STRUCTURE}.safetensors"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        train_model(path, [(region.raw[z], labels[z]) for z in (0, 1)], compute)
    return Subject(path, load_info(path), region.raw[2], labels[2], True)


def train_model(
    path: Path, sections: list[tuple[np.ndarray, np.ndarray]], compute: Compute
) -> None:
    """Trains from scratch, with the loss and the feed of ``finetune``."""
    torch.manual_seed(0)
    network = build_model("unet2d", ARGUMENTS)
    settings = LoopSettings(ITERATIONS, ITERATIONS, ITERATIONS, 1e-3, "cosine", 0.5, 5, "adam")
    trainee = make_trainee(network, settings, compute)
    drawing = PatchSettings(PATCH_PX, BATCH, 0.5, Augmentation(True, True, 0.0, 0.1), seed=0)
    feed = PatchFeed(sections, drawing, compute.device)
    loss = make_loss("focal_dice", gamma=2.0, foreground_weight=2.0)
    objective = supervised(network, feed, loss, compute)
    for iteration in range(ITERATIONS):
        train_batch(trainee, objective, settings, iteration)
    info = ModelInfo("unet2d", ARGUMENTS, ("foreground",), STRUCTURE, PIXEL_NM, "section", 384, 64)
    save_checkpoint(path, network, info)


def enlarge(image: np.ndarray, side: int) -> np.ndarray:
    """Mirrors or cuts an image (y, x) to a square of a side."""
    cut = image[:side, :side]
    while min(cut.shape) < side:
        missing = [(0, min(side - n, n)) for n in cut.shape]
        cut = np.pad(cut, missing, mode="symmetric")
    return np.ascontiguousarray(cut)
