"""The training loop of every method: resumable, reporting through callbacks."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.core.memory import explain_out_of_memory
from bench.errors import BenchError
from bench.inference.device import Compute
from bench.training.objective import Objective
from bench.training.state import Progress, Trainee, load_state, save_state


@dataclass(frozen=True)
class LoopSettings:
    """Settings of the loop, resolved.

    Attributes:
        iterations: Batches to train on in total.
        epoch_iterations: Batches between validations.
        checkpoint_iterations: Batches between saved states.
        lr: Learning rate.
        schedule: ``plateau`` or ``cosine``.
        plateau_factor: Factor on the rate after ``plateau_patience`` epochs without gain.
        plateau_patience: See above.
    """

    iterations: int
    epoch_iterations: int
    checkpoint_iterations: int
    lr: float
    schedule: str
    plateau_factor: float
    plateau_patience: int


@dataclass(frozen=True)
class Reports:
    """What the loop tells its caller.

    Attributes:
        on_iteration: Called with the iterations done, and loss, lr, images_per_second, the share
            of the time that was spent on getting the batch (data_wait_fraction), and the
            objective's own numbers.
        validate: Called with the network every epoch; returns its score, higher is better.
        on_epoch: Called with the iterations done, the score, and whether it is the best so far.
            It is called before the state is saved: a killed run may call it twice for one epoch.
        on_saving: Called before a state is saved, with the iterations done. What was reported
            until then must be kept now: a killed process goes on after it.
    """

    on_iteration: Callable[[int, dict[str, float]], None]
    validate: Callable[[torch.nn.Module], float]
    on_epoch: Callable[[int, float, bool], None]
    on_saving: Callable[[int], None]


def make_trainee(
    network: torch.nn.Module,
    settings: LoopSettings,
    compute: Compute,
    *,
    optimizer_type: type[torch.optim.Optimizer] = torch.optim.Adam,
    teacher: torch.nn.Module | None = None,
) -> Trainee:
    """Gives a network its optimiser, schedule and loss scaler, on the device.

    Frozen parameters stay out of the optimiser.
    """
    for module in (network, teacher):
        if module is not None:
            module.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = optimizer_type(learned, lr=settings.lr)  # type: ignore[call-arg]
    plateau = None
    if settings.schedule == "plateau":
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer,
            mode="max",
            factor=settings.plateau_factor,
            patience=settings.plateau_patience,
        )
    scaler = torch.amp.GradScaler(compute.device.type, enabled=compute.precision == "fp16")
    return Trainee(network, optimizer, plateau, scaler, teacher)


def train(
    trainee: Trainee,
    objective: Objective,
    settings: LoopSettings,
    *,
    state_file: Path,
    reports: Reports,
) -> Progress:
    """Trains to ``settings.iterations``, from the saved state where there is one.

    On the CPU the weights at the end do not depend on where, and how often, it was interrupted:
    the loss depends on the iteration and the state alone, and all state is in the file.

    Raises:
        BenchError: If the loss is no longer a finite number, or the memory does not suffice.
    """
    progress = load_state(state_file, trainee) if state_file.exists() else Progress()
    started = time.monotonic() - progress.elapsed_s
    while progress.iteration < settings.iterations:
        begun = time.monotonic()
        with explain_out_of_memory("a batch in training", objective.remedy):
            numbers = train_batch(trainee, objective, settings, progress.iteration)
        progress.iteration += 1
        seconds = time.monotonic() - begun
        numbers["images_per_second"] = objective.images / seconds
        if "data_wait_s" in numbers:
            numbers["data_wait_fraction"] = numbers.pop("data_wait_s") / seconds
        reports.on_iteration(progress.iteration, numbers)
        last = progress.iteration == settings.iterations
        epoch_ends = last or progress.iteration % settings.epoch_iterations == 0
        if epoch_ends:
            finish_epoch(trainee, progress, reports)
        if epoch_ends or progress.iteration % settings.checkpoint_iterations == 0:
            reports.on_saving(progress.iteration)
            progress.elapsed_s = time.monotonic() - started
            save_state(state_file, trainee, progress)
    return progress


def train_batch(
    trainee: Trainee, objective: Objective, settings: LoopSettings, iteration: int
) -> dict[str, float]:
    """Takes one step of the optimiser; returns loss, learning rate and the objective's numbers."""
    if settings.schedule == "cosine":
        for group in trainee.optimizer.param_groups:
            group["lr"] = cosine_rate(settings.lr, iteration, settings.iterations)
    trainee.network.train()
    trainee.optimizer.zero_grad(set_to_none=True)
    value, numbers = objective.compute(iteration)
    if not math.isfinite(number := float(value.detach())):
        raise BenchError(
            f"the loss must stay finite, it is {number} after {iteration} iterations: "
            f"lower lr (now {settings.lr:g}) or use precision=fp32"
        )
    scaled: torch.Tensor = trainee.scaler.scale(value)
    scaled.backward()
    trainee.scaler.step(trainee.optimizer)
    trainee.scaler.update()
    objective.after_step()
    return {"loss": number, "lr": trainee.optimizer.param_groups[0]["lr"], **numbers}


def finish_epoch(trainee: Trainee, progress: Progress, reports: Reports) -> None:
    """Validates, lets the schedule see the score, and reports whether it is the best."""
    score = reports.validate(trainee.network)
    if trainee.plateau:
        trainee.plateau.step(score)
    best = score > progress.best_score
    if best:
        progress.best_score, progress.best_iteration = score, progress.iteration
    reports.on_epoch(progress.iteration, score, best)


def cosine_rate(lr: float, iteration: int, iterations: int) -> float:
    """The rate of an iteration (from 0) that falls from ``lr`` to zero along half a cosine."""
    return lr * 0.5 * (1 + math.cos(math.pi * iteration / iterations))
