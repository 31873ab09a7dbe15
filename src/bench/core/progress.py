"""How far a long step has come: a bar on a terminal, lines elsewhere; never silent for long."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

log = logging.getLogger(__name__)

# Seconds between signs of life: of what takes long, later ones are rarer, as its log is read later.
_SIGN_EVERY_S = 5.0
_LONG_S = 60.0
_LATER_EVERY_S = 30.0
# One entry for each block that shows what it does.
_blocks: list[None] = []

# Takes what is done, of how much, and a remark ("loss 0.12").
_Advance = Callable[[int, int, str], None]


@contextlib.contextmanager
def show_progress(what: str) -> Iterator[_Advance]:
    """Shows the progress of the block; call what it yields as work gets done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        with _lines_of_progress(what) as advance:
            yield advance
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}"),
    )
    with shows_itself(), Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=None, remark="")

        def advance_bar(done: int, total: int, remark: str = "") -> None:
            bar.update(task, completed=done, total=total, remark=remark)

        yield advance_bar


@contextlib.contextmanager
def say_while(what: str, *, at_once: bool = True) -> Iterator[None]:
    """Says what the block does, and from time to time that it still does it.

    Args:
        what: What it does.
        at_once: Whether that is said when it begins; else only once it has taken long.
    """
    if at_once:
        log.info("%s ...", what)
    with _signs_of_life(what, lambda: ""):
        yield


@contextlib.contextmanager
def _lines_of_progress(what: str) -> Iterator[_Advance]:
    """Says what the block does, how far it is from time to time, and when all is done."""
    state = ""

    def advance(done: int, total: int, remark: str = "") -> None:
        nonlocal state
        state = f"{done} of {total} {remark}"
        if done == total:
            log.info("%s: %s", what, state)

    log.info("%s ...", what)
    with _signs_of_life(what, lambda: state):
        yield advance


@contextlib.contextmanager
def _signs_of_life(what: str, describe: Callable[[], str]) -> Iterator[None]:
    """Logs what a block does, how far it is and for how long, until it ends."""
    began = time.monotonic()

    def tell(ended: threading.Event) -> None:
        passed_s = 0.0
        while not ended.wait(_SIGN_EVERY_S if passed_s < _LONG_S else _LATER_EVERY_S):
            passed_s = time.monotonic() - began
            parts = (what, describe().strip(), f"{passed_s:.0f} s so far")
            log.info("%s", ": ".join(filter(None, parts)))

    with _in_background(tell, f"signs of {what}"), shows_itself():
        yield


@contextlib.contextmanager
def _in_background(tell: Callable[[threading.Event], None], name: str) -> Iterator[None]:
    """Runs a function in a thread until the block ends, which sets the event that it is given."""
    ended = threading.Event()
    thread = threading.Thread(target=tell, args=(ended,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def shows_itself() -> Iterator[None]:
    """Marks a block that shows by itself what it does."""
    _blocks.append(None)
    try:
        yield
    finally:
        _blocks.pop()


@contextlib.contextmanager
def fill_silence(what: str) -> Iterator[None]:
    """Says from time to time that a block goes on, where nothing else says anything meanwhile."""
    heard, began = _LastMessage(), time.monotonic()

    def tell(ended: threading.Event) -> None:
        tick_s = _SIGN_EVERY_S / 5
        while not ended.wait(tick_s):
            if not _blocks and time.monotonic() - heard.at >= _SIGN_EVERY_S - tick_s:
                log.info("%s: at work, %.0f s so far", what, time.monotonic() - began)

    logging.getLogger().addHandler(heard)
    try:
        with _in_background(tell, f"silence of {what}"):
            yield
    finally:
        logging.getLogger().removeHandler(heard)


class _LastMessage(logging.Handler):
    """Knows when anything was said last."""

    def __init__(self) -> None:
        super().__init__()
        self.at = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        self.at = time.monotonic()
