"""Pickles of other programs, read without running anything that they name.

A pickle calls the functions and classes that it names. Here every name but those that rebuild
tensors is replaced by an inert stand-in, which keeps the state that belongs to it and runs
nothing: what such a file can do is fill memory.
"""

import logging
import re
from _compat_pickle import IMPORT_MAPPING
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from bench.errors import BenchError

log = logging.getLogger(__name__)

# What a torch_em checkpoint names: its datasets, transforms, losses; one of ultralytics its layers.
# __main__ is the script that trained it. Nothing of them runs; another name means that the file is
# not what we take it for.
_KNOWN = re.compile(
    r"(__main__|bioimage_cpp|collections|elf|functools|kornia|micro_sam|numpy|pathlib|scipy|"
    r"skimage|synapse_net|torch|torch_em|torchvision|ultralytics)\..+|"
    r"builtins\.(bool|dict|float|frozenset|getattr|int|list|object|range|slice|str|tuple|type)"
)


class _StandIn:
    """Holds the place of an object that a pickle describes, with its full name and its state."""

    name = ""

    def __new__(cls, *_: Any) -> "_StandIn":
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def read_inert(path: Path) -> Any:
    """Reads a file of torch.save: plain values and tensors, and a _StandIn for all else.

    Raises:
        BenchError: If it is none, is not whole, or names something that _KNOWN does not have.
    """
    try:
        with _no_safe_globals():
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception as error:
        raise _unreadable(path, error) from error
    strange = [_modern_name(name) for name in names if not _KNOWN.fullmatch(name)]
    if strange:
        raise BenchError(
            f"a checkpoint must name nothing but what a model is made of, {path} names "
            f"{', '.join(sorted(strange))}: do not use it, or set trust_checkpoint=true if you "
            "trust where it comes from"
        )
    try:
        with _no_safe_globals():
            stand_ins = [(type("Named", (_StandIn,), {"name": name}), name) for name in names]
            torch.serialization.add_safe_globals(stand_ins)  # type: ignore[arg-type]
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise _unreadable(path, error) from error


def read_trusted(path: Path) -> Any:
    """Reads a file of torch.save and runs what it says.

    Raises:
        BenchError: If that fails.
    """
    log.warning("%s is trusted: the program that it contains runs", path)
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise _unreadable(path, error) from error


def _modern_name(name: str) -> str:
    """What Python 3 calls something: torch.save writes some modules' names of Python 2."""
    module, _, last = name.rpartition(".")
    return f"{IMPORT_MAPPING.get(module, module)}.{last}"


@contextmanager
def _no_safe_globals() -> Iterator[None]:
    """Takes back, meanwhile, what other libraries allow pickles to call: mlflow does."""
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(allowed)


def _unreadable(path: Path, error: Exception) -> BenchError:
    # torch puts a page of advice for programmers around the reason.
    text = str(error).partition("WeightsUnpickler error:")[2] or str(error)
    reason = (text.strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, UnpicklingError):
        remedy = "set trust_checkpoint=true if you trust where it comes from"
    else:
        remedy = "copy it again"
    return BenchError(f"{path} is not a whole checkpoint of torch.save ({reason}): {remedy}")


def name_of(value: Any) -> str:
    """Full name of a value's class, or of the value if it is a class; StandIns as they say."""
    kind = value if isinstance(value, type) else type(value)
    if issubclass(kind, _StandIn):
        return kind.name
    return f"{kind.__module__}.{kind.__qualname__}"


def attributes_of(value: Any) -> dict[str, Any]:
    """Attributes of an object; of a _StandIn, those that the pickle gives it."""
    state = value.state if isinstance(value, _StandIn) else getattr(value, "__dict__", None)
    return state if isinstance(state, dict) else {}
