"""The training loop of every method: resumable, reporting through callbacks."""

import json
import math
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from bench.core.files import write_whole
from bench.core.memory import explain_out_of_memory
from bench.errors import BenchError
from bench.inference.device import Compute, computing_on
from bench.models.unet2d import mend_gradients
from bench.training.objectives import Objective
from bench.training.optimisers import EAGER_OPTIMISERS
from bench.training.pace import CountedPace, Pace, TimeBudget, TimedPace, Timing

_Rate = Callable[[float, float, int], float]


def cosine_rate(lr: float, iteration: float, iterations: int) -> float:
    """The rate of an iteration (from 0) that falls from ``lr`` to zero along half a cosine."""
    return lr * 0.5 * (1 + math.cos(math.pi * iteration / iterations))


def polynomial_rate(lr: float, iteration: float, iterations: int) -> float:
    """The rate of an iteration (from 0) that falls from ``lr`` to zero, almost in a line."""
    return lr * math.pow(1 - iteration / iterations, _POWER)


def one_cycle_rate(lr: float, iteration: float, iterations: int) -> float:
    """The rate of an iteration (from 0) that rises to ``lr`` and falls to almost zero, by cosines.

    It is that of torch's ``OneCycleLR`` with its defaults (Smith and Topin 2017), which also
    changes the momentum: here that stays as it is.
    """
    start = lr / _CYCLE_START
    top, last = _CYCLE_RISE * iterations - 1, iterations - 1
    if iteration <= top:
        return _anneal(start, lr, iteration / top)
    return _anneal(lr, start / _CYCLE_END, (iteration - top) / (last - top))


def _anneal(first: float, last: float, share: float) -> float:
    """Goes from one number to another along half a cosine."""
    return last + (first - last) / 2 * (1 + math.cos(math.pi * share))


# nnU-Net's power of the polynomial.
_POWER = 0.9
# torch's one cycle: its rate starts at a 25th of the highest, which it has after 30 % of the
# iterations, and ends at a 10000th of where it started.
_CYCLE_START, _CYCLE_RISE, _CYCLE_END = 25, 0.3, 1e4
# The schedules whose rate is a function of the iteration; that of ``plateau`` follows the scores.
_RATES: dict[str, _Rate] = {
    "cosine": cosine_rate,
    "polynomial": polynomial_rate,
    "onecycle": one_cycle_rate,
}


@dataclass
class Progress:
    """How far a training has come.

    Attributes:
        iteration: Iterations done.
        best_score: Best validation score so far; -1 before the first.
        best_iteration: When it was reached.
        elapsed_s: Seconds trained so far, over all sessions.
        timing: Of a training by the clock, how far it is.
    """

    iteration: int = 0
    best_score: float = -1.0
    best_iteration: int = 0
    elapsed_s: float = 0.0
    timing: Timing | None = None


