"""What each ingredient of best_practice brings: the trials behind its row and behind ``minutes``.

Trains networks from random weights on the training sections of a prepared dataset, each for so many
CPU seconds of one thread, so that other work on the machine changes little, and scores them on its
validation sections. The test sections are not read. A variant differs from the row in one thing.

    PYTHONPATH=src python benchmarks/ingredients.py --dataset data/prepared --structure membrane \
        --seconds 60 --variants all --seeds 0,1
"""

import argparse
import dataclasses
import itertools
import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from measuring import HERE, describe_machine

from bench.core.files import locked, write_json
from bench.dataset.prepared import PreparedDataset
from bench.inference.device import Compute, choose_compute
from bench.inference.prediction import predict_all_at_model_scale
from bench.metrics.instances import Matching, instance_f1, match_instances
from bench.metrics.overlap import PixelCounts, count_pixels, dice_score
from bench.models.checkpoint import ModelInfo, build_model
from bench.postprocess.instances import clean_mask
from bench.postprocess.segmentation import settings_from_annotations
from bench.training.augment import Augmentation
from bench.training.loop import LoopSettings, make_trainee, train_batch
from bench.training.objectives import make_loss, supervised
from bench.training.patches import PatchFeed, PatchSettings

FILE = HERE / "ingredients.json"
# What the schedule of the rate is counted in: shares of the time.
STEPS = 10**6
AUGMENTATION = Augmentation(rotate=True, flip=True, elastic_px=4.0, noise=0.1)


@dataclass(frozen=True)
class Recipe:
    """A training: the row's, or with one thing changed."""

    architecture: str = "unet_residual"
    arguments: tuple[tuple[str, Any], ...] = (
        *(("features", (64, 128, 256)), ("stride", 4), ("detail", 8)),
    )
    outputs: tuple[str, ...] = ("foreground",)
    loss: str = "bce_dice"
    gamma: float = 2.0
    schedule: str = "cosine"
    optimiser: str = "adamw"
    lr: float = 2e-3
    batch: int = 8
    patch_px: int = 128
    augmentation: Augmentation = AUGMENTATION


def _with(arguments: dict[str, Any]) -> Recipe:
    return dataclasses.replace(ROW, arguments=tuple((dict(ROW.arguments) | arguments).items()))


def _augmented(**changed: Any) -> Recipe:
    augmentation = dataclasses.replace(AUGMENTATION, **changed)
    return dataclasses.replace(ROW, augmentation=augmentation)


ROW = Recipe()
UNET = (("depth", 4), ("features", 32))
VARIANTS: dict[str, Recipe] = {
    "best_practice": ROW,
    "boundary, too": dataclasses.replace(ROW, outputs=("foreground", "boundary")),
    "Dice loss": dataclasses.replace(ROW, loss="dice"),
    "focal-Dice loss": dataclasses.replace(ROW, loss="focal_dice"),
    "cross-entropy and Dice of squares": dataclasses.replace(ROW, loss="focal_dice", gamma=0.0),
    "one cycle": dataclasses.replace(ROW, schedule="onecycle"),
    "rate 1e-3": dataclasses.replace(ROW, lr=1e-3),
    "rate 4e-3": dataclasses.replace(ROW, lr=4e-3),
    "batch of 4": dataclasses.replace(ROW, batch=4),
    "patches of 256 px": dataclasses.replace(ROW, batch=2, patch_px=256),
    "stride 2": _with({"features": (32, 64, 128, 256), "stride": 2}),
    "half of the features": _with({"features": (32, 64, 128)}),
    "twice the detail": _with({"detail": 16}),
    "four levels": _with({"features": (64, 128, 256, 256)}),
    "no elastic deformation": _augmented(elastic_px=0.0),
    "no noise": _augmented(noise=0.0),
    "U-Net, Adam 1e-3, Dice": Recipe(
        "unet2d", UNET, ("foreground",), "dice", optimiser="adam", lr=1e-3, batch=4
    ),
}


def train(recipe: Recipe, sections: list, *, seconds: float, seed: int, compute: Compute) -> Any:
    """Trains for so many CPU seconds; returns the network, what it is, and its iterations."""
    torch.manual_seed(seed)
    arguments = dict(recipe.arguments) | {"in_channels": 1, "out_channels": len(recipe.outputs)}
    network = build_model(recipe.architecture, arguments)
    settings = LoopSettings(
        STEPS, STEPS, STEPS, recipe.lr, recipe.schedule, 0.5, 5, recipe.optimiser
    )
    trainee = make_trainee(network, settings, compute)
    drawing = PatchSettings(recipe.patch_px, recipe.batch, 0.5, recipe.augmentation, seed=seed)
    feed = PatchFeed(sections, drawing, compute.device, recipe.outputs)
    loss = make_loss(recipe.loss, gamma=recipe.gamma, foreground_weight=1.0)
    objective = supervised(network, feed, loss, compute)
    iteration, begun = 0, time.process_time()
    while (share := (time.process_time() - begun) / seconds) < 1:
        train_batch(trainee, objective, settings, iteration, share * STEPS)
        iteration += 1
    info = ModelInfo(
        *(recipe.architecture, arguments, recipe.outputs, "", None, "section", 512, 64)
    )
    return network, info, iteration


def score(network: Any, info: ModelInfo, held_out: list, area_px: int, compute: Compute) -> Any:
    """Dice of all pixels and F1 of instances at a probability of one half."""
    maps = predict_all_at_model_scale(
        network, [raw for raw, _ in held_out], info=info, pixel_size_nm=None, compute=compute
    )
    counts, matching = PixelCounts(), Matching()
    for (_, truth), channels in zip(held_out, maps, strict=True):
        found = clean_mask(channels[0] >= 128, opening_radius_px=0, min_area_px=area_px)
        counts += count_pixels(truth=truth, prediction=channels[0] >= 128)
        matching += match_instances(truth=truth, prediction=found.labels)
    return dice_score(counts), instance_f1(matching)


def main() -> None:
    """Runs the trials and adds them to ingredients.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--structure", required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--variants", default="all", help="names, separated by semicolons, or all")
    parser.add_argument("--seeds", default="0")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset, structure = PreparedDataset.open(options.dataset), options.structure
    read = {
        split: [
            (np.asarray(dataset.read_raw(n)), np.asarray(dataset.read_labels(n, structure)))
            for n in dataset.sections(split)
        ]
        for split in ("train", "val")
    }
    cleaning = settings_from_annotations(
        (labels for _, labels in read["train"]), pixel_size_nm=dataset.pixel_size_nm
    )
    compute = choose_compute("cpu", "auto")
    names = list(VARIANTS) if options.variants == "all" else options.variants.split(";")
    for seed, name in itertools.product(map(int, options.seeds.split(",")), names):
        network, info, iterations = train(
            VARIANTS[name], read["train"], seconds=options.seconds, seed=seed, compute=compute
        )
        dice, f1 = score(network, info, read["val"], cleaning.min_area_px, compute)
        trial = {"data": dataset.root.name, "structure": structure, "cpu_s": options.seconds}
        trial |= {"variant": name, "seed": seed, "iterations": iterations}
        trial |= {"dice": round(dice, 4), "instance_f1": round(f1, 4)}
        print(trial, flush=True)
        # Several processes may try at once.
        with locked(FILE.with_suffix(".lock")):
            trials = json.loads(FILE.read_text())["trials"] if FILE.exists() else []
            write_json(FILE, {"machine": describe_machine(), "trials": [*trials, trial]})


if __name__ == "__main__":
    main()
