"""What every process of ours begins with. It stays light: `--help` answers at once."""

import contextlib
import functools
import gc
import importlib.metadata
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

# Seconds after which a lost signal is repeated.
_REPEAT_S = 0.01
# Where modules with rows from outside are named (docs/extending.md).
_PLUGIN_GROUP = "synapse_bench"
PLUGIN_VARIABLE = "BENCH_PLUGINS"


def set_up_process() -> None:
    """Sets up messages on stderr, and lets SIGTERM end a step as Ctrl-C does."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for chatty in ("alembic", "mlflow", "matplotlib", "fontTools", "tifffile", "git"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # It writes the traceback of what it raises as well.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    # No plugin of pydantic's has to watch what libraries make with it, and looking for one reads
    # every installed package.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    def interrupt_again(unraisable: "sys.UnraisableHookArgs") -> None:
        # A signal that arrives while Python clears an object away is lost: the exception can go
        # nowhere. The step would run on for ever, so the signal is repeated a moment later.
        if unraisable.exc_type is KeyboardInterrupt:
            signal.setitimer(signal.ITIMER_REAL, _REPEAT_S)
        else:
            sys.__unraisablehook__(unraisable)

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGALRM, interrupt)
    sys.unraisablehook = interrupt_again


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Imports in the block are not searched for garbage, neither in it nor later: there is none.

    The search took a fifth of what importing torch and MLflow costs, and its share of every later
    one grows with all that they brought. Later is for the first block of a process only: what it
    has made since may be garbage.

    What is installed does not change in the block either: MLflow and alembic ask a dozen times for
    entry points, and each time Python would read the files of every package.
    """
    gc.disable()
    find = importlib.metadata.entry_points
    # Python 3.11 calls all of them by another type than those of a group.
    every: Callable[[], Any] = functools.cache(find)

    def select(**wanted: str) -> importlib.metadata.EntryPoints:
        chosen: importlib.metadata.EntryPoints = every().select(**wanted)
        return chosen

    importlib.metadata.entry_points = select  # type: ignore[assignment]
    try:
        yield
    finally:
        importlib.metadata.entry_points = find
        _freeze_once()
        gc.enable()


@functools.cache
def _freeze_once() -> None:
    """Asking Python whether anything is frozen would go through all of it."""
    gc.freeze()


def named_plugins() -> dict[str, str]:
    """The modules with rows from outside, and the distribution of each that is installed as one."""
    points = importlib.metadata.entry_points(group=_PLUGIN_GROUP)
    installed = {point.module: point.dist.name if point.dist else "" for point in points}
    named = os.environ.get(PLUGIN_VARIABLE, "").split(",")
    return dict.fromkeys((name.strip() for name in named if name.strip()), "") | installed
