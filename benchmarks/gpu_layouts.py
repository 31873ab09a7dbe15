"""The U-Net in every layout, norm and engine that a GPU is asked about, and how a call is timed."""

import statistics
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from measuring import count_operations

from bench.inference.device import CHANNELS_LAST, CONTIGUOUS, Compute
from bench.models.unet2d import InstanceNorm, build_unet2d, replace_modules
from bench.training.loop import LoopSettings, make_trainee, train_batch
from bench.training.objectives import make_loss, supervised
from bench.training.patches import PatchSettings

WARM_UP, RUNS, MOST_CALLS = 3, 3, 200
# Steps on one batch, after which losses are compared.
COMPARED_STEPS = 10
GRAPH, COMPILED, TIMED_KERNELS = "CUDA graph", "torch.compile", "cudnn.benchmark"
LOOP = LoopSettings(10**6, 10**6, 10**6, 1e-4, "plateau", 0.5, 5, "adam")


class PlainNorm(torch.nn.InstanceNorm2d):
    """The norm as its formula, for a compiler that makes kernels of it in any layout."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalises every channel of every image (batch, channels, y, x) by itself."""
        exact = input.float()
        variance, mean = torch.var_mean(exact, (2, 3), correction=0, keepdim=True)
        return ((exact - mean) * torch.rsqrt(variance + self.eps)).to(input.dtype)


@dataclass(frozen=True)
class Way:
    """How the network is run; the engine is empty where torch runs it as it is."""

    layout: str
    norm: type[torch.nn.InstanceNorm2d]
    engine: str = ""


# InstanceNorm is torch's own where what it is given is contiguous. The last two compile for a
# minute or more.
WAYS = {
    CONTIGUOUS: Way(CONTIGUOUS, InstanceNorm),
    f"{CHANNELS_LAST}, torch's norm": Way(CHANNELS_LAST, torch.nn.InstanceNorm2d),
    f"{CHANNELS_LAST}, our norm": Way(CHANNELS_LAST, InstanceNorm),
    f"{CONTIGUOUS}, {TIMED_KERNELS}": Way(CONTIGUOUS, InstanceNorm, TIMED_KERNELS),
    f"{CHANNELS_LAST}, our norm, {TIMED_KERNELS}": Way(CHANNELS_LAST, InstanceNorm, TIMED_KERNELS),
    f"{CONTIGUOUS}, {GRAPH}": Way(CONTIGUOUS, InstanceNorm, GRAPH),
    f"{CHANNELS_LAST}, our norm, {GRAPH}": Way(CHANNELS_LAST, InstanceNorm, GRAPH),
    f"{CONTIGUOUS}, {COMPILED}": Way(CONTIGUOUS, InstanceNorm, COMPILED),
    f"{CHANNELS_LAST}, norm as a formula, {COMPILED}": Way(CHANNELS_LAST, PlainNorm, COMPILED),
}


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes:
        features: Of the U-Net's first level.
        depth: Its poolings.
        batch: Patches in a batch of training.
        patch_px: Edge of a patch.
        tile_px: Edge of a tile in inference.
        halo_px: Its halo.
        tiles: Tiles at a time where layouts are compared.
        side_px: Edge of the section that is predicted whole.
        section: Shape (y, x) of those that patches are drawn from.
        steps: Iterations that the feed is timed over.
        seconds: Seconds that a single measurement is given for its calls.
    """

    features: int
    depth: int
    batch: int
    patch_px: int
    tile_px: int
    halo_px: int
    tiles: int
    side_px: int
    section: tuple[int, int]
    steps: int
    seconds: float


class ReadyBatch:
    """A feed of one batch that is already on the device."""

    def __init__(self, settings: PatchSettings, device: torch.device) -> None:
        self.settings = settings
        generator = torch.Generator().manual_seed(0)
        shape = (settings.batch_size, 1, settings.patch_px, settings.patch_px)
        image = torch.randn(shape, generator=generator)
        self.pair = image.to(device), (image > 1).float().to(device)

    def batch(self, iteration: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The same at every iteration."""
        return self.pair


class Step:
    """A step of training, from weights that are the same for all ways."""

    def __init__(self, sizes: Sizes, way: Way, compute: Compute, feed) -> None:
        network = make_network(sizes, way)
        self.trainee = make_trainee(network, LOOP, compute)
        run = network.train()
        if way.engine == COMPILED:
            run = torch.compile(network)
        elif way.engine == GRAPH:
            image, _ = feed.batch(0)
            sample = image.contiguous(memory_format=compute.memory_format(network, 4))
            # Casts that autocast would keep are no part of a graph.
            with torch.autocast(
                compute.device.type, compute.dtype, compute.precision != "fp32", cache_enabled=False
            ):
                run = torch.cuda.make_graphed_callables(network, (sample,))
        loss = make_loss("focal_dice", gamma=2.0, foreground_weight=1.0)
        self.objective = supervised(run, feed, loss, compute)
        self.done = 0

    def __call__(self) -> dict[str, float]:
        """Trains on the next batch; the numbers of ``train_batch``."""
        numbers = train_batch(self.trainee, self.objective, LOOP, self.done)
        self.done += 1
        return numbers


