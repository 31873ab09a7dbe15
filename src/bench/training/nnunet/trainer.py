"""nnU-Net's trainer with a budget of iterations, whose states and reports are those of our loop."""

import math
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from bench.core.memory import explain_out_of_memory
from bench.errors import BenchError
from bench.models.outside.nnunet import CONFIGURATION, PlannedNetwork, silence_nnunet
from bench.training.loop import Progress, Reports, Trainee, load_state, save_state
from bench.training.nnunet.planning import Planned, nnunet_folders

# nnU-Net scores 50 batches of validation patches for 250 of training.
_VALIDATION_SHARE = 5
# Processes that augment patches for a GPU, at most: nnU-Net's own number.
_MOST_WORKERS = 12
_MakeReports = Callable[[PlannedNetwork, Callable[[], dict[str, float]]], Reports]


@dataclass(frozen=True)
class Budget:
    """How long nnU-Net trains.

    Attributes:
        iterations: Batches in total; nnU-Net itself takes 250,000.
        epoch_iterations: Batches between validations, at each of which its rate falls.
        seed: Of weights and patches.
        snapshots: Iterations after which weights are kept besides.
    """

    iterations: int
    epoch_iterations: int
    seed: int
    snapshots: tuple[int, ...] = ()


class _BudgetTrainer(nnUNetTrainer):  # type: ignore[misc]
    """nnU-Net's trainer; what it is to do beside its own is set by ``follow``.

    nnU-Net looks at the arguments by which a trainer is made, so that there are no others.
    """

    def follow(self, session: "_Session", device: torch.device) -> None:
        """Takes a session that says how long to train, before the trainer is initialised.

        By itself it takes the first GPU, and keeps pickles.
        """
        self.session, self.device = session, device
        epoch_iterations = session.budget.epoch_iterations
        self.num_epochs = math.ceil(session.budget.iterations / epoch_iterations)
        self.num_val_iterations_per_epoch = max(1, epoch_iterations // _VALIDATION_SHARE)
        self.disable_checkpointing = True

    def go_on(self, iteration: int) -> None:
        """Goes on after an iteration, the last of an epoch."""
        self.current_epoch = math.ceil(iteration / self.session.budget.epoch_iterations)
        # It appends to these lists and looks epochs up in them.
        kept = self.logger.get_checkpoint()
        self.logger.load_checkpoint({name: [math.nan] * self.current_epoch for name in kept})

    def get_training_transforms(self, *args: Any, **others: Any) -> Any:
        """nnU-Net's augmentation; its blur by the same computation in every run."""
        transforms = nnUNetTrainer.get_training_transforms(*args, **others)
        for each in transforms.transforms:
            blur = getattr(each, "transform", None)
            if isinstance(blur, GaussianBlurTransform):
                # It would take whichever of two is faster now, which differ in the last bits.
                blur.benchmark = False
        return transforms

    def on_epoch_start(self) -> None:
        """Draws what an epoch draws by the seed and its number alone, so that it can be resumed."""
        super().on_epoch_start()
        budget = self.session.budget
        mixed = np.random.SeedSequence([budget.seed, self.current_epoch])
        drawn = int(mixed.generate_state(1)[0])
        random.seed(drawn)
        # What nnU-Net draws from.
        np.random.seed(drawn)  # noqa: NPY002
        torch.manual_seed(drawn)
        left = budget.iterations - self.session.progress.iteration
        self.num_iterations_per_epoch = min(budget.epoch_iterations, left)
        self.session.ended = time.monotonic()

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """One iteration; raises BenchError if the memory does not suffice."""
        remedy = "use device=cpu, or a GPU with more: nnU-Net plans for one of 8 GB"
        with explain_out_of_memory("a batch of nnU-Net", remedy):
            found: dict[str, Any] = super().train_step(batch)
        self.session.finish_iteration(float(found["loss"]), len(batch["data"]))
        return found

    def on_epoch_end(self) -> None:
        """Hands over in place of nnU-Net's own checkpoints and picture."""
        self.logger.log("epoch_end_timestamps", time.time(), self.current_epoch)
        self.session.finish_epoch()
        self.current_epoch += 1

    def plot_network_architecture(self) -> None:
        """Draws nothing: the plans say it."""

    def validation_scores(self) -> dict[str, float]:
        """What nnU-Net itself says of the epoch: loss and Dice of validation patches."""
        names = {"val/patch_loss": "val_losses", "val/pseudo_dice": "mean_fg_dice"}
        return {name: float(self.logger.get_value(own, -1)) for name, own in names.items()}


def train_planned(
    planned: Planned,
    budget: Budget,
    device: torch.device,
    *,
    state_file: Path,
    make_reports: _MakeReports,
) -> tuple[Progress, PlannedNetwork]:
    """Trains a planned network on a budget, from the saved state where there is one.

    On a CPU the result does not depend on where, and how often, it was interrupted. For a GPU
    other processes draw the patches, by seeds that nnU-Net does not let us set.

    Args:
        planned: The data set and its plans.
        budget: How long.
        device: Where.
        state_file: The saved state, written after every epoch.
        make_reports: Makes what is told of it, of the network and what says nnU-Net's own scores of
            an epoch. ``validate`` is given a network whose outputs at lower resolutions are off.

    Raises:
        BenchError: If the loss is no longer a finite number, or the memory does not suffice.
    """
    workers = min(_MOST_WORKERS, len(os.sched_getaffinity(0))) if device.type == "cuda" else 0
    with nnunet_folders(planned.folder, workers=workers), silence_nnunet():
        torch.manual_seed(budget.seed)
        # The trainer takes this one out again.
        plans = {**planned.plans, "continue_training": False}
        trainer = _BudgetTrainer(plans, CONFIGURATION, 0, planned.dataset_json, device)
        session = _Session(trainer, budget, state_file)
        trainer.follow(session, device)
        trainer.initialize()
        session.begin(make_reports)
        trainer.run_training()
    trainer.set_deep_supervision_enabled(False)
    return session.progress, session.network


class _Session:
    """One process's part of a training: its progress, and what is done beside nnU-Net's steps."""

    def __init__(self, trainer: _BudgetTrainer, budget: Budget, state_file: Path) -> None:
        self.trainer, self.budget, self.state_file = trainer, budget, state_file
        self.progress = Progress()
        self.started = self.ended = time.monotonic()

    def begin(self, make_reports: _MakeReports) -> None:
        """Wraps the initialised network, and reads the state if there is one."""
        trainer = self.trainer
        self.network = PlannedNetwork(trainer.network)
        scaler = trainer.grad_scaler or torch.amp.GradScaler("cpu", enabled=False)
        self.trainee = Trainee(self.network, trainer.optimizer, None, scaler)
        if self.state_file.exists():
            self.progress = load_state(self.state_file, self.trainee)
            trainer.go_on(self.progress.iteration)
        self.reports = make_reports(self.network, trainer.validation_scores)
        self.started = time.monotonic() - self.progress.elapsed_s

    def finish_iteration(self, loss: float, images: int) -> None:
        """Reports an iteration, and keeps its weights where they are wanted.

        Raises:
            BenchError: If the loss is no longer a finite number.
        """
        self.progress.iteration += 1
        done, now = self.progress.iteration, time.monotonic()
        if not math.isfinite(loss):
            raise BenchError(
                f"the loss must stay finite, it is {loss} after {done - 1} iterations of nnU-Net, "
                "whose rate is its own: try another seed, or another method"
            )
        seconds = now - self.ended
        numbers = {"loss": loss, "lr": self.trainer.optimizer.param_groups[0]["lr"]}
        numbers |= {"images_per_second": images / seconds, "seconds": seconds}
        self.reports.on_iteration(done, numbers | {"elapsed_s": now - self.started})
        ends = done == self.budget.iterations or done % self.budget.epoch_iterations == 0
        if done in self.budget.snapshots and not ends:
            self.reports.on_snapshot(done, self._validate())
        self.ended = time.monotonic()

    def finish_epoch(self) -> None:
        """Validates, reports and saves the state, in the order of our own loop."""
        progress = self.progress
        score = self._validate()
        best = score > progress.best_score
        if best:
            progress.best_score, progress.best_iteration = score, progress.iteration
        self.reports.on_epoch(progress.iteration, score, best)
        if progress.iteration in self.budget.snapshots:
            self.reports.on_snapshot(progress.iteration, score)
        self.reports.on_saving(progress.iteration)
        progress.elapsed_s = time.monotonic() - self.started
        save_state(self.state_file, self.trainee, progress)

    def _validate(self) -> float:
        """Scores the network as it predicts, and gives it back as it is trained."""
        self.trainer.set_deep_supervision_enabled(False)
        score = self.reports.validate(self.network)
        self.trainer.set_deep_supervision_enabled(True)
        self.network.train()
        return score
