"""Trains a pixel classifier that sees the tokens of a frozen transformer, as a run."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from bench.config.training import FinetuneConfig
from bench.core.progress import say_while
from bench.inference.device import Compute
from bench.inference.feeding import Moments
from bench.models.checkpoint import ModelInfo, load_checkpoint
from bench.models.foundation.foundation_features import FoundationFeatures
from bench.steps.training.data import TrainingData
from bench.steps.training.pixel_classifier import fit_pixels
from bench.tracking.runs import Run
from bench.training.loop import Progress
from bench.training.pixels.fitting import PixelFeatures

# The axes along which tokens are kept are those of so many sections, and of so much of each (px).
_SECTIONS, _PIECE_PX = 6, 512


def train_foundation(
    *,
    config: FinetuneConfig,
    info: ModelInfo,
    data: TrainingData,
    compute: Compute,
    run: Run,
    source: Path,
) -> Progress:
    """Finds what to keep of a transformer's tokens, and fits a pixel classifier on it.

    The transformer stays as it is. No annotation is looked at for the axes of its tokens.

    Args:
        config: The settings.
        info: What the model is, without its trees.
        data: The annotated sections.
        compute: Where the transformer runs; trees are fitted and applied on the CPU.
        run: The run.
        source: The checkpoint that has the transformer.
    """
    network, source_info = load_checkpoint(source)
    assert isinstance(network, FoundationFeatures)
    tokens = network.to(compute.device).tokens
    size = sum(parameter.numel() for parameter in tokens.encoder.parameters())
    run.log_facts({"model/parameters_frozen": size})
    run.set_tags({"bench.encoder": str(source_info.training.get("encoder", source.name))})
    with say_while("looking at the tokens of the training sections"):
        tokens.fit_axes(_read_middles(data, compute.device))
    features = PixelFeatures(network.find_maps, partial(FoundationFeatures, tokens))
    return fit_pixels(config, info, data, compute, run, features)


def _read_middles(data: TrainingData, device: torch.device) -> Iterator[torch.Tensor]:
    """The middle of a few sections, evenly spread: normalised images (1, 1, y, x)."""
    step = -(-len(data.names) // _SECTIONS)
    for name in data.names[::step]:
        raw, _ = data.at_fed_scale(*data.read(name))
        first = [max(0, side - _PIECE_PX) // 2 for side in raw.shape]
        y, x = (slice(start, start + _PIECE_PX) for start in first)
        window = Moments.of(raw).apply(raw[y, x])
        yield torch.from_numpy(window)[None, None].to(device)
