"""How far a long step has come: a bar on a terminal, a line now and then elsewhere."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger(__name__)

# Seconds between lines where there is no terminal to draw a bar on.
_LINE_EVERY_S = 30

# Takes what is done, of how much, and a remark ("loss 0.12").
_Advance = Callable[[int, int, str], None]


@contextlib.contextmanager
def show_progress(what: str) -> Iterator[_Advance]:
    """Shows the progress of the block; call what it yields as work gets done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines_of_progress(what)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=None, remark="")

        def advance(done: int, total: int, remark: str = "") -> None:
            bar.update(task, completed=done, total=total, remark=remark)

        yield advance


def _lines_of_progress(what: str) -> _Advance:
    """Reports progress as log lines, at most one every _LINE_EVERY_S and one at the end."""
    last = time.monotonic()

    def advance(done: int, total: int, remark: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if done == total or now - last >= _LINE_EVERY_S:
            last = now
            log.info("%s: %d of %d %s", what, done, total, remark)

    return advance
