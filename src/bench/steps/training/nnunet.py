"""Trains nnU-Net as a run: what it plans is logged, and it is scored as every other training is."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from bench.config.training import FinetuneConfig
from bench.core.progress import say_while, show_progress
from bench.inference.device import Compute
from bench.inference.outside.nnunet import make_section_predictor
from bench.models.checkpoint import ModelInfo, save_checkpoint
from bench.models.networks import find_network
from bench.models.outside.nnunet import PlannedNetwork
from bench.models.outside.packages import package_versions
from bench.steps.training.data import (
    TrainingData,
    log_checkpoints,
    loop_settings,
    measure_network,
)
from bench.steps.training.reports.sections import TrainingReport
from bench.steps.training.snapshots import finish_snapshots, kept_iterations
from bench.tracking.runs import Run
from bench.training.loop import Progress, Reports
from bench.training.nnunet.planning import Planned, plan_sections

# Along both axes of a section: what nnU-Net mirrors in training, it mirrors in prediction.
_MIRROR_AXES = (0, 1)
# Of its plans and its network, which are logged as parameters.
_OF_CONFIGURATION = ("patch_size", "batch_size", "normalization_schemes")
_OF_NETWORK = ("n_stages", "features_per_stage")


def train_by_plans(
    *, config: FinetuneConfig, info: ModelInfo, data: TrainingData, compute: Compute, run: Run
) -> Progress:
    """Lets nnU-Net plan for the sections, trains it and keeps the model in our format.

    Args:
        config: The settings.
        info: What the model is, without what nnU-Net plans.
        data: The annotated sections.
        compute: Where it is trained; its precision is nnU-Net's own.
        run: The run.
    """
    # Late: they import nnunetv2, which may not be installed.
    from bench.training.nnunet.trainer import Budget, train_planned

    planned = _plan(data, run, config.gpu_gb)
    info = _describe_planned(info, planned)
    loop = loop_settings(config)
    budget = Budget(config.iterations, loop.epoch_iterations, config.seed, kept_iterations(config))
    with show_progress(f"{info.training['method']} {info.structure}") as advance:

        def make_reports(
            network: PlannedNetwork, own_scores: Callable[[], dict[str, float]]
        ) -> Reports:
            measure_network(run, network, compute)
            report = _PlannedReport(
                predict=make_section_predictor(network, info, compute.device, mirrored=False),
                own_scores=own_scores,
                run=run,
                sections=data.validation(),
                levels=data.validation_levels(),
                pixel_size_nm=data.dataset.pixel_size_nm,
                info=info,
                compute=compute,
                advance=lambda done, remark: advance(done, config.iterations, remark),
            )
            return report.callbacks()

        progress, network = train_planned(
            planned,
            budget,
            compute.device,
            state_file=run.work / "state.safetensors",
            make_reports=make_reports,
        )
    last = {**info.training, "iteration": progress.iteration, "val_dice": None}
    save_checkpoint(
        run.work / "last.safetensors", network, dataclasses.replace(info, training=last)
    )
    log_checkpoints(run, ("best", "last", *finish_snapshots(run.work, config)))
    return progress


def _plan(data: TrainingData, run: Run, gpu_gb: float | None) -> Planned:
    """Writes the sections for nnU-Net, which plans; the run gets what it planned."""
    with say_while("nnU-Net plans, and preprocesses the sections"):
        ignored = {split: data.ignored(split) for split in ("train", "val")}
        planned = plan_sections(
            run.work / "nnunet", data.train(), _validation(data), data.structure, ignored, gpu_gb
        )
    configuration = planned.configuration
    arguments = configuration["architecture"]["arch_kwargs"]
    chosen = {name: configuration[name] for name in _OF_CONFIGURATION}
    chosen |= {name: arguments[name] for name in _OF_NETWORK}
    run.log_settings({f"nnunet_{name}": value for name, value in chosen.items()})
    run.log_params({f"nnunet_{name}": value for name, value in chosen.items()})
    for file in planned.files:
        run.log_file(file, "nnunet")
    return planned


def _validation(data: TrainingData) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return (data.at_fed_scale(*section) for section in data.validation().values())


def _describe_planned(info: ModelInfo, planned: Planned) -> ModelInfo:
    versions = package_versions(find_network(info.architecture))
    return dataclasses.replace(
        info,
        arguments={
            "plans": planned.plans,
            "dataset_json": planned.dataset_json,
            "mirror_axes": list(_MIRROR_AXES),
        },
        tile_px=max(planned.configuration["patch_size"]),
        halo_px=0,
        training={**info.training, **versions},
    )


class _PlannedReport(TrainingReport):
    """A training report whose validation is nnU-Net's own prediction, but for the mirroring."""

    def __init__(
        self,
        *,
        predict: Callable[[np.ndarray], np.ndarray],
        own_scores: Callable[[], dict[str, float]],
        **others: Any,
    ) -> None:
        """Starts a report.

        Args:
            predict: From a section to probabilities, by the network as it is.
            own_scores: What nnU-Net says of the epoch.
            others: As for ``TrainingReport``.
        """
        self.predict_levels, self.own_scores = predict, own_scores
        super().__init__(**others)

    def predict(self, network: torch.nn.Module, raw: np.ndarray) -> np.ndarray:
        """Probabilities (1, y, x) uint8 of a section, by nnU-Net's windows."""
        return self.predict_levels(raw)[None]

    def on_epoch(self, iteration: int, score: float, best: bool) -> None:
        """Logs what nnU-Net says of the epoch, too."""
        if iteration > self.validated:
            self.series.append((iteration, self.own_scores()))
        super().on_epoch(iteration, score, best)