@dataclass(frozen=True)
class Trainee:
    """Everything whose state changes while training. The patches need none: see PatchFeed.

    Attributes:
        network: What is trained. Its frozen parameters are the source's and are not saved.
        optimizer: Its optimiser.
        plateau: The schedule that has a state, where it is used.
        scaler: The scaler of the loss, for fp16.
        teacher: A second network that follows the first, in the mean-teacher method.
    """

    network: torch.nn.Module
    optimizer: torch.optim.Optimizer
    plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None
    scaler: torch.amp.GradScaler
    teacher: torch.nn.Module | None = None

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors of both networks that training changes, by name."""
        frozen = {name for name, p in self.network.named_parameters() if not p.requires_grad}
        state = self.network.state_dict()
        tensors = {f"network/{name}": t for name, t in state.items() if name not in frozen}
        if self.teacher is not None:
            tensors |= {f"teacher/{n}": t for n, t in self.teacher.state_dict().items()}
        return tensors


def save_state(path: Path, trainee: Trainee, progress: Progress) -> None:
    """Writes the state as one safetensors file, whole or not at all; numbers in its header."""
    optimizer = trainee.optimizer.state_dict()
    tensors = trainee.tensors()
    for index, moments in optimizer["state"].items():
        tensors |= {f"optimizer/{index}/{name}": t for name, t in moments.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    numbers: dict[str, Any] = {
        # Without a budget there is no timing, and the state is as it always was.
        "progress": {name: v for name, v in asdict(progress).items() if v is not None},
        "param_groups": optimizer["param_groups"],
        "plateau": trainee.plateau.state_dict() if trainee.plateau else None,
        "scaler": trainee.scaler.state_dict(),
    }
    header = {"state": json.dumps(numbers)}
    write_whole(path, lambda temporary: save_file(tensors, temporary, metadata=header))


def load_state(path: Path, trainee: Trainee) -> Progress:
    """Puts a saved state into the trainee and returns how far it had come."""
    with safe_open(path, framework="pt") as file:
        numbers = json.loads(file.metadata()["state"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    with torch.no_grad():
        for name, tensor in trainee.tensors().items():
            tensor.copy_(tensors[name])
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, index, moment = name.split("/")
            moments.setdefault(int(index), {})[moment] = tensor
    trainee.optimizer.load_state_dict({"state": moments, "param_groups": numbers["param_groups"]})
    if trainee.plateau:
        trainee.plateau.load_state_dict(numbers["plateau"])
    trainee.scaler.load_state_dict(numbers["scaler"])
    timing = numbers["progress"].pop("timing", None)
    return Progress(**numbers["progress"], timing=timing and Timing(**timing))


@dataclass(frozen=True)
class LoopSettings:
    """Settings of the loop, resolved.

    Attributes:
        iterations: Batches to train on in total.
        epoch_iterations: Batches between validations.
        checkpoint_iterations: Batches between saved states.
        lr: Learning rate.
        schedule: ``plateau``, or a row of _RATES.
        plateau_factor: Factor on the rate after ``plateau_patience`` epochs without gain.
        plateau_patience: See above.
        optimiser: Row of EAGER_OPTIMISERS.
        weight_decay: Its weight decay; None is torch's own default of the optimiser.
    """

    iterations: int
    epoch_iterations: int
    checkpoint_iterations: int
    lr: float
    schedule: str
    plateau_factor: float
    plateau_patience: int
    optimiser: str
    weight_decay: float | None = None


@dataclass(frozen=True)
class Reports:
    """What the loop tells its caller.

    Attributes:
        on_iteration: Called with the iterations done, and loss, lr, images_per_second, the share
            of the time that was spent on getting the batch (data_wait_fraction), the seconds that
            it took (seconds) and all until now with their validations, over all sessions
            (elapsed_s), and the objective's own numbers.
        validate: Called with the network every epoch; returns its score, higher is better.
        on_epoch: Called with the iterations done, the score, and whether it is the best so far.
            It is called before the state is saved: a killed run may call it twice for one epoch.
        on_saving: Called before a state is saved, with the iterations done. What was reported
            until then must be kept now: a killed process goes on after it.
        on_snapshot: Called after an iteration whose weights are wanted, with the iterations done
            and the score of these weights, before the state is saved.
    """

    on_iteration: Callable[[int, dict[str, float]], None]
    validate: Callable[[torch.nn.Module], float]
    on_epoch: Callable[[int, float, bool], None]
    on_saving: Callable[[int], None]
    on_snapshot: Callable[[int, float], None] = lambda iteration, score: None


def make_trainee(
    network: torch.nn.Module,
    settings: LoopSettings,
    compute: Compute,
    *,
    teacher: torch.nn.Module | None = None,
) -> Trainee:
    """Gives a network its optimiser, schedule and loss scaler, on the device.

    Frozen parameters stay out of the optimiser.
    """
    for module in (network, teacher):
        if module is not None:
            compute.place(module)
    mend_gradients(network)
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    decay = {} if settings.weight_decay is None else {"weight_decay": settings.weight_decay}
    optimizer = EAGER_OPTIMISERS[settings.optimiser](learned, lr=settings.lr, **decay)
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
    snapshots: Collection[int] = (),
    budget: TimeBudget | None = None,
) -> Progress:
    """Trains to ``settings.iterations``, or a budget's end, from the saved state if there is one.

    On the CPU the weights at the end do not depend on where, and how often, it was interrupted:
    the loss depends on the iteration and the state alone, and all state is in the file. Nor do
    they depend on snapshots: these are scored, but neither lower the rate nor become the best.
    A budget's weights depend on the speed of the machine, as their number of iterations does.

    Raises:
        BenchError: If the loss is no longer a finite number, or the memory does not suffice.
    """
    with computing_on(budget.threads if budget else None):
        return _train(trainee, objective, settings, state_file, reports, snapshots, budget)


def _train(
    trainee: Trainee,
    objective: Objective,
    settings: LoopSettings,
    state_file: Path,
    reports: Reports,
    snapshots: Collection[int],
    budget: TimeBudget | None,
) -> Progress:
    progress = load_state(state_file, trainee) if state_file.exists() else Progress()
    started = time.monotonic() - progress.elapsed_s
    pace = _make_pace(settings, budget, progress)
    while not pace.ended(progress.iteration):
        begun = time.monotonic()
        with explain_out_of_memory("a batch in training", objective.remedy):
            place = pace.place(progress.iteration)
            numbers = train_batch(trainee, objective, settings, progress.iteration, place)
        progress.iteration += 1
        seconds = time.monotonic() - begun
        pace.advance(progress.iteration, seconds, time.monotonic() - started)
        numbers["images_per_second"] = objective.images / seconds
        numbers |= {"seconds": seconds, "elapsed_s": time.monotonic() - started}
        if "data_wait_s" in numbers:
            numbers["data_wait_fraction"] = numbers.pop("data_wait_s") / seconds
        reports.on_iteration(progress.iteration, numbers)
        epoch_ends, begun = pace.validation_due(progress.iteration), time.monotonic()
        score = _finish_epoch(trainee, progress, reports) if epoch_ends else None
        if progress.iteration in snapshots:
            scored = reports.validate(trainee.network) if score is None else score
            reports.on_snapshot(progress.iteration, scored)
        if epoch_ends or progress.iteration % settings.checkpoint_iterations == 0:
            reports.on_saving(progress.iteration)
            progress.elapsed_s = time.monotonic() - started
            if epoch_ends:
                pace.note_validation(time.monotonic() - begun, progress.elapsed_s)
            save_state(state_file, trainee, progress)
    return progress


def _make_pace(settings: LoopSettings, budget: TimeBudget | None, progress: Progress) -> Pace:
    if budget is None:
        return CountedPace(settings.iterations, settings.epoch_iterations)
    pace = TimedPace(budget, settings.iterations, progress.timing)
    progress.timing = pace.timing
    return pace


def train_batch(
    trainee: Trainee,
    objective: Objective,
    settings: LoopSettings,
    iteration: int,
    place: float | None = None,
) -> dict[str, float]:
    """Takes one step of the optimiser.

    Args:
        trainee: What is trained.
        objective: Computes the loss.
        settings: Of the loop.
        iteration: Iterations done, which the batch follows from.
        place: Its place on the schedule of the learning rate, in iterations, where that is another.

    Returns:
        Loss, learning rate and the objective's numbers.
    """
    if settings.schedule in _RATES:
        at = iteration if place is None else place
        rate = _RATES[settings.schedule](settings.lr, at, settings.iterations)
        for group in trainee.optimizer.param_groups:
            group["lr"] = rate
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


def _finish_epoch(trainee: Trainee, progress: Progress, reports: Reports) -> float:
    """Validates, lowers the rate where that is due, and reports; returns the score."""
    score = reports.validate(trainee.network)
    if trainee.plateau:
        trainee.plateau.step(score)
    best = score > progress.best_score
    if best:
        progress.best_score, progress.best_iteration = score, progress.iteration
    reports.on_epoch(progress.iteration, score, best)
    return score
