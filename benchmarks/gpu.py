"""What a GPU makes of our U-Net: layouts, a whole section, training and its feed, a cell's time.

There is no peer. Each measurement stands alone: one that fails is a line with its reason. Weights
are random, which does not matter for the time.

    PYTHONPATH=src python benchmarks/gpu.py           # on a GPU, under 6 minutes; writes gpu.json
    PYTHONPATH=src python benchmarks/gpu.py --tiny    # anywhere, to see that it runs
"""

import argparse
import datetime
import gc
import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from gpu_layouts import (
    COMPILED,
    WAYS,
    ReadyBatch,
    Sizes,
    Step,
    Way,
    count_convolution,
    make_network,
    tell_share,
    time_convolution,
    time_inference,
    time_training,
    wait_for,
)
from measuring import HERE, count_operations, describe_machine, format_seconds
from training_sections import make_section

from bench.config.training import FinetuneConfig
from bench.errors import BenchError
from bench.inference.device import CHANNELS_LAST, CONTIGUOUS, Compute, choose_compute
from bench.inference.tiles import fit_batch, predict_sections
from bench.models.unet2d import InstanceNorm
from bench.training.ahead import Ahead
from bench.training.augment import Augmentation
from bench.training.patches import PatchFeed, PatchSettings

# SynapseNet's network; batch, patch, tile and halo that finetune and segment take by default.
FULL = Sizes(32, 4, 8, 256, 384, 64, 4, 7000, (1410, 1825), 100, 2.0)
TINY = Sizes(4, 2, 2, 32, 32, 8, 2, 100, (80, 96), 2, 0.0)
# Channels and edge (px) of the lone convolution.
RATE_FULL, RATE_TINY = (128, 256), (4, 16)
# Nothing is begun after so many seconds: compilation takes a minute and more.
LAST_START_S = 270
SECTIONS, WARM_UP_STEPS = 4, 10
AS_FINETUNE = "augmented on the device, a batch ahead (as finetune does)"


@dataclass(frozen=True)
class Figure:
    """A line: what was measured, or why it could not be.

    Attributes:
        what: The measurement.
        way: How it was done.
        seconds: Of a batch, a section or an iteration; None where it failed.
        found: What came out besides.
        reason: Why it failed.
    """

    what: str
    way: str
    seconds: float | None
    found: str
    reason: str = ""


class Figures:
    """All lines, of which none ends the others."""

    def __init__(self) -> None:
        self.started, self.lines = time.monotonic(), []

    def add(self, what: str, way: str, measure: Callable[[], tuple[float, str]]) -> float | None:
        """Measures, and keeps the line; its seconds, if there are any."""
        try:
            if (past := time.monotonic() - self.started) > LAST_START_S:
                raise TimeoutError(f"not begun {past:.0f} s after the start")
            line = Figure(what, way, *measure())
        except Exception as error:
            first = (str(error).splitlines() or [""])[0]
            line = Figure(what, way, None, "", f"{type(error).__name__}: {first}")
        self.lines.append(line)
        print(format_line(line), flush=True)
        if torch.cuda.is_available():
            # What failed or was compiled may lie in cycles; the next line needs its memory.
            gc.collect()
            torch.cuda.empty_cache()
        return line.seconds

    def seconds(self, way: str) -> float:
        """What a line took."""
        for line in self.lines:
            if line.way == way and line.seconds is not None:
                return line.seconds
        raise RuntimeError(f"follows from {way!r}, which was not measured")


