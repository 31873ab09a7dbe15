"""Trainings of so many minutes: their speed is measured, and what follows from it is planned once.

The minutes count from the step's beginning to the end of its last validation and of what is chosen
on validation. See ``bench.training.pace`` for how the loop fills them.
"""

import copy
import dataclasses
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from bench.core.files import write_whole
from bench.errors import BenchError
from bench.inference.device import computing_on
from bench.tracking.runs import Run
from bench.training.loop import LoopSettings, Trainee
from bench.training.objectives import Objective
from bench.training.pace import TimeBudget
from bench.training.speed import time_steps

log = logging.getLogger(__name__)

# What stands in a run's settings for what the minutes say.
OF_MINUTES = "of minutes"
_PLAN = "minutes.json"
# What is planned, from what is measured: a share goes into validations.
_TRAINING_SHARE = 0.85
# Seconds between checkpoints.
_CHECKPOINT_S = 30.0
# The highest rate by optimiser and iterations: up to so many, that rate, else the method's own.
# The short trainings of docs/presets.md and docs/retina.md were made with these. Rows of AdamW have
# a rate for hundreds of iterations of their own, or are a SAM, which must not learn fast.
_RATES: dict[str, tuple[tuple[int, float], ...]] = {
    "adam": ((5000, 1e-3),),
    "adamw": (),
    "sgd": ((1000, 3e-2),),
}
_COUNTED = ("iterations", "epoch_iterations", "checkpoint_iterations")
# Settings of a step that trains: each has minutes, lr and schedule.
_Config = Any


@dataclass(frozen=True)
class _MinutesPlan:
    """What was measured when a training of so many minutes began, and what follows from it.

    Attributes:
        seconds: From the loop's first iteration to the end.
        iteration_s: Seconds of an iteration.
        iterations: About how many there will be; the schedule of the rate stands for so many.
        lr: The highest learning rate.
        threads: That compute an iteration on a CPU.
    """

    seconds: float
    iteration_s: float
    iterations: int
    lr: float
    threads: int


def check_minutes(config: _Config) -> None:
    """Checks that nothing is typed beside minutes that they take the place of.

    Args:
        config: Settings of a training.

    Raises:
        BenchError: If something is.
    """
    if config.minutes is None:
        return
    fields = {field.name: field.default for field in dataclasses.fields(config)}
    names = [name for name in (*_COUNTED, "snapshots") if name in fields]
    typed = [f"{n}={v}" for n in names if (v := getattr(config, n)) != fields[n]]
    if typed:
        raise BenchError(
            f"minutes takes the place of {', '.join(names)}, received minutes={config.minutes:g} "
            f"and {', '.join(typed)}: leave out one or the other"
        )
    if config.schedule == "plateau":
        raise BenchError(
            "the rate must fall to zero when the minutes are over, received schedule=plateau: "
            "choose cosine, polynomial or onecycle, or give iterations in place of minutes"
        )


def follow_the_clock(own: dict[str, Any]) -> dict[str, Any]:
    """What a method gives settings that were left open, where minutes say the rate.

    A plateau has no end to fall to.
    """
    schedule = {"schedule": "cosine"} if own.get("schedule") == "plateau" else {}
    return {name: value for name, value in own.items() if name != "lr"} | schedule


def first_rate(config: _Config) -> float:
    """The learning rate of a config, or where its minutes will say it, any."""
    assert config.lr is not None or config.minutes is not None
    return 1e-4 if config.lr is None else float(config.lr)


def describe_loop(config: _Config, settings: LoopSettings) -> dict[str, Any]:
    """The settings of a loop for a run, without numbers that its minutes will say."""
    found = vars(settings)
    if config.minutes is None:
        return found
    open_rate = ("lr",) if config.lr is None else ()
    return found | dict.fromkeys((*_COUNTED, *open_rate), OF_MINUTES)


