import threading
import time

import pytest

from bench.inference.tiles import read_ahead


def alive():
    return [t for t in threading.enumerate() if t.name.startswith("read_ahead")]


@pytest.mark.parametrize("enabled", [True, False])
def test_the_same_items_in_the_same_order(enabled):
    for count in (0, 1, 2, 50):
        with read_ahead(iter(range(count)), enabled=enabled) as read:
            assert list(read) == list(range(count))
    assert not alive()


def test_the_next_item_is_read_while_the_last_is_worked_on_and_no_other():
    seen, second = [], threading.Event()

    def items():
        for number in range(4):
            seen.append((number, threading.current_thread() is threading.main_thread()))
            if number == 1:
                second.set()
            yield number

    with read_ahead(items()) as read:
        assert next(read) == 0
        assert second.wait(10)
        time.sleep(0.05)
        assert seen == [(0, False), (1, False)]
    assert not alive()


def test_without_a_thread_an_item_is_read_when_it_is_asked_for():
    seen = []
    with read_ahead((seen.append(n) for n in range(3)), enabled=False) as read:
        next(read)
        assert seen == [0]


@pytest.mark.parametrize("enabled", [True, False])
def test_what_reading_raises_is_raised_after_the_items_before_it(enabled):
    def items():
        yield 1
        raise OSError("disk")

    got = []

    def read_all():
        with read_ahead(items(), enabled=enabled) as read:
            for item in read:
                got.append(item)

    with pytest.raises(OSError, match="disk"):
        read_all()
    assert got == [1]
    assert not alive()


def test_a_caller_that_fails_leaves_no_thread():
    def fail():
        with read_ahead(iter(range(10))) as read:
            next(read)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not alive()