class HostFeed:
    """A feed that augments on the host and hands its batches to the device."""

    def __init__(self, sections, settings: PatchSettings, device: torch.device) -> None:
        self.feed, self.settings = PatchFeed(sections, settings, torch.device("cpu")), settings
        self.device = device

    def batch(self, iteration: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draws the batch of an iteration."""
        image, target = self.feed.batch(iteration)
        return image.to(self.device), target.to(self.device)


def measure_section(sizes: Sizes, compute: Compute, rate: float | None) -> tuple[float, str]:
    """Seconds of a whole section, from its pixels to its probabilities, the best of three."""
    network = make_network(sizes, Way(compute.layout, InstanceNorm)).eval()
    compute.place(network)
    section, _ = make_section(0, sizes.section)
    image = np.pad(section, [(0, sizes.side_px - side) for side in section.shape], mode="symmetric")
    edge = sizes.tile_px + 2 * sizes.halo_px

    def predict(pixels) -> float:
        started = time.perf_counter()
        list(
            predict_sections(
                network, [pixels], tile_px=sizes.tile_px, halo_px=sizes.halo_px, compute=compute
            )
        )
        return time.perf_counter() - started

    predict(image[: 2 * edge, : 2 * edge])
    seconds = min(predict(image) for _ in range(3))
    tiles = (-(-sizes.side_px // sizes.tile_px)) ** 2
    operations = count_operations(network, (edge, edge), compute.device)
    found = (
        f"{tiles} tiles of {sizes.tile_px} + {sizes.halo_px} px, {fit_batch(compute, edge)} at a "
        f"time; {tell_share(tiles * operations / seconds, rate)}"
    )
    if rate is None:
        return seconds, found
    least = operations * sizes.side_px**2 / edge**2 / rate
    return seconds, f"{found}; at that rate and without a halo {format_seconds(least)}"


def measure_feed(sizes: Sizes, compute: Compute, feed, ahead: int) -> tuple[float, str]:
    """Seconds of an iteration of training, and the share of them that it waits for its batch."""
    around = Ahead(feed, compute.device, ahead) if ahead else nullcontext(feed)
    with around as batches:
        step = Step(sizes, WAYS[CONTIGUOUS], compute, batches)
        for _ in range(min(WARM_UP_STEPS, sizes.steps)):
            step()
        wait_for(compute.device)
        started = time.perf_counter()
        waited = sum(step()["data_wait_s"] for _ in range(sizes.steps))
        wait_for(compute.device)
        taken = time.perf_counter() - started
    return taken / sizes.steps, (
        f"{sizes.steps / taken:.4g} iterations/s, {sizes.batch * sizes.steps / taken:.4g} "
        f"patches/s, waits for data {waited / taken:.1%} of the time; {sizes.steps} iterations"
    )


def extrapolate_cell(figures: Figures) -> tuple[float, str]:
    """Seconds of the training of a cell of the paper's protocol; nobody has run it to say so."""
    iterations, one = FinetuneConfig.iterations, figures.seconds(AS_FINETUNE)
    return iterations * one, (
        f"extrapolated, not run: {iterations} iterations of {format_seconds(one)}; without "
        "validations, reading, the choice of the tile, and evaluation"
    )


def measure_all(sizes: Sizes, compute: Compute, convolution: tuple[int, int]) -> Figures:
    """All measurements, those that compile last: they may run out of time."""
    figures = Figures()
    drawing = PatchSettings(
        sizes.patch_px, sizes.batch, 0.5, Augmentation(True, True, 4.0, 0.1), seed=0
    )
    alone = figures.add(
        "a lone convolution",
        f"8 images of {convolution[0]} channels, {convolution[1]} px",
        partial(time_convolution, compute, *convolution, sizes.seconds),
    )
    rate = alone and count_convolution(*convolution) / alone

    def compare(ways: dict[str, Way]) -> None:
        for name, way in ways.items():
            figures.add(
                "inference, a batch", name, partial(time_inference, sizes, way, compute, rate)
            )
            figures.add(
                "training, a step", name, partial(time_training, sizes, way, compute, drawing)
            )

    compare({name: way for name, way in WAYS.items() if way.engine != COMPILED})
    for layout in (CONTIGUOUS, CHANNELS_LAST):
        given = replace(compute, layout=layout)
        what = f"a section of {sizes.side_px} x {sizes.side_px} px"
        figures.add(what, layout, partial(measure_section, sizes, given, rate))

    sections = [make_section(seed, sizes.section) for seed in range(SECTIONS)]
    device = compute.device
    feeds = {
        "a batch that is ready": (ReadyBatch, 0),
        "augmented on the device, between steps": (partial(PatchFeed, sections), 0),
        AS_FINETUNE: (partial(PatchFeed, sections), 1),
        "augmented on the device, 4 batches ahead": (partial(PatchFeed, sections), 4),
        "augmented on the host, a batch ahead": (partial(HostFeed, sections), 1),
        "augmented on the host, 4 batches ahead": (partial(HostFeed, sections), 4),
    }
    for name, (make, ahead) in feeds.items():

        def measure(make=make, ahead=ahead) -> tuple[float, str]:
            return measure_feed(sizes, compute, make(drawing, device), ahead)

        figures.add("training with its feed, an iteration", name, measure)
    figures.add("a cell of the paper", "training alone", partial(extrapolate_cell, figures))
    compare({name: way for name, way in WAYS.items() if way.engine == COMPILED})
    return figures


def format_line(line: Figure) -> str:
    """A line as a row of a Markdown table."""
    seconds = "not measured" if line.seconds is None else format_seconds(line.seconds)
    return f"| {line.what} | {line.way} | {seconds} | {line.found or line.reason} |"


def describe_run(compute: Compute, lines: list[Figure], taken: float) -> dict[str, object]:
    """What is written: the card, the day, the versions, and the lines."""
    on_gpu = compute.device.type == "cuda"
    return {
        "card": torch.cuda.get_device_name(compute.device) if on_gpu else "none, a CPU",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if on_gpu else None,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
        "precision": compute.precision,
        "machine": describe_machine(),
        "seconds": round(taken),
        "lines": [asdict(line) for line in lines],
    }


def main(arguments: list[str] | None = None) -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="sizes that tell nothing, quickly")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, help="default: gpu.json here; of --tiny none")
    options = parser.parse_args(arguments)
    compute = choose_compute(options.device, "auto")
    if compute.device.type != "cuda" and not options.tiny:
        raise BenchError(f"a GPU is measured, received {compute.device}: use --tiny to try it out")
    print("| what | way | seconds of one | found |\n|---|---|---:|---|", flush=True)
    started = time.monotonic()
    sizes, convolution = (TINY, RATE_TINY) if options.tiny else (FULL, RATE_FULL)
    figures = measure_all(sizes, compute, convolution)
    content = describe_run(compute, figures.lines, time.monotonic() - started)
    print(", ".join(f"{name} {value}" for name, value in content.items() if name != "lines"))
    output = options.output or (None if options.tiny else HERE / "gpu.json")
    if output is not None:
        temporary = output.with_suffix(".json.new")
        temporary.write_text(json.dumps(content, indent=2) + "\n")
        temporary.replace(output)


if __name__ == "__main__":
    try:
        main()
    except BenchError as error:
        sys.exit(str(error))
