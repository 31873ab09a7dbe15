"""What a segmentation is cut into for the workers of a cluster, and in which order it is done."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from bench.cluster.graph import Task
from bench.inference.resumable import is_tiled
from bench.inference.tile_store import finished_tiles, has_maps
from bench.ingest.images.planes import Plane
from bench.recipe.predictor import Pass
from bench.steps.serving.work import Work

# A worker gets about so many tasks: one that is slow, or lost, then holds up the others little.
_TASKS_PER_WORKER = 3
# Tiles below which starting a process takes longer than predicting them.
FEWEST_TILES = {"cpu": 32, "cuda": 1024}


@dataclass(frozen=True)
class Part:
    """A section, a pass of it, or some of a pass's tiles. What is finished is not done again.

    Attributes:
        plane: Name of the section.
        file: Its file.
        each: The pass; None for all of them, and what is made of them.
        batches: First and end of the batches of tiles; None for all, and the maps made of them.
    """

    plane: str
    file: str
    each: Pass | None = None
    batches: tuple[int, int] | None = None

    def __str__(self) -> str:
        """As people say it."""
        parts = [self.plane]
        if self.each:
            parts.append(f"model {self.each.member} {self.each.symmetry}")
        if self.batches:
            parts.append(f"batches {self.batches[0]} to {self.batches[1] - 1}")
        return ", ".join(parts)


@dataclass
class _Plan:
    """Tasks of about ``most`` tiles, each of parts that one process does one after the other."""

    work: Work
    most: int
    tasks: list[Task]

    def add(self, parts: Sequence[Part], needs: Iterable[str] = ()) -> str:
        more = f" and {len(parts) - 1} more" if len(parts) > 1 else ""
        name = f"{len(self.tasks) + 1}: {parts[0]}{more}"
        payload = {"folder": str(self.work.folder), "parts": [asdict(part) for part in parts]}
        self.tasks.append(Task(name, payload, tuple(needs)))
        return name

    def add_together(self, parts: Iterable[tuple[Part, int]]) -> list[str]:
        """Adds small parts, each with its tiles, as tasks of several; returns their names."""
        names, group, tiles = [], list[Part](), 0
        for part, count in parts:
            if group and tiles + count > self.most:
                names.append(self.add(group))
                group, tiles = [], 0
            group.append(part)
            tiles += count
        return [*names, self.add(group)] if group else names

    def add_section(self, plane: Plane) -> None:
        """Adds a section that is too large for one task."""
        whole = _part_of(plane)
        passes = self.work.predictor.passes
        if len(passes) == 1:
            self.add([whole], self.add_tiles(plane, passes[0]))
            return
        left = {each: _tiles_left(self.work, plane, each, self.most) for each in passes}
        small = {each: count for each, count in left.items() if 0 < count <= self.most}
        needs = self.add_together((_part_of(plane, each), n) for each, n in small.items())
        for each, count in left.items():
            if count > self.most:
                needs.append(self.add([_part_of(plane, each)], self.add_tiles(plane, each)))
        self.add([whole], needs)

    def add_tiles(self, plane: Plane, each: Pass) -> list[str]:
        """Adds a pass's tiles that are left, cut into tasks; returns their names."""
        left = _batches_left(self.work, plane, each)
        size = self.work.predictor.tiled(each).batch_size
        pieces = math.ceil(len(left) * size / self.most)
        step = math.ceil(len(left) / max(1, pieces))
        spans = [left[start : start + step] for start in range(0, len(left), step or 1)]
        return [self.add([_part_of(plane, each, (span[0], span[-1] + 1))]) for span in spans]


def plan_tasks(work: Work, planes: Sequence[Plane], workers: int) -> list[Task]:
    """Cuts what is left of a segmentation into tasks for a number of workers.

    A section that is small enough is a part; of a larger one, every pass, or the tiles of a pass.
    """
    unfinished = [plane for plane in planes if not work.part_of(plane).exists()]
    device = work.compute.device.type
    passes = work.predictor.passes
    fewest = FEWEST_TILES.get(device, FEWEST_TILES["cpu"])
    total = sum(_tiles_left(work, p, each, 1) for p in unfinished for each in passes)
    plan = _Plan(work, max(fewest, math.ceil(total / (workers * _TASKS_PER_WORKER))), [])
    counts = {
        plane: sum(_tiles_left(work, plane, each, plan.most) for each in passes)
        for plane in unfinished
    }
    for plane, count in counts.items():
        if count > plan.most:
            plan.add_section(plane)
    small = [plane for plane, count in counts.items() if count <= plan.most]
    plan.add_together((_part_of(plane), counts[plane]) for plane in small)
    return plan.tasks


def _part_of(
    plane: Plane, each: Pass | None = None, batches: tuple[int, int] | None = None
) -> Part:
    return Part(plane.name, str(plane.path.absolute()), each, batches)


def _tiles_left(work: Work, plane: Plane, each: Pass, own: int) -> int:
    """How many tiles of a pass are not finished; ``own`` for one without tiles."""
    predictor, folder = work.predictor, work.tiles / plane.name
    if len(predictor.passes) > 1 and has_maps(predictor.maps_of(folder, each)):
        return 0
    if not is_tiled(predictor.infos[each.member]):
        return own
    steps = predictor.steps_of_pass(each.member, plane.shape, plane.pixel_size_nm)
    return steps - len(finished_tiles(predictor.tiles_of(folder, each)))


def _batches_left(work: Work, plane: Plane, each: Pass) -> list[int]:
    """The batches of a pass that are not finished. Its store is made, for all to write into."""
    predictor, model = work.predictor, work.predictor.tiled(each)
    folder = predictor.tiles_of(work.tiles / plane.name, each)
    model.open_store(each.view_shape(plane.shape), predictor.fed_nm(plane.pixel_size_nm), folder)
    steps = predictor.steps_of_pass(each.member, plane.shape, plane.pixel_size_nm)
    done, size = finished_tiles(folder), model.batch_size
    return [
        number
        for number, first in enumerate(range(0, steps, size))
        if not done.issuperset(range(first, min(first + size, steps)))
    ]
