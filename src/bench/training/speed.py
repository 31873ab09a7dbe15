"""How long an iteration of a training takes, timed for a few seconds."""

import itertools
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from bench.training.loop import LoopSettings, Trainee, train_batch
from bench.training.objectives import Objective

# Seconds of timing, at least one call, after the first, which is slower; and what the first must
# take at most if there is to be a second.
_SECONDS, _LONGEST_FIRST_S = 2.0, 15.0
# A minute that many calls would not fill need not be known better.
_SHORT_S = 60.0
# More iterations than any training has.
_MANY = 10**9


def time_steps(
    trainee: Trainee, objective: Objective, settings: LoopSettings, calls: int = _MANY
) -> float:
    """Seconds of an iteration; what is trained is no use afterwards.

    Args:
        trainee: What is trained.
        objective: Computes the loss.
        settings: Of the loop.
        calls: Iterations that will be done.
    """
    counted = itertools.count()
    device = next(trainee.network.parameters()).device
    # One whose rate has no end.
    endless = replace(settings, schedule="plateau")

    def step() -> None:
        train_batch(trainee, objective, endless, next(counted))
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return time_calls(step, calls)


def time_calls(call: Callable[[], object], calls: int) -> float:
    """Seconds of one of many calls, of which as few are made as tell it.

    Args:
        call: What is timed.
        calls: How often it will be called.

    Returns:
        The mean after the first call, which also allocates and chooses kernels; the first where it
        takes longer than _LONGEST_FIRST_S, or all of them less than _SHORT_S.
    """
    started = time.monotonic()
    call()
    first = time.monotonic() - started
    if first > _LONGEST_FIRST_S or first * calls < _SHORT_S:
        return first
    started, done = time.monotonic(), 0
    while time.monotonic() - started < _SECONDS:
        call()
        done += 1
    return (time.monotonic() - started) / done
