"""Tiled inference of the U-Net on large images, beside torch_em's predict_with_halo in fp32.

Same weights, once with the same tile and halo and once with those that the suite chooses by Dice;
compares the labels of a trained model with the peer's, and the Dice of a section of known truth.

    PYTHONPATH=src python benchmarks/tiled_inference.py [--model M --dataset D] [--sides 2048,4096]
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from measuring import Line, report, time_in_turns
from torch.utils.flop_counter import FlopCounterMode
from torch_em.util.prediction import predict_with_halo
from trained_model import Subject, choose_subject, enlarge

from bench.inference.device import Compute, choose_compute
from bench.inference.feeding import normalise_section
from bench.inference.tiles import predict_sections
from bench.metrics.overlap import count_pixels, dice_score
from bench.models.checkpoint import load_checkpoint
from bench.models.networks import GEOMETRIES
from bench.models.unet2d import build_torch_em_unet2d
from bench.steps.training.choices import pick_geometry

PEER_TILE, PEER_HALO = 512, 128
PEER = "predict_with_halo, 512 + 128, fp32"
HALF = 128
# A convolution as in the network's middle, by which the device's rate is measured.
RATE_CHANNELS, RATE_EDGE_PX = 128, 256


def open_peer(subject: Subject) -> torch.nn.Module:
    """torch_em's own network with the model's weights."""
    network, info = load_checkpoint(subject.model)
    arguments = info.arguments | {"activation": "Sigmoid"}
    peer = build_torch_em_unet2d(**arguments)
    peer.load_state_dict(network.state_dict())
    return peer.eval()


def predict_peer(peer: torch.nn.Module, image: np.ndarray, compute: Compute) -> np.ndarray:
    """The peer's probabilities of the foreground, of an image normalised as a whole."""
    return predict_with_halo(
        normalise_section(image),
        peer,
        gpu_ids=[str(compute.device)],
        block_shape=(PEER_TILE, PEER_TILE),
        halo=(PEER_HALO, PEER_HALO),
        preprocess=None,
        disable_tqdm=True,
    )[0]


def measure_rate(compute: Compute) -> float:
    """Floating-point operations per second of a convolution in the precision, the best of ten."""
    dtype, seconds = compute.dtype, []
    layer = torch.nn.Conv2d(RATE_CHANNELS, RATE_CHANNELS, 3, padding=1)
    layer = layer.to(compute.device, dtype, memory_format=torch.channels_last)
    image = torch.randn(1, RATE_CHANNELS, RATE_EDGE_PX, RATE_EDGE_PX)
    image = image.to(compute.device, dtype, memory_format=torch.channels_last)
    with torch.inference_mode():
        for _ in range(10):
            started = time.perf_counter()
            layer(image)[0, 0, 0, 0].item()
            seconds.append(time.perf_counter() - started)
    return 2 * 9 * RATE_CHANNELS**2 * RATE_EDGE_PX**2 / min(seconds)


def count_operations(network: torch.nn.Module, edge: int, compute: Compute) -> int:
    """Floating-point operations of a tile with its halo."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 1, edge, edge, device=compute.device))
    return counter.get_total_flops()


def measure_side(
    subject: Subject, compute: Compute, side: int, repeats: int, rate: float
) -> list[Line]:
    """Both geometries on an image of a side."""
    network, info = load_checkpoint(subject.model)
    network.to(compute.device, memory_format=torch.channels_last).eval()
    peer = open_peer(subject).to(compute.device)

    def predict(image: np.ndarray, tile_px: int, halo_px: int) -> np.ndarray:
        (probability,) = predict_sections(
            network, [image], tile_px=tile_px, halo_px=halo_px, compute=compute
        )
        return probability[0]

    # A model of one's own has its tile and halo; the phantom's are chosen as finetune does.
    offered = GEOMETRIES if subject.trained_here else ((info.tile_px, info.halo_px),)
    chosen = pick_geometry(offered, [dice_of(predict(subject.image, *g), subject) for g in offered])
    geometries = {"same tile and halo": (PEER_TILE, PEER_HALO), "chosen tile and halo": chosen}
    image = enlarge(subject.image, side)
    ways = {name: lambda place=place: predict(image, *place) for name, place in geometries.items()}
    predict(image[:PEER_TILE, :PEER_TILE], PEER_TILE, PEER_HALO)
    ways[PEER] = lambda: predict_peer(peer, image, compute)
    seconds, maps = time_in_turns(ways, repeats=repeats, warm_up=False)
    theirs = dice_of(predict_peer(peer, subject.image, compute) * 255, subject)
    lines = []
    for name, (tile, halo) in geometries.items():
        edge = tile + 2 * halo
        tiles = (-(-side // tile)) ** 2
        reached = tiles * count_operations(network, edge, compute) / seconds[name] / rate
        same = name.startswith("same")
        units = compute.precision != "fp32"
        agreement = (
            f"labels equal on {compare_labels(maps[name], maps[PEER]):.3%}"
            if same
            else f"Dice {dice_of(predict(subject.image, tile, halo), subject):.4f}, "
            f"the peer's {theirs:.4f}"
        )
        lines.append(
            Line(
                path=f"tiled inference, {name} ({tile} + {halo})",
                size=f"{side} x {side}",
                ours_s=seconds[name],
                peer=PEER,
                peer_s=seconds[PEER],
                goal=(2.2 if units else 1.2) if same else 4.0,
                agreement=agreement,
                limit=f"{reached:.0%} of {rate / 1e9:.0f} GFLOP/s, the rate of a "
                f"{compute.precision} convolution",
            )
        )
    return lines


def compare_labels(levels: np.ndarray, probability: np.ndarray) -> float:
    """Share of pixels with the same label; tiles at the border see other mirrored pixels."""
    inside = slice(PEER_TILE, -PEER_TILE)
    ours, theirs = levels[inside, inside] >= HALF, probability[inside, inside] >= HALF / 255
    return float((ours == theirs).mean())


def dice_of(levels: np.ndarray, subject: Subject) -> float:
    """Dice at one half."""
    return dice_score(count_pixels(truth=subject.truth != 0, prediction=levels >= HALF))


def main() -> None:
    """Measures all sides; the largest once, as the peer takes minutes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--dataset", type=Path, help="a prepared dataset to judge the model by")
    parser.add_argument("--work", type=Path, default=Path("data/bench_inference"))
    parser.add_argument("--sides", default="2048,4096")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    compute = choose_compute(options.device, "auto")
    subject = choose_subject(options.work, compute, options.model, options.dataset)
    # Of a machine that may be busy now, the best of several moments.
    rate = max(measure_rate(compute) for _ in range(5))
    lines = []
    for side in map(int, options.sides.split(",")):
        repeats = options.repeats if side <= 2048 else 1
        lines += measure_side(subject, compute, side, repeats, rate)
    report(__file__, lines)


if __name__ == "__main__":
    main()
