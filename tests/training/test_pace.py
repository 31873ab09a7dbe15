"""Trainings by the clock, on a clock of their own: what fills the time, and what it does to it."""

from itertools import pairwise

import pytest

from bench.training.pace import CountedPace, TimeBudget, TimedPace


def simulate(budget, *, iteration_s, validation_s, other_s=0.0):
    """Trains on paper; returns when it ended, the places of its iterations, and validations."""
    pace = TimedPace(budget, 100)
    now, done, places, validations = 0.0, 0, [], []
    while not pace.ended(done):
        places.append(pace.place(done))
        seconds = iteration_s(now)
        now, done = now + seconds + other_s, done + 1
        pace.advance(done, seconds, now)
        if pace.validation_due(done):
            seconds = validation_s(now)
            now += seconds
            pace.note_validation(seconds, now)
            validations.append(now)
    if pace.timing.closes:
        now += budget.closing * validation_s(now)
    return now, places, validations


def test_a_counted_training_is_as_it_was():
    pace = CountedPace(iterations=7, epoch_iterations=3)
    due = [done for done in range(1, 8) if pace.validation_due(done)]
    assert (due, pace.place(4), pace.ended(6), pace.ended(7)) == ([3, 6, 7], 4, False, True)


def test_an_even_training_grows_by_equal_shares():
    # Ten seconds, iterations of one, validations of no time: ten iterations.
    end, places, _ = simulate(
        TimeBudget(10.0, 1.0), iteration_s=lambda now: 1.0, validation_s=lambda now: 0.0
    )
    assert (end, len(places)) == (10.0, 10)
    # Until the first validation it is guessed to take a fiftieth of the time: a step too long.
    assert places == pytest.approx([10 * n for n in range(10)], abs=3)


@pytest.mark.parametrize("minutes", [1, 3, 15])
@pytest.mark.parametrize("measured", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("validation_s", [0.1, 3.0])
@pytest.mark.parametrize("slower", [1.0, 2.0, 0.5])
def test_it_ends_in_time_whatever_the_machine_does(minutes, measured, validation_s, slower):
    """The speed measured is wrong by ``measured``, and changes by ``slower`` on the way."""
    seconds, real_s = 60 * minutes, 0.4

    def load(now):
        return slower if now > 0.4 * seconds else 1.0

    end, places, validations = simulate(
        TimeBudget(seconds, real_s * measured, closing=3),
        iteration_s=lambda now: real_s * load(now),
        validation_s=lambda now: validation_s * load(now),
        other_s=0.02,
    )
    assert 0.9 * seconds < end < 1.05 * seconds
    # The rate falls all the way, in steps that a schedule does not feel.
    steps = [after - before for before, after in pairwise(places)]
    assert min(steps) > 0
    assert places[-1] > 100 - 4 * max(steps[-3:])
    assert 2 <= len(validations) <= 12


def test_validations_that_take_long_are_few():
    _, _, few = simulate(
        TimeBudget(180.0, 0.5), iteration_s=lambda now: 0.5, validation_s=lambda now: 20.0
    )
    assert len(few) == 2


def test_what_is_tried_after_a_training_is_left_out_where_it_takes_long():
    budget = TimeBudget(100.0, 1.0, closing=3)
    pace = TimedPace(budget, 100)
    pace.note_validation(3.0, 3.0)
    assert pace.timing.closes
    late = TimedPace(budget, 100)
    late.note_validation(4.0, 4.0)
    assert not late.timing.closes
    # What the first validation says is kept: the time for it is there.
    pace.note_validation(4.0, 50.0)
    assert pace.timing.closes


def test_a_killed_training_goes_on_from_its_timing():
    budget = TimeBudget(10.0, 1.0)
    whole, part = TimedPace(budget, 100), TimedPace(budget, 100)
    for done in (1, 2, 3):
        whole.advance(done, 1.0, float(done))
        part.advance(done, 1.0, float(done))
    resumed = TimedPace(budget, 100, part.timing)
    for done in (4, 5):
        whole.advance(done, 1.0, float(done))
        resumed.advance(done, 1.0, float(done))
    assert resumed.place(5) == whole.place(5) > 40
