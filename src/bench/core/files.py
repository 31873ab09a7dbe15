"""Files that are either whole or absent."""

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from bench.errors import BenchError


def describe_absence(path: Path) -> str:
    """Says that nothing is at a path, and where that is if the path is relative."""
    return "nothing there" if path.is_absolute() else f"nothing at {path.absolute()}"


def check_output(folder: Path) -> None:
    """Raises BenchError where a folder cannot be made or written, before work is done for it."""
    paths = (folder.absolute(), *folder.absolute().parents)
    nearest = next(path for path in paths if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        kind = "that may not be written" if nearest.is_dir() else "which is a file"
        raise BenchError(
            f"output must be a folder that can be written, received {folder} in {nearest}, {kind}: "
            "give yourself permission, or choose another output"
        )


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file under a temporary name beside it, then renames it into place.

    A process killed at any moment leaves the file that was there before, or the new one.

    Args:
        path: The file; its folder is made.
        write: Writes the content to the path that it is given.

    Raises:
        BenchError: If no space is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except Exception as error:
        # The words, because the safetensors library has an exception of its own.
        if os.strerror(errno.ENOSPC) in str(error):
            raise BenchError(
                f"there must be space for {path}, none is left: free some, the same command "
                "goes on where it stopped"
            ) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_binary(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a binary file whole; ``write`` is given the open file."""

    def write_to(temporary: Path) -> None:
        with temporary.open("wb") as file:
            write(file)

    write_whole(path, write_to)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file whole, readable by people."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock of a file, which is made, for a block; waits while another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
