"""A segmentation on a cluster: tiles, passes and sections as tasks of a graph."""

import functools
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bench.cluster.child import run_child, stopping
from bench.cluster.clusters import LOCAL, threads_each, wait_for_places
from bench.cluster.graph import Outcome, Task, run_graph
from bench.config.running import SegmentConfig
from bench.core.progress import show_progress
from bench.errors import BenchError
from bench.inference.device import Compute, choose_compute
from bench.inference.tile_store import finished_tiles, has_maps
from bench.ingest.images.planes import Plane
from bench.recipe.predictor import Pass
from bench.steps.serving.parts import plan_tasks
from bench.steps.serving.work import Work, check_device, hand_over
from bench.words import AUTO

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

_CHILD = "bench.steps.serving.task"
# Seconds between looks at what is finished.
_LOOK_EVERY_S = 2.0


def choose_on_workers(config: SegmentConfig, client: "Client") -> Compute:
    """Resolves the device where the work is done: this machine may have no GPU.

    Raises:
        BenchError: If workers have none of that kind, or not all the same.
    """
    if config.cluster == LOCAL:
        return choose_compute(config.device, AUTO)
    places = wait_for_places(client)
    given = {"payload": {"device": config.device}, "results": {}}
    answers = client.run(run_child, _CHILD, given, workers=list(places))
    first: list[str] | None = None
    for worker, answer in answers.items():
        if answer.state == "failed":
            raise BenchError(f"worker {worker}: {answer.reason}")
        first = first or answer.value
        check_device(first, answer.value)
    assert first
    return Compute(torch.device(first[0]), first[1])


def segment_on_workers(
    work: Work,
    planes: Sequence[Plane],
    config: SegmentConfig,
    weights: Sequence[Path],
    client: "Client",
) -> None:
    """Segments the sections that are left on the workers of a cluster.

    Raises:
        BenchError: If a task failed. What is finished is kept, as when it is interrupted.
    """
    workers = max(config.workers or 1, len(wait_for_places(client)))
    tasks = plan_tasks(work, planes, workers)
    hand_over(work, weights, config)
    log.info("tasks: %d, workers: %d", len(tasks), workers)

    def report(task: Task, outcome: Outcome) -> None:
        log.info("task %s: %s", task.name, outcome.reason or outcome.state)
        if outcome.state == "failed":
            raise BenchError(
                f"all tasks of a segmentation must succeed, task {task.name} failed "
                f"({outcome.reason}): mend the cause, the same command goes on with what is missing"
            )

    owner, threads = str(work.folder), threads_each(config.cluster, config.workers)
    call = functools.partial(run_child, _CHILD, threads=threads, owner=owner)
    with show_progress(f"segment {work.predictor.recipe.structure}, tiles") as advance:
        look = _look_now_and_then(work, planes, advance)
        with stopping(client, owner):
            run_graph(tasks, client, call, report, look)
        look(last=True)


def _look_now_and_then(
    work: Work, planes: Sequence[Plane], advance: Callable[[int, int, str], None]
) -> Callable[..., None]:
    """Shows how far all workers have come, by what they finished in the folder."""
    predictor, looked, shown = work.predictor, time.monotonic(), -1
    steps = {p.name: predictor.count_steps(p.shape, p.pixel_size_nm) for p in planes}

    def look(*, last: bool = False) -> None:
        nonlocal looked, shown
        if last or time.monotonic() - looked >= _LOOK_EVERY_S:
            looked, done = time.monotonic(), count_finished(work, planes, steps)
            if done != shown:
                shown = done
                advance(done, sum(steps.values()), "")

    return look


def count_finished(work: Work, planes: Sequence[Plane], steps: dict[str, int]) -> int:
    """Tiles that are finished; only sections that were begun are looked into."""
    by_name = {plane.name: plane for plane in planes}
    parts = {path.stem for path in (work.folder / "parts").glob("*.json")}
    begun = {path.name for path in work.tiles.glob("*")} - parts
    count = sum(steps[name] for name in parts & steps.keys())
    for plane in (by_name[name] for name in begun & by_name.keys()):
        count += sum(_count_pass(work, plane, each) for each in work.predictor.passes)
    return count


def _count_pass(work: Work, plane: Plane, each: Pass) -> int:
    predictor, folder = work.predictor, work.tiles / plane.name
    if has_maps(predictor.maps_of(folder, each)):
        return predictor.steps_of_pass(each.member, plane.shape, plane.pixel_size_nm)
    return len(finished_tiles(predictor.tiles_of(folder, each)))
