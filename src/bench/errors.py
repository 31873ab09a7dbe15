"""The one exception that a user's input may cause."""

from collections.abc import Iterable


class BenchError(Exception):
    """Input the suite cannot work with.

    The message is one line that states what must hold, what was received, and what to do about
    it. Entry points print it without a traceback and exit with status 2.
    """


def unknown_name(kind: str, name: str, known: Iterable[str]) -> BenchError:
    """Builds the error for a name that a literal table does not have.

    Args:
        kind: What the table holds, as the user would say it ("structure").
        name: The name received.
        known: The names that the table has.
    """
    names = ", ".join(sorted(known))
    return BenchError(f"unknown {kind} {name!r}: choose one of {names}")
