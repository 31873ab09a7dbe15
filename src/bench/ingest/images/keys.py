"""Keys of arrays: which one is meant where none is given."""

from collections.abc import Iterable
from pathlib import Path

from bench.core.names import first_names
from bench.errors import BenchError

CREMI_RAW = "volumes/raw"
# Levels of groups in a file or folder.
LARGEST_DEPTH = 32


def choose_key(path: Path, keys: Iterable[str], key: str = "") -> str:
    """Returns the usual one of the arrays below a key: CREMI's raw volume, or the only one."""
    keys = list(keys)
    if CREMI_RAW in keys:
        return CREMI_RAW
    if len(keys) != 1:
        raise no_array(path, key, keys)
    return keys[0]


def no_array(path: Path, key: str, keys: list[str]) -> BenchError:
    """Builds the error for a key that names no array."""
    received = f"key {key!r}" if key else "no key"
    return BenchError(
        f"the key must name one array of sections in {path}, received {received} and the arrays "
        f"{first_names(keys) or '(none)'}: give its key"
    )
