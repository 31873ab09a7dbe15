"""What the runs of all training steps have in common."""

import logging
from collections.abc import Mapping

import torch

from bench.config.training import DomainAdaptConfig, FinetuneConfig
from bench.dataset.prepared import PreparedDataset
from bench.inference.device import Compute
from bench.tracking.runs import Run
from bench.training.loop import LoopSettings
from bench.training.state import Progress

log = logging.getLogger(__name__)


def loop_settings(config: FinetuneConfig | DomainAdaptConfig) -> LoopSettings:
    """Resolves the settings of the loop that may be ``auto``."""
    epoch = config.epoch_iterations or min(250, max(50, config.iterations // 20))
    return LoopSettings(
        iterations=config.iterations,
        epoch_iterations=epoch,
        checkpoint_iterations=config.checkpoint_iterations or epoch,
        lr=config.lr,
        schedule=config.schedule,
        plateau_factor=config.plateau_factor,
        plateau_patience=config.plateau_patience,
    )


def describe_run(
    run: Run, dataset: PreparedDataset, settings: Mapping[str, object], context: str
) -> None:
    """Logs what a run works with: its resolved settings, and the dataset as an input."""
    run.log_params(settings)
    run.set_tags({"bench.dataset_name": dataset.root.name})
    run.log_dataset(
        name=dataset.root.name, path=dataset.root, digest=dataset.content_hash, context=context
    )


def measure_network(run: Run, network: torch.nn.Module, compute: Compute) -> None:
    """Logs how many parameters a network has, and starts to watch the memory of its GPU."""
    run.log_metrics({"model/parameters": sum(part.numel() for part in network.parameters())})
    if compute.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(compute.device)


def conclude_run(run: Run, what: str, progress: Progress, compute: Compute) -> None:
    """Logs what a training came to, and on a GPU the most memory that tensors took in MiB."""
    run.log_metrics({"best/dice": progress.best_score}, progress.best_iteration)
    if compute.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(compute.device) / 2**20
        run.log_metrics({"train/peak_gpu_mib": peak})
    run.set_tags({"bench.train_seconds": f"{progress.elapsed_s:.1f}"})
    log.info(
        "%s: validation Dice %.3f at iteration %d, %.0f s of training, run %s",
        what,
        progress.best_score,
        progress.best_iteration,
        progress.elapsed_s,
        run.id,
    )


def log_checkpoints(run: Run, names: tuple[str, ...]) -> None:
    """Logs checkpoints of the work folder as artifacts, each with its description."""
    for name in names:
        weights = run.work / f"{name}.safetensors"
        run.log_file(weights, "checkpoint")
        run.log_file(weights.with_suffix(".json"), "checkpoint")
