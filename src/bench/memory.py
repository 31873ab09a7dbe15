"""Too little memory, said in one line that names what to lower."""

import contextlib
from collections.abc import Iterator

import torch

from bench.errors import BenchError

# What torch says where the memory of the machine, not of a GPU, does not suffice.
CPU_SAYS = ("can't allocate memory", "not enough memory")


@contextlib.contextmanager
def explain_out_of_memory(what: str, remedy: str) -> Iterator[None]:
    """Turns an allocation that failed in the block into a BenchError.

    Args:
        what: What needs the memory: "a batch of 8 patches".
        remedy: What to lower, with its value now.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise too_little(what, remedy, error) from error
    except RuntimeError as error:
        if not any(words in str(error) for words in CPU_SAYS):
            raise
        raise too_little(what, remedy, error) from error


def too_little(what: str, remedy: str, error: BaseException) -> BenchError:
    """Builds the error."""
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return BenchError(f"{what} must fit into the memory, it does not ({first}): {remedy}")
