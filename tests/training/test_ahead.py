import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from bench.training.ahead import Ahead, draw_ahead
from bench.training.augment import Augmentation
from bench.training.patches import PatchFeed, PatchSettings

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Settings:
    batch_size: int = 1
    patch_px: int = 2


class Numbered:
    """Batches that hold their iteration; fails, or waits, where told to."""

    settings = Settings()

    def __init__(self, fails=(), gate=None):
        self.fails, self.gate = set(fails), gate
        self.drawn, self.threads = [], set()
        self.begun = threading.Event()

    def batch(self, iteration):
        self.begun.set()
        if self.gate is not None:
            assert self.gate.wait(20)
        self.drawn.append(iteration)
        self.threads.add(threading.current_thread())
        if iteration in self.fails:
            self.fails.discard(iteration)
            raise RuntimeError(f"batch {iteration}")
        return torch.full((1,), iteration), torch.full((1,), -iteration)


def wait_until(reached):
    end = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.001)


def values(batch):
    return [tensor.item() for tensor in batch]


def test_batches_come_in_the_order_they_are_asked_for():
    feed = Numbered()
    with Ahead(feed, CPU) as ahead:
        for iteration in (0, 1, 2, 7, 8, 3, 3):
            assert values(ahead.batch(iteration)) == [iteration, -iteration]
    assert feed.drawn[:6] == [0, 1, 2, 3, 7, 8]
    assert threading.main_thread() not in feed.threads
    assert len(feed.threads) == 1


def test_the_next_batch_is_drawn_while_the_caller_works():
    feed = Numbered()
    with Ahead(feed, CPU) as ahead:
        ahead.batch(0)
        wait_until(lambda: feed.drawn == [0, 1])


def test_several_batches_ahead():
    feed = Numbered()
    with Ahead(feed, CPU, batches=3) as ahead:
        ahead.batch(0)
        wait_until(lambda: feed.drawn == [0, 1, 2, 3])
        for iteration in (1, 2, 9, 10, 3):
            assert values(ahead.batch(iteration)) == [iteration, -iteration]
    assert feed.drawn[:6] == [0, 1, 2, 3, 4, 5]
    assert len(feed.threads) == 1


def test_batches_are_those_of_the_feed():
    random = np.random.default_rng(0)
    raw = random.integers(0, 256, (90, 80), dtype=np.uint8)
    settings = PatchSettings(32, 3, 0.5, Augmentation(True, True, 4.0, 0.1), seed=5)
    feed = PatchFeed([(raw, (raw > 200).astype(np.uint8))], settings, CPU)
    with Ahead(feed, CPU) as ahead:
        assert ahead.settings == settings
        for iteration in (4, 5, 6, 2):
            for found, wanted in zip(ahead.batch(iteration), feed.batch(iteration), strict=True):
                assert torch.equal(found, wanted)


def test_errors_are_raised_where_the_batch_is_asked_for():
    feed = Numbered(fails={2})
    with Ahead(feed, CPU) as ahead:
        assert values(ahead.batch(0)) == [0, 0]
        assert values(ahead.batch(1)) == [1, -1]
        with pytest.raises(RuntimeError, match="batch 2"):
            ahead.batch(2)
        assert values(ahead.batch(2)) == [2, -2]
        assert values(ahead.batch(3)) == [3, -3]


def test_an_error_beyond_the_last_batch_is_nobodys():
    with Ahead(Numbered(fails={1}), CPU) as ahead:
        assert values(ahead.batch(0)) == [0, 0]


def train_until(error):
    with Ahead(Numbered(), CPU) as ahead:
        ahead.batch(0)
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_no_thread_is_left_whatever_ends_the_training(error):
    before = set(threading.enumerate())
    with pytest.raises(error):
        train_until(error)
    assert set(threading.enumerate()) == before


def test_leaving_waits_for_the_batch_that_is_being_drawn():
    gate = threading.Event()
    gate.set()
    feed = Numbered(gate=gate)
    with Ahead(feed, CPU) as ahead:
        ahead.batch(0)
        wait_until(lambda: feed.drawn == [0, 1])
        gate.clear()
        feed.begun.clear()
        ahead.batch(1)
        assert feed.begun.wait(20)
        threading.Timer(0.05, gate.set).start()
    assert feed.drawn == [0, 1, 2]


def test_a_cpu_draws_its_batches_itself():
    feed = Numbered()
    with draw_ahead(feed, CPU) as same:
        assert same is feed


def test_other_devices_draw_ahead():
    feed = Numbered()
    with draw_ahead(feed, torch.device("meta")) as ahead:
        assert isinstance(ahead, Ahead)
        assert values(ahead.batch(3)) == [3, -3]
