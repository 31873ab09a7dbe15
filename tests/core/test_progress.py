"""Long work says what it is, how far it is, and that it goes on."""

import logging
import time

import pytest

from bench.core import progress
from bench.core.progress import fill_silence, say_while, show_progress


@pytest.fixture
def said(monkeypatch, caplog):
    """The lines that are said, with signs of life every hundredth of a second."""
    monkeypatch.setattr(progress, "_SIGN_EVERY_S", 0.01)
    caplog.set_level(logging.INFO)
    return lambda: [record.message for record in caplog.records]


def test_what_is_done_is_said_at_once_and_again_until_it_ends(said):
    with say_while("trying tiles"):
        assert said()[0] == "trying tiles ..."
        time.sleep(0.1)
    lines = said()
    assert len(lines) >= 3
    assert set(lines[1:]) == {"trying tiles: 0 s so far"}
    time.sleep(0.05)
    assert said() == lines


def test_an_error_ends_the_signs_of_life(said):
    with pytest.raises(ValueError, match="it"), say_while("trying tiles"):
        raise ValueError("it")
    lines = said()
    time.sleep(0.05)
    assert said() == lines


def test_signs_of_long_work_say_how_far_it_is(said):
    with show_progress("cells") as advance:
        advance(1, 2, "vesicles")
        time.sleep(0.05)
        assert said()[1] == "cells: 1 of 2 vesicles: 0 s so far"
        advance(2, 2, "")
        assert "cells: 2 of 2 " in said()


def test_silence_is_filled_where_nothing_else_speaks(said, monkeypatch):
    monkeypatch.setattr(progress, "_SIGN_EVERY_S", 0.05)
    with fill_silence("evaluate"):
        with say_while("scoring"):
            time.sleep(0.2)
        assert not [line for line in said() if line.startswith("evaluate")]
        time.sleep(0.2)
    assert "evaluate: at work, 0 s so far" in said()


def test_silence_is_not_filled_while_others_speak(said, monkeypatch):
    monkeypatch.setattr(progress, "_SIGN_EVERY_S", 2.0)
    with fill_silence("evaluate"):
        for number in range(5):
            logging.getLogger("others").info("%d", number)
            time.sleep(0.01)
    assert said() == ["0", "1", "2", "3", "4"]


def test_later_signs_are_rarer(said, monkeypatch):
    monkeypatch.setattr(progress, "_LONG_S", 0.005)
    with say_while("training"):
        time.sleep(0.1)
    assert len(said()) == 2
