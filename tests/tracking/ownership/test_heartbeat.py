import threading
from dataclasses import replace

import pytest

from bench.tracking.ownership import heartbeat
from bench.tracking.ownership.heartbeat import Heart, SignWatch, make_beat, read_beat


@pytest.fixture
def clock():
    """A clock that is set by hand."""

    class Clock:
        now = 0.0

        def __call__(self):
            return self.now

    return Clock()


@pytest.fixture
def far():
    """A sign of life from another machine, whose clock is a day behind."""
    beat = make_beat()
    holder = replace(beat.holder, host="far", boot="far", machine="far")
    return replace(beat, holder=holder, time=beat.time - 86400)


def test_a_sign_survives_its_tag_and_nothing_else_is_one():
    beat = replace(make_beat(3), time=0.0)
    assert read_beat(beat.text()) == beat
    assert beat.last_alive() == "1970-01-01 00:00:00 UTC"
    for text in ("", "alive", "3", "[]", "{}", '{"holder": 1}', '{"holder": {"pid": 1}}'):
        assert read_beat(text) is None


def test_a_process_of_this_machine_is_looked_up(clock):
    watch, beat = SignWatch(60, clock), make_beat()
    dead = replace(beat, holder=replace(beat.holder, started="1"))
    assert watch.is_stale("run", dead)
    for clock.now in range(0, 10_000, 30):
        assert not watch.is_stale("run", beat)


def test_far_away_it_is_gone_when_seen_silent_for_the_expiry_by_our_clock(clock, far):
    watch = SignWatch(100, clock)
    seen = []
    for clock.now in range(0, 150, 30):
        seen.append(watch.is_stale("run", far))
    assert seen == [False, False, False, False, True]
    # It lives after all, and its clock went back.
    assert not watch.is_stale("run", replace(far, time=far.time - 3600))
    assert not watch.is_stale("another", far)


def test_while_we_could_not_look_nobody_was_silent(clock, far):
    watch = SignWatch(600, clock)
    assert not watch.is_stale("run", far)
    clock.now = 3600
    assert not watch.is_stale("run", far)


def test_a_heart_beats_until_stopped_and_outlives_errors(monkeypatch):
    monkeypatch.setattr(heartbeat, "SIGN_INTERVAL_S", 0.01)
    beats, enough = [], threading.Event()

    def beat():
        beats.append(1)
        if len(beats) == 5:
            enough.set()
        raise OSError("the server is away")

    heart = Heart(beat)
    assert beats, "the first sign is given at once"
    assert enough.wait(10)
    heart.stop()
    count = len(beats)
    assert not enough.clear()
    assert not enough.wait(0.1)
    assert len(beats) == count
