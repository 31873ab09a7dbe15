"""The next batches are drawn while the network computes on this one."""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

import torch

_Batch = tuple[torch.Tensor, torch.Tensor]


class _BatchSettings(Protocol):
    """What an objective must know of the batches."""

    @property
    def batch_size(self) -> int:
        """Patches in a batch."""

    @property
    def patch_px(self) -> int:
        """Edge of a patch."""

    @property
    def seed(self) -> int:
        """What they are drawn by."""


class Feed(Protocol):
    """Batches that are functions of the iteration alone."""

    @property
    def settings(self) -> _BatchSettings:
        """How they are drawn."""

    def batch(self, iteration: int) -> _Batch:
        """Draws the batch of an iteration."""


@contextmanager
def draw_ahead(feed: Feed, device: torch.device) -> Iterator[Feed]:
    """Lets a feed work a batch ahead where the network computes on a GPU.

    On a CPU it stays as it is: both would compete for the same cores.
    """
    if device.type == "cpu":
        yield feed
        return
    with Ahead(feed, device) as ahead:
        yield ahead


class Ahead:
    """A feed whose next batches are drawn in a thread, on a GPU in a stream of its own.

    As a batch depends on its iteration alone, it is the same as without. Whatever goes wrong in the
    thread is raised where its batch is asked for; asked again, it is drawn again.
    """

    def __init__(self, feed: Feed, device: torch.device, batches: int = 1) -> None:
        """Takes a feed.

        Args:
            feed: What is drawn from.
            device: Where its batches end up.
            batches: How many it is ahead at most. More make up for single slow ones, but draw none
                faster; what that gains was not measured (benchmarks/gpu.py).
        """
        self.feed, self.settings, self.batches = feed, feed.settings, batches
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="next batch")
        self.coming: deque[tuple[int, Future[_Batch]]] = deque()

    def __enter__(self) -> "Ahead":
        """Draws nothing before it is asked."""
        return self

    def __exit__(self, *_: object) -> None:
        """Waits for the batch that is being drawn; no thread is left."""
        self.thread.shutdown(wait=True, cancel_futures=True)

    def batch(self, iteration: int) -> _Batch:
        """Hands out the batch of an iteration, and begins with the next ones."""
        if not self.coming or self.coming[0][0] != iteration:
            self.coming.clear()
            self._begin(iteration)
        _, drawn = self.coming.popleft()
        batch = drawn.result()
        if self.stream is not None:
            # Its memory is not reused before the network's stream, too, is done with it.
            for tensor in batch:
                tensor.record_stream(torch.cuda.current_stream(tensor.device))
        for following in range(iteration + 1 + len(self.coming), iteration + 1 + self.batches):
            self._begin(following)
        return batch

    def _begin(self, iteration: int) -> None:
        self.coming.append((iteration, self.thread.submit(self.draw, iteration)))

    def draw(self, iteration: int) -> _Batch:
        """Draws a batch and waits until it is there."""
        if self.stream is None:
            return self.feed.batch(iteration)
        with torch.cuda.stream(self.stream):
            batch = self.feed.batch(iteration)
        self.stream.synchronize()
        return batch


def wait_for_batch(feed: Feed, iteration: int) -> tuple[_Batch, float]:
    """Returns a batch, and the seconds that it took to get it."""
    asked = time.monotonic()
    return feed.batch(iteration), time.monotonic() - asked
