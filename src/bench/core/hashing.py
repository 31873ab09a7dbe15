"""Names for content: SHA-256 of files and of plain values."""

import hashlib
import json
from pathlib import Path
from typing import Any


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal; the file is read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def path_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, or of all names and files below a folder."""
    if not path.is_dir():
        return file_sha256(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return json_sha256([[file.relative_to(path).as_posix(), file_sha256(file)] for file in files])


def json_sha256(value: Any) -> str:
    """Returns the SHA-256 of a value's canonical JSON, in hexadecimal.

    Canonical is UTF-8 with sorted keys and no blanks, so the order of a dict does not matter and
    that of a list does; a tuple counts as a list.

    Raises:
        TypeError: If the value holds something that JSON has no form for.
        ValueError: If it holds a number that is not finite.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
