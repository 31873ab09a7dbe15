"""Reading one item ahead in a thread, while the caller works on the one before."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
END = object()


@contextmanager
def read_ahead(items: Iterable[Item], *, enabled: bool = True) -> Iterator[Iterator[Item]]:
    """Reads the next item in a thread while the caller has the last one.

    Within the context come the same items in the same order, and what reading raises; after it,
    however it was left, the thread has ended. Two items exist at a time.

    Args:
        items: Read by the thread alone.
        enabled: False reads where items are asked for, without a thread.
    """
    if not enabled:
        yield iter(items)
        return
    iterator = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="read_ahead") as thread:

        def take() -> Iterator[Item]:
            coming = thread.submit(next, iterator, END)
            while (item := coming.result()) is not END:
                coming = thread.submit(next, iterator, END)
                yield item  # type: ignore[misc]

        yield take()
