"""Tiled inference of the U-Net on large images, beside torch_em's predict_with_halo in fp32.

Same weights, once with the same tile and halo and once with those that the suite chooses by Dice;
compares the labels of a trained model with the peer's, and the Dice of a section of known truth.
Last the network alone on one tile, by torch as ours, OpenVINO, also in eight bits, ONNX Runtime and
torch_em.

    PYTHONPATH=src python benchmarks/tiled_inference.py [--model M --dataset D] [--sides 2048,4096]
"""

import argparse
import io
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from measuring import Line, count_operations, report, time_in_turns
from torch_em.util.prediction import predict_with_halo
from trained_model import Subject, choose_subject, enlarge

from bench.errors import BenchError
from bench.inference.device import Compute, choose_compute
from bench.inference.engines import check_engine, open_network
from bench.inference.feeding import normalise_section
from bench.inference.tiles import predict_sections
from bench.metrics.overlap import count_pixels, dice_score
from bench.models.checkpoint import load_checkpoint
from bench.models.networks import GEOMETRIES
from bench.models.unet2d import build_torch_em_unet2d, without_own_kernels
from bench.steps.scoring.int8 import measure_limits
from bench.steps.training.choices import cheapest_first, pick_geometry
from bench.words import OPENVINO

PEER_TILE, PEER_HALO = 512, 128
PEER = "predict_with_halo, 512 + 128, fp32"
HALF = 128
OURS = "torch as ours"
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
    own = (info.tile_px, info.halo_px)
    offered = cheapest_first(GEOMETRIES, [(side, side)]) if subject.trained_here else (own,)
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
        reached = (
            tiles * count_operations(network, (edge, edge), compute.device) / seconds[name] / rate
        )
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


def measure_engines(subject: Subject, compute: Compute, repeats: int, rate: float) -> list[Line]:
    """One tile through the network by every engine that is installed; says which is not."""
    network, info = load_checkpoint(subject.model)
    network.to(compute.device, memory_format=torch.channels_last).eval()
    edge = info.tile_px + 2 * info.halo_px
    noise = np.random.default_rng(0).standard_normal((1, 1, edge, edge)).astype(np.float32)
    tile = torch.from_numpy(noise).to(compute.device, memory_format=torch.channels_last)

    def by_torch(module: torch.nn.Module) -> np.ndarray:
        with torch.inference_mode(), compute.autocast():
            return module(tile).float().cpu().numpy()

    peer = open_peer(subject).to(compute.device)
    ways = {OURS: lambda: by_torch(network), "torch_em, fp32": lambda: peer_logits(peer, tile)}
    try:
        check_engine(compute)
        converted = open_network(subject.model, replace(compute, engine=OPENVINO))
        ways[f"OpenVINO, {compute.precision}"] = lambda: by_torch(converted)
        chosen = measure_limits(compute, subject.model, [subject.image], None)
        in_bits = open_network(subject.model, chosen)
        ways["OpenVINO, int8"] = lambda: by_torch(in_bits)
    except BenchError as error:
        print(f"OpenVINO is skipped: {error}")
    try:
        ways["ONNX Runtime, fp32"] = open_onnx(network.cpu(), noise)
    except ImportError as error:
        print(f"ONNX Runtime is skipped: {error}")
    network.to(compute.device)
    seconds, found = time_in_turns(ways, repeats=repeats)
    limit = count_operations(network, (edge, edge), compute.device) / rate
    levels = {name: np.rint(255 / (1 + np.exp(-logits))) for name, logits in found.items()}
    return [
        Line(
            path=f"one tile through the network, {OURS}, {compute.precision}",
            size=f"{edge} x {edge}",
            ours_s=seconds[OURS],
            peer=name,
            peer_s=seconds[name],
            goal=None,
            agreement=f"{(levels[name] == levels[OURS]).mean():.3%} of levels equal, others by up "
            f"to {np.abs(levels[name] - levels[OURS]).max():.0f} of 255",
            limit=f"ours {limit / seconds[OURS]:.0%}, the peer {limit / seconds[name]:.0%} of "
            f"{rate / 1e9:.0f} GFLOP/s",
        )
        for name in ways
        if name != OURS
    ]


def peer_logits(peer: torch.nn.Module, tile: torch.Tensor) -> np.ndarray:
    """What torch_em's network says of a tile, before its Sigmoid."""
    with torch.inference_mode():
        return torch.logit(peer(tile)).cpu().numpy()


def open_onnx(network: torch.nn.Module, noise: np.ndarray) -> Callable[[], np.ndarray]:
    """The network in ONNX Runtime, with torch's number of threads."""
    import onnxruntime

    file = io.BytesIO()
    plain = without_own_kernels(network)
    torch.onnx.export(plain, (torch.from_numpy(noise),), file, input_names=["tile"], dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(file.getvalue(), options)
    return lambda: session.run(None, {"tile": noise})[0]


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
    lines += measure_engines(subject, compute, options.repeats, rate)
    report(__file__, lines)


if __name__ == "__main__":
    main()
