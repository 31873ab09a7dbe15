"""The 3D U-Net on a volume, beside torch_em's predict_with_halo in fp32.

The peer has the same weights, and blocks and halo as CryoVesNet's are published (64 and 20, of
which a block computes 104 ** 3 voxels, at the border as well). Ours is given whole planes one after
the other: in a U-Net with BatchNorm no voxel depends on the window that it is computed in. Of the
peer's blocks a sample is measured, times their number; normalising for it is not timed.

    PYTHONPATH=src python benchmarks/volume_inference.py [--model M] [--side 256] [--blocks 8]
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from measuring import Line, count_operations, report, time_in_turns
from scipy.ndimage import gaussian_filter
from tiled_inference import measure_rate
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
    """Random weights whose BatchNorms have seen noise, and of which half the logits are over 0."""
    torch.manual_seed(0)
    network = build_model(INFO.architecture, INFO.arguments)
    noise = gaussian_filter(np.random.default_rng(1).normal(size=(4, 1, 16, 16, 16)), 1.5)
    image = torch.from_numpy(noise / noise.std()).float()
    with torch.no_grad():
        for _ in range(20):
            network.train()(image)
        logits = network.eval()(image)
        network.out.weight.mul_(2 / logits.std())
        network.out.bias.sub_(logits.mean()).mul_(2 / logits.std())
    return network


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


def normalise(info: ModelInfo, volume: np.ndarray) -> np.ndarray:
    """The volume as the peer is given it: smoothed and normalised as a whole."""
    smoothed = volume.astype(np.float32)
    if deviation := info.inference.get("smoothing_px"):
        smoothed = gaussian_filter(smoothed, deviation, mode="mirror")
    return (smoothed - smoothed.mean()) / smoothed.std()


def predict_peer(
    peer: torch.nn.Module,
    info: ModelInfo,
    volume: np.ndarray,
    compute: Compute,
    blocks: Sequence[int],
) -> np.ndarray:
    """The peer's probabilities in some blocks of a normalised volume, 0 in the others."""
    return predict_with_halo(
        volume,
        peer,
        gpu_ids=[str(compute.device)],
        block_shape=(info.tile_px,) * 3,
        halo=(info.halo_px,) * 3,
        preprocess=None,
        disable_tqdm=True,
        iter_list=list(blocks),
    )[0]


def list_blocks(side: int, edge: int) -> list[tuple[slice, slice, slice]]:
    """The peer's blocks in its order."""
    along = [slice(start, min(start + edge, side)) for start in range(0, side, edge)]
    return list(itertools.product(along, repeat=3))


def cut_inside(
    levels: np.ndarray, blocks: Sequence[tuple[slice, slice, slice]]
) -> Iterator[np.ndarray]:
    """What blocks hold of the voxels that are compared."""
    side = len(levels)
    for block in blocks:
        yield levels[
            tuple(slice(max(s.start, BORDER), min(s.stop, side - BORDER)) for s in block)
        ].reshape(-1)


def main() -> None:
    """Measures one volume, once unless told otherwise: the peer takes a minute on two cores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a checkpoint; random weights if not given")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--blocks", type=int, default=8, help="of the peer's that are measured")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    compute = choose_compute(options.device, "auto")
    network, info = load_checkpoint(options.model) if options.model else (make_network(), INFO)
    # Of a voxel.
    operations = count_operations(network.eval(), (8, 8, 8), torch.device("cpu")) / 8**3
    peer = Peer(network).to(compute.device).eval()
    noise = np.random.default_rng(0).normal(size=(options.side,) * 3).astype(np.float32)
    volume = (1000 + 500 * gaussian_filter(noise, 1.5)).astype(np.int16)
    places = list_blocks(options.side, info.tile_px)
    count = min(options.blocks, len(places))
    sample = np.sort(np.random.default_rng(0).choice(len(places), count, replace=False)).tolist()
    normalised = normalise(info, volume)
    # What is compiled or chosen at the first call is not timed, of either.
    predict_ours(network, info, volume[:32], compute)
    predict_peer(peer, info, normalised, compute, sample[:1])
    name = f"predict_with_halo, {info.tile_px} + {info.halo_px}, fp32"
    if count < len(places):
        name += f", {count} of {len(places)} blocks x {len(places) / count:g}"
    ways = {
        "ours": lambda: predict_ours(network, info, volume, compute),
        name: lambda: predict_peer(peer, info, normalised, compute, sample),
    }
    seconds, maps = time_in_turns(ways, repeats=options.repeats, warm_up=False)
    rate = max(measure_rate(compute) for _ in range(5))
    measured = [places[block] for block in sample]
    ours, theirs = (np.concatenate(list(cut_inside(maps[way], measured))) for way in ways)
    ours = ours / 255
    reached = operations * volume.size / seconds["ours"] / rate
    line = Line(
        path="volume inference, U-Net of 16 features",
        size=" x ".join([str(options.side)] * 3),
        ours_s=seconds["ours"],
        peer=name,
        peer_s=seconds[name] * len(places) / count,
        goal=2.2,
        agreement=f"labels equal on {np.mean((ours >= 0.5) == (theirs >= 0.5)):.3%}, mean "
        f"difference {np.abs(ours - theirs).mean():.4f} of a deviation of {theirs.std():.3f}",
        limit=f"{reached:.0%} of {rate / 1e9:.0f} GFLOP/s, the rate of a 128-channel "
        f"{compute.precision} convolution",
    )
    report(__file__, [line])


if __name__ == "__main__":
    main()
