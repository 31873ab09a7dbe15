"""The 3D U-Net on a volume, beside torch_em's predict_with_halo in fp32.

The peer has the same weights, and blocks and halo as CryoVesNet's are published (64 and 20, of
which a block computes 104 ** 3 voxels). Ours is given whole planes one after the other: in a U-Net
with BatchNorm no voxel depends on the window that it is computed in.

    PYTHONPATH=src python benchmarks/volume_inference.py [--model M] [--side 256]
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from measuring import Line, report, time_in_turns
from scipy.ndimage import gaussian_filter
from tiled_inference import measure_rate
from torch.utils.flop_counter import FlopCounterMode
from torch_em.util.prediction import predict_with_halo

from bench.inference.device import Compute, choose_compute
from bench.inference.volumes import predict_volume
from bench.models.checkpoint import ModelInfo, build_model, load_checkpoint

ARGUMENTS = {"in_channels": 1, "out_channels": 1, "depth": 2, "features": 16}
INFO = ModelInfo(
    *("unet3d", ARGUMENTS, ("foreground",), "vesicles", None, "volume", 64, 20),
    **{"tile_planes": 64, "halo_planes": 20},
)
# Voxels at the border, where the peer sees mirrored ones and ours sees zeros, are not compared.
BORDER = 24


class Peer(torch.nn.Module):
    """The network as torch_em takes one: with its Sigmoid."""

    out_channels = 1

    def __init__(self, network: torch.nn.Module) -> None:
        """Wraps a network."""
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Probabilities of the foreground."""
        return torch.sigmoid(self.network(image))


def make_network() -> torch.nn.Module:
    """Random weights whose BatchNorms have seen something, and whose output is not flat."""
    torch.manual_seed(0)
    network = build_model(INFO.architecture, INFO.arguments)
    with torch.no_grad():
        for _ in range(4):
            network.train()(torch.randn(4, 1, 32, 32, 32))
        network.out.weight.mul_(10)
    return network.eval()


def predict_ours(
    network: torch.nn.Module, info: ModelInfo, volume: np.ndarray, compute: Compute
) -> np.ndarray:
    """Levels of a volume."""
    levels = np.empty(volume.shape, np.uint8)

    def write(start: int, planes: np.ndarray) -> None:
        levels[start : start + len(planes)] = planes

    predict_volume(
        *(network, info, compute),
        read_planes=lambda start, stop: volume[start:stop],
        shape=volume.shape,
        voxel_size_nm=None,
        write_planes=write,
    )
    return levels


def predict_peer(
    peer: torch.nn.Module, info: ModelInfo, volume: np.ndarray, compute: Compute
) -> np.ndarray:
    """The peer's probabilities of the same volume, smoothed and normalised as a whole."""
    smoothed = volume.astype(np.float32)
    if deviation := info.inference.get("smoothing_px"):
        smoothed = gaussian_filter(smoothed, deviation, mode="mirror")
    return predict_with_halo(
        (smoothed - smoothed.mean()) / smoothed.std(),
        peer,
        gpu_ids=[str(compute.device)],
        block_shape=(info.tile_px,) * 3,
        halo=(info.halo_px,) * 3,
        preprocess=None,
        disable_tqdm=True,
    )[0]


def count_operations(network: torch.nn.Module) -> float:
    """Floating-point operations of a voxel."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network.cpu()(torch.zeros(1, 1, 8, 8, 8))
    return counter.get_total_flops() / 8**3


def main() -> None:
    """Measures one volume, once unless told otherwise: the peer takes a minute on two cores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a checkpoint; random weights if not given")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    compute = choose_compute(options.device, "auto")
    network, info = load_checkpoint(options.model) if options.model else (make_network(), INFO)
    operations = count_operations(network.eval())
    peer = Peer(network).to(compute.device).eval()
    noise = np.random.default_rng(0).normal(size=(options.side,) * 3).astype(np.float32)
    volume = (1000 + 500 * gaussian_filter(noise, 1.5)).astype(np.int16)
    # What is compiled or chosen at the first call is not timed, of either.
    predict_ours(network, info, volume[:32], compute)
    name = f"predict_with_halo, {info.tile_px} + {info.halo_px}, fp32"
    ways = {
        "ours": lambda: predict_ours(network, info, volume, compute),
        name: lambda: predict_peer(peer, info, volume, compute),
    }
    seconds, maps = time_in_turns(ways, repeats=options.repeats, warm_up=False)
    rate = max(measure_rate(compute) for _ in range(5))
    inside = (slice(BORDER, -BORDER),) * 3
    ours, theirs = maps["ours"][inside] / 255, maps[name][inside]
    reached = operations * volume.size / seconds["ours"] / rate
    line = Line(
        path="volume inference, U-Net of 16 features",
        size=" x ".join([str(options.side)] * 3),
        ours_s=seconds["ours"],
        peer=name,
        peer_s=seconds[name],
        goal=2.2,
        agreement=f"labels equal on {np.mean((ours >= 0.5) == (theirs >= 0.5)):.3%}, mean "
        f"difference {np.abs(ours - theirs).mean():.4f} of a deviation of {theirs.std():.3f}",
        limit=f"{reached:.0%} of {rate / 1e9:.0f} GFLOP/s, the rate of a 128-channel "
        f"{compute.precision} convolution",
    )
    report(__file__, [line])


if __name__ == "__main__":
    main()
