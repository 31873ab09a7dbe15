"""Names of annotated objects: tidied for messages, and the class that they say."""

import re
from pathlib import Path

from bench.core.names import first_names

UNCLASSIFIED = "unclassified"
LONGEST_NAME = 200
NUMBERS_AT_END = re.compile(r"([\s_.#:-]+[0-9]+)+$")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def tidy_name(name: str) -> str:
    """Returns a name as one short line of characters that can be printed."""
    shortened = name[:LONGEST_NAME]
    return " ".join("".join(c if c.isprintable() else " " for c in shortened).split())


def class_of_name(name: str) -> str:
    """Returns a name without the numbers at its end; empty where a program made it up.

    ImageJ's own names are positions (``0012-0345``), those of roifile are UUIDs.
    """
    text = NUMBERS_AT_END.sub("", name).strip()
    return text if any(map(str.isalpha, text)) and not UUID.fullmatch(name) else ""


def warn_of_left_out(path: Path, left_out: list[str]) -> tuple[str, ...]:
    """Returns the warning for what a file has besides areas; none where it has nothing else."""
    if not left_out:
        return ()
    return (f"{path}: {len(left_out)} without an area are left out: {first_names(left_out)}",)
