"""Weights that a training keeps on its way, by the iteration at which they were."""

import dataclasses
from pathlib import Path
from typing import Any

from bench.config.training import FinetuneConfig
from bench.errors import BenchError
from bench.models.checkpoint import load_checkpoint, load_info, save_checkpoint
from bench.steps.training.balance import balance_network
from bench.structures import split_names
from bench.words import NONE


def snapshot_name(iteration: int) -> str:
    """The name of a snapshot's files, without their suffix."""
    return f"iteration_{iteration:06d}"


def kept_iterations(config: FinetuneConfig) -> tuple[int, ...]:
    """The iterations after which weights are kept, ascending.

    Raises:
        BenchError: If one is no iteration of the training.
    """
    if config.snapshots == NONE:
        return ()
    parts = split_names(config.snapshots)
    wrong = [p for p in parts if not (p.isdecimal() and 0 < int(p) <= config.iterations)]
    if wrong or not parts:
        raise BenchError(
            f"snapshots are iterations of the training, from 1 to iterations={config.iterations}, "
            f"comma-separated, received {config.snapshots!r}: write for example "
            f"{config.iterations // 2 or 1},{config.iterations}"
        )
    return tuple(sorted({int(part) for part in parts}))


def identify_snapshots(config: FinetuneConfig) -> dict[str, Any]:
    """What a run's identity says of them: nothing where there are none.

    The weights at the end do not depend on them, but a finished training without them cannot give
    them any more: it is another run.
    """
    iterations = kept_iterations(config)
    return {"snapshots": iterations} if iterations else {}


def finish_snapshots(folder: Path, config: FinetuneConfig) -> list[str]:
    """Gives snapshots what was chosen for the best weights (tile, halo, separation), and a limit.

    Args:
        folder: Where the checkpoints are.
        config: The settings of the training.

    Returns:
        The names of their files.
    """
    names = [snapshot_name(iteration) for iteration in kept_iterations(config)]
    best = load_info(folder / "best.safetensors")
    for name in names:
        file = folder / f"{name}.safetensors"
        network, info = load_checkpoint(file)
        info = dataclasses.replace(
            info, tile_px=best.tile_px, halo_px=best.halo_px, inference=best.inference
        )
        save_checkpoint(file, network, balance_network(network, info))
    return names
