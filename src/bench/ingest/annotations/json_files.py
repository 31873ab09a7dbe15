"""Reads JSON that strangers wrote, and takes from it only what is of the type expected."""

import json
import reprlib
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bench.errors import BenchError
from bench.ingest.images.images import decode
from bench.ingest.images.limits import ANNOTATION_BYTES
from bench.ingest.object_names import tidy_name

SNIFFED_BYTES = 64 * 2**10
JSON_NAMES = {dict: "an object", list: "a list", str: "text", int: "a whole number"}

T = TypeVar("T")


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        BenchError: If it is unreadable, damaged, too large or nested too deeply.
    """
    return decode(path, lambda file: json.loads(read_whole(file)), "JSON file")


def read_start(path: Path) -> bytes:
    """Reads the beginning of a file, to find out what it is.

    Raises:
        BenchError: If it is unreadable.
    """

    def read(file: Path) -> bytes:
        with file.open("rb") as content:
            return content.read(SNIFFED_BYTES)

    return decode(path, read, "JSON file")


def read_whole(path: Path) -> bytes:
    """Reads a file if it is not too large."""
    size = path.stat().st_size
    if size > ANNOTATION_BYTES:
        raise BenchError(
            f"{path} must have no more than {ANNOTATION_BYTES >> 20} MB, received {size >> 20}: "
            "export it in several files"
        )
    return path.read_bytes()


def expect(value: Any, kind: type[T], what: str, where: Path | str) -> T:
    """Returns a value of a document if it is of its type.

    Args:
        value: The value.
        kind: dict, list, str or int.
        what: What it is called, for the message.
        where: The file, and the object in it, for the message.

    Raises:
        BenchError: If it is of another type.
    """
    if not isinstance(value, kind) or isinstance(value, bool):
        raise BenchError(
            f"{what} of {where} must be {JSON_NAMES[kind]}, received {show(value)}: export it again"
        )
    return value


def read_name(value: Any) -> str:
    """Returns text or a number as a name; empty for anything else."""
    return tidy_name(str(value)) if isinstance(value, str | int | float) else ""


def read_numbers(values: list[Any], where: str) -> np.ndarray:
    """Returns numbers as an array.

    Raises:
        BenchError: If some are missing or are no numbers.
    """
    try:
        return np.asarray(values, dtype=float)
    except (ValueError, TypeError, OverflowError) as error:
        raise BenchError(
            f"numbers of {where} must be complete, received {show(values)}: export it again"
        ) from error


def show(value: Any) -> str:
    """Returns a value as it is written in a message, however large it is."""
    return tidy_name(reprlib.repr(value))
