"""Some parts of a segmentation, in a process of its own on a worker of the cluster."""

import functools
import sys
from pathlib import Path
from typing import Any

from bench.cluster.child import answer_parent, attempt
from bench.cluster.graph import Outcome
from bench.core.process import set_up_process
from bench.inference.device import choose_compute
from bench.ingest.images.planes import Plane, list_planes
from bench.recipe.predictor import Pass
from bench.steps.serving.parts import Part
from bench.steps.serving.work import Work, describe_compute, segment_plane, take_over
from bench.words import AUTO


def do_task(given: dict[str, Any]) -> Outcome:
    """Does a task, or says what this worker computes on; whatever goes wrong is its outcome."""
    task = given["payload"]
    return attempt(lambda: _call_parts(task), task)


def _call_parts(task: dict[str, Any]) -> Any:
    if "device" in task:
        return describe_compute(choose_compute(task["device"], AUTO))
    found = take_over(Path(task["folder"]))

    @functools.cache
    def planes_of(file: str) -> dict[str, Plane]:
        return {
            plane.name: plane for plane in list_planes(file, found.pixel_size_nm, found.raw_key)
        }

    for part in map(_read_part, task["parts"]):
        _do_part(found.work, planes_of(part.file)[part.plane], part)
    return None


def _read_part(values: dict[str, Any]) -> Part:
    each, batches = values["each"], values["batches"]
    return Part(
        values["plane"],
        values["file"],
        Pass(**each) if each else None,
        (batches[0], batches[1]) if batches else None,
    )


def _do_part(work: Work, plane: Plane, part: Part) -> None:
    if part.each is None:
        segment_plane(work, plane, lambda more: None)
        return
    given = (part.each, plane.read(), plane.pixel_size_nm, work.tiles / plane.name)
    if part.batches is None:
        work.predictor.keep_pass(*given, lambda more: None)
    else:
        work.predictor.predict_tiles(*given, slice(*part.batches))


if __name__ == "__main__":
    set_up_process()
    try:
        answer_parent(do_task)
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command goes on where it stopped")
