"""Names of sections: their order, and short lists of them for messages."""

import re
import unicodedata
from collections.abc import Sequence

_NAMES_IN_A_MESSAGE = 3


def natural_key(name: str) -> tuple[tuple[str | int, ...], str]:
    """Returns a key that sorts numbers in names by value: ``s2`` before ``s10``.

    Names whose numbers differ only in leading zeros are ordered by their characters.
    """
    # Python refuses numbers of more than a few thousand digits, and no series is that long.
    parts = re.split(r"([0-9]{1,18})", name)
    return tuple(int(part) if part.isdecimal() else part for part in parts), name


def first_names(names: Sequence[str]) -> str:
    """Returns the first few names in natural order and how many more there are."""
    ordered = sorted(names, key=natural_key)
    listed = ", ".join(ordered[:_NAMES_IN_A_MESSAGE])
    rest = len(ordered) - _NAMES_IN_A_MESSAGE
    return f"{listed} and {rest} more" if rest > 0 else listed


def same_form(name: str) -> str:
    """Returns a name in the form in which equal names are equal.

    Systems write an accent as part of its letter or as a character of its own (NFC and NFD).
    """
    return unicodedata.normalize("NFC", name)


def place_in_series(name: str) -> tuple[str, int] | None:
    """The series that a section is of, and its number there, by the number its name ends with.

    Sections of a stack are called so by `prepare`, and most images of serial sections by those who
    took them.

    Examples:
        >>> place_in_series("test-stack_z07"), place_in_series("test-left")
        (('test-stack_z', 7), None)
    """
    found = re.search(r"[0-9]{1,18}$", name)
    return (name[: found.start()], int(found[0])) if found else None


# A run as the source of another.
_RUNS = "runs:/"


def run_of(source: str) -> str:
    """The run in ``runs:/ID`` or ``runs:/ID/checkpoint``; empty for any other source."""
    return source.removeprefix(_RUNS).partition("/")[0] if source.startswith(_RUNS) else ""


def run_path(source: str) -> str:
    """What follows the run in ``runs:/ID/checkpoint``; empty if nothing does."""
    return source.removeprefix(_RUNS).partition("/")[2] if source.startswith(_RUNS) else ""