def make_network(sizes: Sizes, way: Way) -> torch.nn.Module:
    """The U-Net with a way's norm, from the same random weights every time."""
    torch.manual_seed(0)
    network = build_unet2d(
        in_channels=1, out_channels=1, depth=sizes.depth, features=sizes.features
    )
    replace_modules(network, InstanceNorm, lambda norm: way.norm(norm.num_features, eps=norm.eps))
    return network


@contextmanager
def prepared(way: Way, device: torch.device):
    """Refuses what a device has not; lets cudnn time its kernels where the way says so."""
    if way.engine and device.type != "cuda":
        raise RuntimeError(f"{way.engine} is measured on CUDA alone")
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = way.engine == TIMED_KERNELS
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
        if way.engine == COMPILED:
            torch.compiler.reset()


@torch.no_grad()
def time_inference(
    sizes: Sizes, way: Way, compute: Compute, rate: float | None
) -> tuple[float, str]:
    """Seconds of a batch of tiles, and what that is beside a lone convolution.

    Args:
        sizes: Of network and tiles.
        way: How.
        compute: Device and precision.
        rate: That convolution's floating-point operations per second, if they are known.
    """
    compute = replace(compute, layout=way.layout)
    network = make_network(sizes, way).eval()
    compute.place(network)
    edge = sizes.tile_px + 2 * sizes.halo_px
    tiles = torch.randn(sizes.tiles, 1, edge, edge, generator=torch.Generator().manual_seed(1))
    given = tiles.to(compute.device, memory_format=compute.memory_format(network, 4))
    with prepared(way, compute.device):
        published = make_network(sizes, Way(CONTIGUOUS, torch.nn.InstanceNorm2d)).eval()
        wanted = torch.sigmoid(published.to(compute.device)(tiles.to(compute.device)))
        call, found = _start(network, given, way, compute)
        seconds = time_call(call, compute.device, sizes.seconds)
        apart = (torch.sigmoid(found().float()) - wanted).abs().max().item()
    operations = count_operations(network, (edge, edge), compute.device) * sizes.tiles
    return seconds, (
        f"{sizes.tiles * edge**2 / seconds / 1e6:.3g} Mpx/s, "
        f"{tell_share(operations / seconds, rate)}; probabilities at most {apart:.1g} from those "
        "of fp32 with torch's norm"
    )


def tell_share(operations_per_s: float, rate: float | None) -> str:
    """A speed beside that of a lone convolution, in words."""
    found = f"{operations_per_s / 1e12:.3g} TFLOP/s"
    if rate is None:
        return f"{found}, that of a lone convolution is not known"
    return f"{found}, {operations_per_s / rate:.0%} of a lone convolution's"


def _start(
    network: torch.nn.Module, given: torch.Tensor, way: Way, compute: Compute
) -> tuple[Callable[[], object], Callable[[], torch.Tensor]]:
    """What runs the network once, and what gives its output."""
    run = torch.compile(network) if way.engine == COMPILED else network

    def call() -> torch.Tensor:
        with compute.autocast():
            return run(given)

    if way.engine != GRAPH:
        return call, call
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = call()
    return graph.replay, lambda: output


def time_training(sizes: Sizes, way: Way, compute: Compute, drawing: PatchSettings):
    """Seconds of a step on a batch that is ready, and the loss after some."""
    compute = replace(compute, layout=way.layout)
    with prepared(way, compute.device):
        step = Step(sizes, way, compute, ReadyBatch(drawing, compute.device))
        losses = [step()["loss"] for _ in range(COMPARED_STEPS)]
        seconds = time_call(step, compute.device, sizes.seconds)
    return seconds, (
        f"{sizes.batch / seconds:.4g} patches/s; loss {losses[0]:.4f}, after {COMPARED_STEPS - 1} "
        f"steps {losses[-1]:.4f}"
    )


def time_call(call: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Median seconds of a call; the device is waited for after as many as fill the time."""
    for _ in range(WARM_UP):
        call()
    once = _time_calls(call, 1, device)
    calls = max(1, min(MOST_CALLS, round(seconds / RUNS / once)))
    return statistics.median(_time_calls(call, calls, device) for _ in range(RUNS))


def _time_calls(call: Callable[[], object], calls: int, device: torch.device) -> float:
    wait_for(device)
    started = time.perf_counter()
    for _ in range(calls):
        call()
    wait_for(device)
    return (time.perf_counter() - started) / calls


def wait_for(device: torch.device) -> None:
    """Waits until a GPU is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def count_convolution(channels: int, edge: int) -> int:
    """Floating-point operations of the lone convolution, of 8 images."""
    return 2 * 9 * channels**2 * 8 * edge**2


@torch.no_grad()
def time_convolution(
    compute: Compute, channels: int, edge: int, seconds: float
) -> tuple[float, str]:
    """Seconds of a lone convolution of 8 images, in the better layout."""
    taken: dict[float, str] = {}
    for layout in (torch.contiguous_format, torch.channels_last):
        layer = torch.nn.Conv2d(channels, channels, 3, padding=1)
        layer = layer.to(compute.device, compute.dtype, memory_format=layout)
        image = torch.randn(8, channels, edge, edge, device=compute.device, dtype=compute.dtype)
        image = image.contiguous(memory_format=layout)
        once = time_call(lambda layer=layer, image=image: layer(image), compute.device, seconds)
        taken[once] = str(layout).removeprefix("torch.")
    best = min(taken)
    found = count_convolution(channels, edge) / best / 1e12
    return best, f"{found:.3g} TFLOP/s in {compute.precision}, {taken[best]}"
