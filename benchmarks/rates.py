"""Which learning rate for how many iterations: the trials behind ``minutes``.

Trains U-Nets from random weights on the training sections of a prepared dataset, all but the last
quarter, and scores Dice on that quarter: sections that no table is about. Its validation and test
sections are not read. Rates fall to zero along a cosine, as with ``minutes``.

    PYTHONPATH=src python benchmarks/rates.py --dataset data/prepared --structure membrane
"""

import argparse
import itertools
import json
import time

import numpy as np
import torch
from measuring import HERE, describe_machine

from bench.dataset.prepared import PreparedDataset
from bench.inference.device import choose_compute
from bench.inference.prediction import predict_all_at_model_scale
from bench.metrics.overlap import PixelCounts, count_pixels, dice_score
from bench.models.checkpoint import ModelInfo, build_model
from bench.training.augment import Augmentation
from bench.training.loop import LoopSettings, make_trainee, train_batch
from bench.training.objectives import make_loss, supervised
from bench.training.patches import PatchFeed, PatchSettings

ARGUMENTS = {"in_channels": 1, "out_channels": 1, "depth": 4, "features": 32}
RATES = {"adam": (3e-4, 1e-3, 3e-3), "sgd": (1e-2, 3e-2, 1e-1)}
BATCH, PATCH_PX = 4, 128


def train_and_score(sections, held_out, *, optimiser, lr, iterations, seed, compute) -> float:
    """Dice on the sections that are held out, after a training of so many iterations."""
    torch.manual_seed(seed)
    network = build_model("unet2d", ARGUMENTS)
    settings = LoopSettings(iterations, iterations, iterations, lr, "cosine", 0.5, 5, optimiser)
    trainee = make_trainee(network, settings, compute)
    drawing = PatchSettings(PATCH_PX, BATCH, 0.5, Augmentation(True, True, 4.0, 0.1), seed=seed)
    feed = PatchFeed(sections, drawing, compute.device)
    loss = make_loss("dice", gamma=2.0, foreground_weight=1.0)
    objective = supervised(network, feed, loss, compute)
    for iteration in range(iterations):
        train_batch(trainee, objective, settings, iteration)
    info = ModelInfo("unet2d", ARGUMENTS, ("foreground",), "", None, "section", 512, 64)
    maps = predict_all_at_model_scale(
        network, [raw for raw, _ in held_out], info=info, pixel_size_nm=None, compute=compute
    )
    counts = PixelCounts(0, 0, 0, 0)
    for (_, truth), channels in zip(held_out, maps, strict=True):
        counts += count_pixels(truth=truth, prediction=channels[0] >= 128)
    return dice_score(counts)


def main() -> None:
    """Runs all trials and adds their table to rates.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--structure", required=True)
    parser.add_argument("--iterations", default="50,200,800")
    parser.add_argument("--optimiser", default="adam", choices=list(RATES))
    parser.add_argument("--seeds", default="0")
    options = parser.parse_args()
    dataset = PreparedDataset.open(options.dataset)
    names = dataset.sections("train")
    read = [
        (np.asarray(dataset.read_raw(n)), np.asarray(dataset.read_labels(n, options.structure)))
        for n in names
    ]
    kept = len(read) - max(1, len(read) // 4)
    file = HERE / "rates.json"
    trials = json.loads(file.read_text())["trials"] if file.exists() else []
    compute = choose_compute("auto", "auto")
    counts, seeds = (map(int, text.split(",")) for text in (options.iterations, options.seeds))
    for iterations, lr, seed in itertools.product(counts, RATES[options.optimiser], seeds):
        tried = {"optimiser": options.optimiser, "iterations": iterations, "lr": lr, "seed": seed}
        begun = time.process_time()
        dice = train_and_score(read[:kept], read[kept:], **tried, compute=compute)
        trials.append(
            {"data": dataset.root.name, "structure": options.structure, **tried}
            | {"dice": round(dice, 4), "cpu_s": round(time.process_time() - begun, 1)}
        )
        print(trials[-1], flush=True)
        text = json.dumps({"machine": describe_machine(), "trials": trials}, indent=1)
        file.write_text(text + "\n")


if __name__ == "__main__":
    main()
