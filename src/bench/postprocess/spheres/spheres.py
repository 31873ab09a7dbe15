"""Vesicles as spheres: from an image and the probability of vesicles to balls.

Reference: Khosrozadeh, Seeger, Radecke, Witz, Sørensen, Zuber, "Deep-learning based automatic
segmentation of vesicles in cryo-electron tomograms" (2022).
"""

import os
from collections.abc import Callable, Sequence

import numpy as np

from bench.errors import BenchError
from bench.postprocess.spheres.fit.refinement import FitJob
from bench.postprocess.spheres.found import SphereResult
from bench.postprocess.spheres.objects import (
    ObjectLimits,
    VesicleObject,
    find_odd,
    keep_objects,
    label_objects,
    measure_objects,
    set_limits,
)
from bench.postprocess.spheres.second_look import look_again
from bench.postprocess.spheres.separation import grow_objects, separate_objects
from bench.postprocess.spheres.settings import SphereSettings, edge_of_cubes
from bench.postprocess.spheres.stages import find_floors, judge_table, part_table, refine_table
from bench.postprocess.spheres.table import SphereTable, begin_table
from bench.postprocess.spheres.threshold import choose_shell_level, level_above
from bench.postprocess.spheres.touching import paint_balls

# Objects of fewer of the smallest vesicle's voxels are specks.
_SPECK_SHARE = 1 / 8


def find_spheres(
    raw: np.ndarray,
    probability: np.ndarray,
    *,
    voxel_size_nm: float | Sequence[float],
    settings: SphereSettings,
    on_stage: Callable[[str, np.ndarray], None] | None = None,
    workers: int | None = None,
) -> SphereResult:
    """Finds vesicles as spheres, in sections as circles.

    What is made smaller, refitted or removed says so, with its radius, thickness and density. The
    result is the same with any number of threads. Beside the inputs it takes the memory of the
    labels and of a mask.

    Args:
        raw: Image (z, y, x) or (y, x) of numbers. It is never copied as a whole.
        probability: Probability of vesicles, uint8 levels of the same shape.
        voxel_size_nm: Edge of the voxels, which are cubes, or an edge for each axis.
        settings: What is done, and how.
        on_stage: Called with "mask", "separated", "refined", "outliers", "again" and "final" and
            the ids after each, int32 as the image. They are written over when it returns.
        workers: Threads; None is one for each core.

    Raises:
        BenchError: If shapes or types do not fit, or voxels are no cubes.
    """
    _check_images(raw, probability)
    voxel_nm = edge_of_cubes(voxel_size_nm)
    workers = workers or len(os.sched_getaffinity(0))
    image, levels = (each.reshape((1, *each.shape)[-3:]) for each in (raw, probability))

    def show(name: str, labels: np.ndarray, table: SphereTable | None = None) -> None:
        if on_stage is not None:
            if table is not None:
                _paint(labels, table)
            on_stage(name, labels.reshape(raw.shape))

    level = _choose_level(image, levels, settings, workers)
    labels, count = label_objects(levels >= level)
    show("mask", labels)
    limits = set_limits(settings, image.shape, voxel_nm)
    objects, odd, specks = _find_objects(levels, labels, count, settings, level, limits)
    show("separated", labels)
    table = begin_table(objects, odd, limits.least, raw.ndim)
    job = _make_job(image, settings, voxel_nm, workers)
    notes = [refine_table(table, job, settings)]
    show("refined", labels, table)
    notes.append(judge_table(table, job, settings))
    show("outliers", labels, table)
    if "again" in settings.stages and not settings.paper:
        look_again(levels, labels, table, job, settings, find_floors(table))
        show("again", labels, table)
    part_table(table, settings, settings.min_radius_nm / voxel_nm)
    _paint(labels, table)
    show("final", labels)
    spheres, removed = table.finish()
    said = tuple(note for note in notes if note)
    return SphereResult(labels.reshape(raw.shape), spheres, removed, level, specks, said)


def _choose_level(
    image: np.ndarray, levels: np.ndarray, settings: SphereSettings, workers: int
) -> int:
    if "threshold" not in settings.stages:
        return level_above(settings.threshold)
    lowest = settings.lowest_threshold
    return choose_shell_level(image, levels, lowest_threshold=lowest, workers=workers)


def _make_job(image: np.ndarray, settings: SphereSettings, voxel_nm: float, workers: int) -> FitJob:
    return FitJob(
        raw=image,
        thickness=settings.membrane_nm / voxel_nm,
        as_published=settings.paper,
        mean=float(image.mean(dtype=np.float64)) if settings.paper and image.size else 0.0,
        workers=workers,
    )


def _find_objects(
    levels: np.ndarray,
    labels: np.ndarray,
    count: int,
    settings: SphereSettings,
    level: int,
    limits: ObjectLimits,
) -> tuple[list[VesicleObject], list[tuple[VesicleObject, str]], int]:
    """Separates and grows the objects of labels, and removes the odd ones, in place.

    What is small is kept where it will be refined, which tells more, but not as published.

    Returns:
        The objects, those removed with the reason why, and how many specks there were.
    """
    least = limits.least
    objects, volumes = measure_objects(labels, count, least=least * _SPECK_SHARE)
    specks = count - len(objects)
    if "separate" in settings.stages:
        objects = separate_objects(
            levels, labels, objects, volumes, settings=settings, least=least, level=level
        )
    if "grow" in settings.stages:
        objects = grow_objects(levels, labels, objects, settings=settings, least=least, level=level)
    told_later = "refine" in settings.stages and not settings.paper
    smallest = least * _SPECK_SHARE if told_later else least
    reasons = [find_odd(each, limits, smallest) for each in objects]
    kept = [each for each, reason in zip(objects, reasons, strict=True) if not reason]
    new_ids = np.zeros(int(labels.max(initial=0)) + 1, np.int32)
    for number, each in enumerate(kept, start=1):
        new_ids[each.label] = number
    keep_objects(labels, new_ids)
    odd = [(each, reason) for each, reason in zip(objects, reasons, strict=True) if reason]
    return kept, odd, specks


def _check_images(raw: np.ndarray, probability: np.ndarray) -> None:
    if raw.ndim not in (2, 3) or raw.shape != probability.shape or raw.dtype.kind not in "buif":
        raise BenchError(
            "spheres need an image (z, y, x) or (y, x) of real numbers and a probability of the "
            f"same shape, received {raw.dtype} {raw.shape} and {probability.shape}: pass the maps "
            "of the same volume"
        )
    if probability.dtype != np.uint8:
        raise BenchError(
            f"spheres need the probability as uint8 levels, received {probability.dtype}: pass "
            "round(255 p)"
        )


def _paint(labels: np.ndarray, table: SphereTable) -> None:
    """Paints the spheres over labels, in place."""
    labels[...] = 0
    paint_balls(labels, np.ascontiguousarray(table.centres), table.column("radius").copy())
