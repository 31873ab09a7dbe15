"""The one exception that a user's input may cause."""

import difflib
from collections.abc import Iterable


class BenchError(Exception):
    """Input the suite cannot work with.

    The message is one line that states what must hold, what was received, and what to do about
    it. Entry points print it without a traceback and exit with status 2.
    """


class MissingFileError(BenchError):
    """A published file is not here and cannot be fetched.

    Attributes:
        model: What it belongs to.
        files: Where each missing file is published, and the path at which it is looked for.
    """

    def __init__(self, message: str, *, model: str, files: tuple[tuple[str, str], ...]) -> None:
        """Takes the line that is printed, and what others make of it."""
        super().__init__(message)
        self.model, self.files = model, files


# What else an unknown row may be.
OUTSIDE = ", or name the plugin that has it in BENCH_PLUGINS"


def unknown_name(kind: str, name: str, known: Iterable[str], otherwise: str = "") -> BenchError:
    """Builds the error for a name that is not one of those there are, and says the nearest.

    Args:
        kind: What the table holds, as the user would say it ("structure").
        name: The name received.
        known: The names that there are.
        otherwise: What else can be done, after them.
    """
    names = sorted(known)
    nearest = nearest_name(name, names)
    hint = f" (did you mean {nearest}?)" if nearest else ""
    listed = ", ".join(names) or "none"
    return BenchError(f"unknown {kind} {name!r}: choose one of {listed}{hint}{otherwise}")


def nearest_name(name: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """The name that another is most like; empty where none is like it.

    Args:
        name: What was typed.
        known: The names that there are.
        likeness: How like, 0 to 1 (the ratio of `difflib.SequenceMatcher`).

    Examples:
        >>> nearest_name("ribon", ["membrane", "ribbon"])
        'ribbon'
    """
    found = difflib.get_close_matches(name.strip().lower(), list(known), 1, likeness)
    return found[0] if found else ""
