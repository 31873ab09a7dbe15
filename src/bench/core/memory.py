"""Too little memory, said in one line that names what to lower."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.errors import BenchError

# Where a container's limit is.
CGROUP = Path("/sys/fs/cgroup")
# What torch says where the memory of the machine, not of a GPU, does not suffice.
_CPU_SAYS = ("can't allocate memory", "not enough memory")


@contextlib.contextmanager
def explain_out_of_memory(what: str, remedy: str) -> Iterator[None]:
    """Turns an allocation that failed in the block into a BenchError.

    Args:
        what: What needs the memory: "a batch of 8 patches".
        remedy: What to lower, with its value now.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        says = str(error)
        # Where it is not loaded it raised nothing.
        torch = sys.modules.get("torch")
        known = isinstance(error, MemoryError) or (
            torch and isinstance(error, torch.OutOfMemoryError)
        )
        if not known and not any(words in says for words in _CPU_SAYS):
            raise
        reason = says.splitlines()[0] if says else type(error).__name__
        raise BenchError(
            f"{what} must fit into the memory, it does not ({reason}): {remedy}"
        ) from error


def free_bytes() -> int:
    """Memory that this process may still take: of the machine, or of its container."""
    import psutil

    free = int(psutil.virtual_memory().available)
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return free
    return free if limit == "max" else min(free, max(0, int(limit) - used))


def check_memory(needed: int, what: str, remedy: str) -> None:
    """Raises BenchError where too little memory is free, before the system ends the process.

    Args:
        needed: Bytes.
        what: What needs them: "m.tif of 7000 x 7000 px".
        remedy: What to do.
    """
    free = free_bytes()
    if needed > free:
        raise BenchError(
            f"an image and its maps must fit into the memory, {what} needs about "
            f"{needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free: {remedy}"
        )
