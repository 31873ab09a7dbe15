"""When a training validates and ends: after so many iterations, or when its time is up.

A training by the clock has no number of iterations. What it has done is a share, from 0 to 1, which
the learning rate follows: after each iteration it grows so that what is left of the time is filled.
When other work takes half of the machine, it grows faster from there on, and the rate still falls
to zero at the end.
"""

import math
from dataclasses import dataclass
from typing import Protocol

# Of the time that is left, what validations on the way may take; and how many there are at most.
_VALIDATION_SHARE, _VALIDATIONS = 0.1, 10
# The first comes early: it tells what the others will take. Until then they count as this share.
_FIRST_VALIDATION, _GUESSED_VALIDATION = 0.05, 0.02
# What is tried on validation after the training is left out where it would take more.
_CLOSING_SHARE = 0.1
# Weight of the last iteration in the mean of their seconds.
_NEWEST = 0.1


@dataclass(frozen=True)
class TimeBudget:
    """What a training by the clock has.

    Attributes:
        seconds: From its first iteration to the end of its last validation, and of what is tried
            on validation after that.
        iteration_s: Seconds of an iteration, as measured before.
        closing: What is tried after the last validation, in validations.
        threads: That compute on a CPU until the training ends; ``None``: those of the process.
    """

    seconds: float
    iteration_s: float
    closing: int = 0
    threads: int | None = None


@dataclass
class Timing:
    """How far a training by the clock has come. A killed one goes on from it.

    Attributes:
        share: Of the training that is done, 0 to 1.
        iteration_s: Seconds of an iteration, a running mean.
        validation: What a validation takes, in iterations: so it follows the load of the machine.
        next_validation: The share at which it comes.
        spacing: The share between two.
        closes: Whether there is time for what is tried on validation after the training; said by
            the first validation, and kept.
    """

    share: float
    iteration_s: float
    validation: float
    next_validation: float = _FIRST_VALIDATION
    spacing: float = 1 / _VALIDATIONS
    closes: bool | None = None


class Pace(Protocol):
    """What the loop asks after each iteration."""

    def place(self, iteration: int) -> float:
        """The place of the next iteration on the learning rate's schedule, in iterations."""

    def advance(self, iteration: int, seconds: float, elapsed_s: float) -> None:
        """Takes in an iteration: its seconds, and those since the training began."""

    def validation_due(self, iteration: int) -> bool:
        """Whether a validation follows: at the end always."""

    def note_validation(self, seconds: float, elapsed_s: float) -> None:
        """Takes in what a validation took, and the seconds since the training began."""

    def ended(self, iteration: int) -> bool:
        """Whether the training is over."""


@dataclass(frozen=True)
class CountedPace:
    """So many iterations, and a validation after each so many."""

    iterations: int
    epoch_iterations: int

    def place(self, iteration: int) -> float:
        """See Pace."""
        return iteration

    def advance(self, iteration: int, seconds: float, elapsed_s: float) -> None:
        """See Pace."""

    def validation_due(self, iteration: int) -> bool:
        """See Pace."""
        return self.ended(iteration) or iteration % self.epoch_iterations == 0

    def note_validation(self, seconds: float, elapsed_s: float) -> None:
        """See Pace."""

    def ended(self, iteration: int) -> bool:
        """See Pace."""
        return iteration >= self.iterations


class TimedPace:
    """A training that fills the time that it has."""

    def __init__(self, budget: TimeBudget, iterations: int, timing: Timing | None = None) -> None:
        """Starts a training, or goes on with it.

        Args:
            budget: The time.
            iterations: How many iterations its schedule stands for.
            timing: How far it had come.
        """
        self.budget, self.iterations = budget, iterations
        guess = _GUESSED_VALIDATION * budget.seconds / budget.iteration_s
        self.timing = timing or Timing(0.0, budget.iteration_s, guess)

    def place(self, iteration: int) -> float:
        """See Pace."""
        return self.timing.share * self.iterations

    def advance(self, iteration: int, seconds: float, elapsed_s: float) -> None:
        """See Pace."""
        timing = self.timing
        timing.iteration_s += _NEWEST * (seconds - timing.iteration_s)
        validations = 1 + (timing.closes is not False) * self.budget.closing
        validations += self._validations_between()
        left_s = self.budget.seconds - elapsed_s
        left = left_s / timing.iteration_s - validations * timing.validation
        # The last iteration is the one that ends nearest to the time.
        timing.share = 1.0 if left < 0.5 else 1 - (1 - timing.share) * left / (left + 1)

    def validation_due(self, iteration: int) -> bool:
        """See Pace."""
        return self.timing.share >= self.timing.next_validation

    def note_validation(self, seconds: float, elapsed_s: float) -> None:
        """See Pace."""
        timing = self.timing
        timing.validation = seconds / timing.iteration_s
        if timing.closes is None:
            needed_s = self.budget.closing * seconds
            timing.closes = needed_s <= _CLOSING_SHARE * self.budget.seconds
        affordable = _VALIDATION_SHARE * (self.budget.seconds - elapsed_s) / max(seconds, 1e-6)
        spacing = (1 - timing.share) / (1 + max(0, math.floor(affordable)))
        timing.spacing = max(1 / _VALIDATIONS, spacing)
        timing.next_validation = min(1.0, timing.share + timing.spacing)

    def ended(self, iteration: int) -> bool:
        """See Pace."""
        return self.timing.share >= 1

    def _validations_between(self) -> int:
        """Those that will come before the last one."""
        timing = self.timing
        left = (1 - timing.next_validation) / timing.spacing
        return math.ceil(left - 1e-9)
