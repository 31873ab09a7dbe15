"""Tasks that depend on tasks, run on the workers of dask.distributed as they become free."""

import contextlib
import functools
import logging
import queue
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from bench.errors import BenchError

if TYPE_CHECKING:
    from distributed import Client, Future

log = logging.getLogger(__name__)

# Every worker has one of these, and every task takes one: a GPU, or the place of one.
GPU = "GPU"
# Until a task is tried again that a process outside of the cluster does now.
AGAIN_S = 3.0
# How often a task is begun whose process is killed; dask does the same where a worker is lost.
_ATTEMPTS = 3
LOOK_S = 0.5


@dataclass(frozen=True)
class Task:
    """A piece of work.

    Attributes:
        name: What names it to people, and in the graph.
        payload: What the worker is called with.
        needs: Names of the tasks whose results it needs.
        wants: Names of those it only waits for: they may fail.
    """

    name: str
    payload: Any
    needs: tuple[str, ...] = ()
    wants: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a task.

    Attributes:
        state: ``done``; ``failed``; ``busy``: somebody else does it now, it is to be tried again;
            ``killed``: its process was, or its scheduler; it is to be tried again, not for ever.
        value: Its result, if it is done.
        reason: Why not, if it is not.
    """

    state: Literal["done", "failed", "busy", "killed"]
    value: Any = None
    reason: str = ""


_Report = Callable[[Task, Outcome], None]


@dataclass
class _Progress:
    """How far a graph has come; tasks are by name, ``again`` says when to try a busy one again."""

    waiting: dict[str, Task]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    running: "dict[Future[Any], Task]" = field(default_factory=dict)
    ended: "queue.SimpleQueue[Future[Any]]" = field(default_factory=queue.SimpleQueue)
    again: dict[str, float] = field(default_factory=dict)
    killed: Counter[str] = field(default_factory=Counter)

    def end(self, task: Task, outcome: Outcome, report: _Report) -> None:
        """Keeps what became of a task; whatever needs a failed one is not tried."""
        self.outcomes[task.name] = outcome
        report(task, outcome)
        if outcome.state == "failed":
            for other in [t for t in self.waiting.values() if task.name in t.needs]:
                del self.waiting[other.name]
                reason = f"skipped, its {task.name} failed: {outcome.reason}"
                self.end(other, Outcome("failed", reason=reason), report)

    def take(self, task: Task, outcome: Outcome, report: _Report) -> None:
        if outcome.state == "busy":
            if task.name not in self.again:
                log.info("%s: later: %s", task.name, outcome.reason)
            self.again[task.name] = time.monotonic() + AGAIN_S
            self.waiting[task.name] = task
        elif outcome.state == "killed" and self.killed[task.name] + 1 < _ATTEMPTS:
            log.warning("%s: again: %s", task.name, outcome.reason)
            self.killed[task.name] += 1
            self.waiting[task.name] = task
        elif outcome.state == "killed":
            reason = f"{outcome.reason}, {_ATTEMPTS} times over"
            self.end(task, Outcome("failed", reason=reason), report)
        else:
            self.end(task, outcome, report)

    def ready(self) -> list[Task]:
        now = time.monotonic()
        return [
            task
            for task in self.waiting.values()
            if all(name in self.outcomes for name in task.needs + task.wants)
            and self.again.get(task.name, 0.0) <= now
        ]


def run_graph(
    tasks: Iterable[Task],
    client: "Client",
    call: Callable[[Any], Outcome],
    report: _Report = lambda task, outcome: None,
    look: Callable[[], None] = lambda: None,
) -> dict[str, Outcome]:
    """Runs a graph; a task that fails does not stop those that do not need it.

    The task of a worker that is lost goes to another one, by the rules of dask
    (``distributed.scheduler.allowed-failures``).

    Args:
        tasks: The tasks.
        client: The client of the cluster.
        call: Called on a worker with a task's ``payload``, and the ``results`` of those that it
            needs and wants, by name.
        report: Called here with every task that ended; what it raises ends the graph.
        look: Called here every moment.

    Returns:
        What became of each task, by name.
    """
    progress = _Progress({task.name: task for task in longest_first(list(tasks))})
    try:
        _go_on(progress, client, call, report, look)
    except BaseException:
        # Without a scheduler there is nothing to cancel.
        with contextlib.suppress(Exception):
            client.cancel(list(progress.running))
        raise
    return progress.outcomes


def longest_first(tasks: list[Task]) -> list[Task]:
    """Tasks in the order of how many wait for them, one after another: the ends fill the gaps."""
    following: dict[str, list[str]] = {task.name: [] for task in tasks}
    for task in tasks:
        for name in task.needs + task.wants:
            following[name].append(task.name)

    @functools.cache
    def length(name: str) -> int:
        return 1 + max((length(other) for other in following[name]), default=0)

    return sorted(tasks, key=lambda task: -length(task.name))


def _go_on(
    progress: _Progress,
    client: "Client",
    call: Callable[[Any], Outcome],
    report: _Report,
    look: Callable[[], None],
) -> None:
    while progress.waiting or progress.running:
        look()
        for task in progress.ready()[: _free_places(client, progress)]:
            del progress.waiting[task.name]
            future = _submit(task, progress, client, call)
            progress.running[future] = task
            future.add_done_callback(progress.ended.put)
        for task, future in _finished(progress):
            progress.take(task, _outcome_of(future), report)


def _free_places(client: "Client", progress: _Progress) -> int:
    """How many workers have no task: more than they can take would wait at the wrong ones.

    Raises:
        BenchError: If the scheduler is gone. While it is only away, dask knows its last workers.
    """
    places = count_places(client)
    if client.status == "closed":
        raise BenchError(
            "the scheduler must be there until the command has ended, it went and did not come "
            "back: start it again, the same command then does only what is missing"
        )
    return max(0, sum(places.values()) - len(progress.running))


def count_places(client: "Client") -> dict[str, int]:
    """How many tasks at a time every worker takes, by its address."""
    workers = client.scheduler_info(n_workers=-1).get("workers", {}).items()
    places = {name: int(worker["resources"].get(GPU, 0)) for name, worker in workers}
    return {name: count for name, count in places.items() if count}


def _submit(
    task: Task, progress: _Progress, client: "Client", call: Callable[[Any], Outcome]
) -> "Future[Any]":
    before = {name: progress.outcomes[name] for name in task.needs + task.wants}
    results = {name: outcome.value for name, outcome in before.items() if outcome.state == "done"}
    given = {"payload": task.payload, "results": results}
    return client.submit(call, given, key=f"{task.name} {time.time_ns()}", resources={GPU: 1})


def _finished(progress: _Progress) -> "list[tuple[Task, Future[Any]]]":
    """Waits until a task ends, or a moment; returns those that did."""
    futures = []
    with contextlib.suppress(queue.Empty):
        futures.append(progress.ended.get(timeout=LOOK_S))
        while True:
            futures.append(progress.ended.get_nowait())
    return [(progress.running.pop(future), future) for future in futures]


def _outcome_of(future: "Future[Any]") -> Outcome:
    """What became of a task; an error of its worker, or too many of its deaths, is a failure."""
    if future.status == "finished":
        outcome: Outcome = future.result()
        return outcome
    if future.status == "error":
        error = future.exception()
        return Outcome("failed", reason=f"{type(error).__name__}: {error}")
    return Outcome("killed", reason=f"its scheduler was restarted, dask calls it {future.status}")
