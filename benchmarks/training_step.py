"""A step of training: ours beside torch_em's default trainer, on batches that are ready.

The same network from the same weights (U-Net, 32 features, depth 4), the same batches, Dice loss;
each in the precision it chooses itself, so fp32 in torch_em on a CPU. Validation, files and the
feed are timed on neither side. Agreement: both are trained on a fixed cycle of batches, and their
losses compared step by step.

    PYTHONPATH=src python benchmarks/training_step.py [--dataset FOLDER --structure NAME]
"""

import contextlib
import io
import tempfile
import time

import numpy as np
import torch
import torch_em
from measuring import Line, report, time_in_turns
from torch_em.model import UNet2d
from training_feed import AUGMENTATION, BATCH, CPU
from training_sections import parse_options, read_sections

from bench.inference.device import choose_compute
from bench.models.unet2d import build_unet2d
from bench.training.loop import LoopSettings, make_trainee, train_batch
from bench.training.objectives import dice_loss, supervised
from bench.training.patches import PatchFeed, PatchSettings

EDGES = (128, 256)
FEATURES, DEPTH, LR = 32, 4, 1e-4
# Steps compared, at the smaller edge.
COMPARED, CYCLE = 15, 3


class ReadyBatches:
    """Batches drawn before, as our feed and as torch_em's loader."""

    def __init__(self, sections, patch_px: int, count: int) -> None:
        self.settings = PatchSettings(patch_px, BATCH, 0.5, AUGMENTATION, seed=0)
        feed = PatchFeed(sections, self.settings, CPU)
        self.batches = [feed.batch(iteration) for iteration in range(count)]

    def batch(self, iteration: int):
        """The batch of an iteration."""
        return self.batches[iteration % len(self.batches)]

    def loader(self):
        """The same as torch's loader, in order."""
        return torch.utils.data.DataLoader(self.batches, batch_size=None)


class Ours:
    """Our step, from weights that a torch_em network starts with."""

    def __init__(self, ready: ReadyBatches, weights) -> None:
        self.settings = LoopSettings(10**6, 10**6, 10**6, LR, "plateau", 0.5, 5, "adamw")
        self.compute = choose_compute("cpu", "auto")
        network = build_unet2d(in_channels=1, out_channels=1, depth=DEPTH, features=FEATURES)
        network.load_state_dict(weights)
        # The peer's optimiser, so that losses can be compared.
        self.trainee = make_trainee(network, self.settings, self.compute)
        self.objective = supervised(network, ready, dice_loss, self.compute)
        self.iteration = 0

    def step(self) -> float:
        """Trains on the next batch; returns the loss before."""
        numbers = train_batch(self.trainee, self.objective, self.settings, self.iteration)
        self.iteration += 1
        return numbers["loss"]


class Peer:
    """The steps of torch_em's trainer, without the validation and the files of its epochs."""

    def __init__(self, ready: ReadyBatches, weights, folder: str) -> None:
        network = UNet2d(1, 1, depth=DEPTH, initial_features=FEATURES, final_activation="Sigmoid")
        network.load_state_dict(weights)
        self.trainer = torch_em.default_segmentation_trainer(
            "peer",
            network,
            ready.loader(),
            ready.loader(),
            learning_rate=LR,
            device="cpu",
            logger=None,
            compile_model=False,
            save_root=folder,
        )
        self.losses: list[float] = []
        with contextlib.redirect_stdout(io.StringIO()):
            self.trainer._initialize(10**6, None)
        loss = self.trainer.loss
        self.trainer.loss = lambda found, wanted: self.keep(loss(found, wanted))

    def keep(self, value: torch.Tensor) -> torch.Tensor:
        """Keeps a loss on its way."""
        self.losses.append(float(value.detach()))
        return value

    def epoch(self) -> list[float]:
        """Trains on all batches once; returns the losses before each."""
        self.losses.clear()
        self.trainer._train_epoch(Silent())
        return list(self.losses)


class Silent:
    """A progress bar that shows nothing."""

    def update(self, count: int) -> None:
        """Shows nothing."""


def start_weights():
    """The weights that both start from."""
    torch.manual_seed(0)
    return UNet2d(1, 1, depth=DEPTH, initial_features=FEATURES).state_dict()


def compare_losses(sections, folder: str) -> str:
    """Trains both on the same cycle of batches, and tells how the losses fall."""
    ready = ReadyBatches(sections, EDGES[0], CYCLE)
    ours, peer = Ours(ready, start_weights()), Peer(ready, start_weights(), folder)
    found = np.array([ours.step() for _ in range(COMPARED)])
    wanted = np.concatenate([peer.epoch() for _ in range(COMPARED // CYCLE)])
    last = slice(-CYCLE, None)
    return (
        f"{COMPARED} steps on {CYCLE} batches of {EDGES[0]} px from the same weights, Dice loss "
        f"ours/peer: first {found[0]:.4f}/{wanted[0]:.4f}, mean of the last {CYCLE} "
        f"{found[last].mean():.4f}/{wanted[last].mean():.4f}, apart by at most "
        f"{np.abs(found - wanted).max():.4f}"
    )


def time_products(precision: str) -> float:
    """Floating-point operations per second of a convolution of the network's middle."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    channels, edge = 4 * FEATURES, 64
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1)
    layer = layer.to(dtype=dtype, memory_format=torch.channels_last)
    image = torch.rand(BATCH, channels, edge, edge, dtype=dtype)
    image = image.contiguous(memory_format=torch.channels_last)
    seconds = []
    with torch.no_grad():
        for _ in range(12):
            started = time.perf_counter()
            layer(image)
            seconds.append(time.perf_counter() - started)
    return 2 * 9 * channels**2 * BATCH * edge**2 / min(seconds)


def count_products(patch_px: int) -> float:
    """Floating-point operations of the convolutions of a step: forward, and twice that back."""
    network = build_unet2d(in_channels=1, out_channels=1, depth=DEPTH, features=FEATURES)
    counts: list[float] = []

    def count(layer, _, output) -> None:
        products = np.prod(layer.weight.shape) / layer.out_channels
        counts.append(2 * products * output[:, :1].numel() * layer.out_channels)

    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, 1, 64, 64))
    return 3 * sum(counts) * BATCH * (patch_px / 64) ** 2


def measure(sections, patch_px: int, agreement: str, repeats: int, folder: str) -> Line:
    """Times a step of both."""
    ready = ReadyBatches(sections, patch_px, 1)
    ours, peer = Ours(ready, start_weights()), Peer(ready, start_weights(), folder)
    seconds, _ = time_in_turns({"ours": ours.step, "peer": peer.epoch}, repeats=repeats)
    precision = ours.compute.precision
    reached, possible = count_products(patch_px) / seconds["ours"], time_products(precision)
    return Line(
        path="training step",
        size=f"batch of {BATCH} x {patch_px} px, U-Net of {FEATURES} features",
        ours_s=seconds["ours"],
        peer="torch_em default_segmentation_trainer",
        peer_s=seconds["peer"],
        goal=2.5,
        agreement=agreement,
        limit=f"convolutions in {precision}: {reached / 1e9:.0f} GFLOP/s, {reached / possible:.0%} "
        f"of a lone 128-channel convolution's {possible / 1e9:.0f}",
    )


def main() -> None:
    """Measures both edges."""
    options = parse_options(__doc__, repeats=3)
    sections = read_sections(options)
    with tempfile.TemporaryDirectory() as folder:
        agreement = compare_losses(sections, folder)
        lines = [measure(sections, px, agreement, options.repeats, folder) for px in EDGES]
    report(__file__, lines)


if __name__ == "__main__":
    main()