def plan_loop(
    run: Run,
    config: _Config,
    settings: LoopSettings,
    trainee: Trainee,
    objective: Callable[[Trainee], Objective],
    *,
    begun: float,
    own_lr: float = 0.0,
    closing: int = 0,
) -> tuple[LoopSettings, TimeBudget | None]:
    """What a training's loop is given: its settings as they are, or what its minutes come to.

    Args:
        run: The run. Its work folder keeps the plan, which a resumed training follows.
        config: The settings of the step.
        settings: Of the loop.
        trainee: What will be trained. A copy of it is timed.
        objective: Makes the objective of such a copy.
        begun: When the step began, by ``time.monotonic``.
        own_lr: The learning rate of its method, taken where none is given and iterations are many.
        closing: What is tried after the last validation, in validations.

    Raises:
        BenchError: If there is no time for an iteration, or no memory for it.
    """
    if config.minutes is None:
        return settings, None
    file = run.work / _PLAN
    if file.exists():
        plan = _MinutesPlan(**json.loads(file.read_text()))
    else:
        plan = _measure_plan(config, settings, trainee, objective, begun, own_lr)
        text = json.dumps(dataclasses.asdict(plan), indent=1)
        write_whole(file, lambda temporary: temporary.write_text(text))
        run.log_text(text, _PLAN)
        log.info(
            "%g minutes: about %d iterations of %.2g s, learning rate %g, threads %d",
            *(config.minutes, plan.iterations, plan.iteration_s, plan.lr, plan.threads),
        )
    planned = dataclasses.replace(
        settings,
        iterations=plan.iterations,
        checkpoint_iterations=max(1, round(_CHECKPOINT_S / plan.iteration_s)),
        lr=plan.lr,
    )
    threads = min(plan.threads, torch.get_num_threads())
    return planned, TimeBudget(plan.seconds, plan.iteration_s, closing, threads)


def _measure_plan(
    config: _Config,
    settings: LoopSettings,
    trainee: Trainee,
    objective: Callable[[Trainee], Objective],
    begun: float,
    own_lr: float,
) -> _MinutesPlan:
    log.info("timing an iteration on this device ...")

    def time_iteration() -> float:
        tried = copy.deepcopy(trainee)
        with torch.random.fork_rng(devices=[]):
            return time_steps(tried, objective(tried), settings)

    on_cpu = next(trainee.network.parameters()).device.type == "cpu"
    all_threads = torch.get_num_threads()
    threads, iteration_s = (
        _time_threads(time_iteration, all_threads) if on_cpu else (all_threads, time_iteration())
    )
    seconds = 60 * config.minutes - (time.monotonic() - begun)
    iterations = int(_TRAINING_SHARE * seconds / iteration_s)
    if iterations < 1:
        raise BenchError(
            f"minutes must suffice for an iteration, received {config.minutes:g}: one takes "
            f"{iteration_s:.2g} s here after {time.monotonic() - begun:.0f} s of preparation: give "
            "more minutes, or a smaller batch_size or patch_px"
        )
    lr = choose_rate(settings.optimiser, iterations, own_lr) if config.lr is None else config.lr
    return _MinutesPlan(seconds, iteration_s, iterations, lr, threads)


def _time_threads(time_iteration: Callable[[], float], threads: int) -> tuple[int, float]:
    """How many threads compute an iteration soonest, and its seconds.

    All of them, or half as long as that is quicker: where other programs take cores, threads wait
    for one another, and fewer are twice as fast.
    """

    def time_on(number: int) -> float:
        with computing_on(number):
            return time_iteration()

    seconds = time_on(threads)
    while threads > 1 and (fewer_s := time_on(threads // 2)) < seconds:
        threads, seconds = threads // 2, fewer_s
    return threads, seconds


def choose_rate(optimiser: str, iterations: int, own_lr: float) -> float:
    """The highest learning rate of a training of so many iterations.

    Args:
        optimiser: Row of OPTIMISERS.
        iterations: About how many there will be.
        own_lr: That of its method, which is for many.

    Examples:
        >>> choose_rate("adam", 300, 1e-4), choose_rate("adam", 50_000, 1e-4)
        (0.001, 0.0001)
        >>> choose_rate("adamw", 300, 1e-5)
        1e-05
    """
    return next((lr for most, lr in _RATES[optimiser] if iterations <= most), own_lr)
