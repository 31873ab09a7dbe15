"""An evaluation in eight bits: measured on training sections, taken where validation allows it."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.core.progress import show_progress
from bench.dataset.partial import read_ignored
from bench.errors import BenchError
from bench.inference.device import Compute
from bench.inference.engines import in_eight_bits, open_watched
from bench.inference.prediction import open_predictor, predict_all_at_model_scale
from bench.metrics.overlap import PixelCounts, count_pixels, dice_score
from bench.models.checkpoint import load_info
from bench.steps.scoring.evaluation_task import EvaluationTask
from bench.words import INT8, OPENVINO

log = logging.getLogger(__name__)
# By how much the Dice of the validation sections may differ from that in full precision.
_MOST_APART = 0.002
# Limits are measured in the middle of some sections, evenly spread over the split.
_SECTIONS, _MIDDLE_PX = 8, 1024


def settle_int8(task: EvaluationTask, compute: Compute) -> Compute:
    """Measures the limits of a model's convolutions, and checks what eight bits do to its scores.

    Args:
        task: The evaluation, of whichever split: the test split is not looked at.
        compute: The device and precision of all that is not in eight bits.

    Returns:
        The engine with its limits.

    Raises:
        BenchError: If OpenVINO cannot compute the model here, the dataset has no section to measure
            or to check on, or the Dice of the validation sections differs by more than 0.002.
    """
    if task.recipe.volume and task.recipe.volume.planes:
        raise BenchError(
            f"engine={INT8} is checked on sections, received planes={task.config.planes}: leave "
            "planes out, or use engine=openvino"
        )
    with show_progress(f"measure {INT8}") as advance:
        chosen = measure_limits(
            compute, task.subject.weights, _read_middles(task, advance), task.fed_nm
        )
    before, after = (
        _validation_dice(task, each) for each in (replace(compute, engine=OPENVINO), chosen)
    )
    said = f"validation Dice {after:.4f} in eight bits, {before:.4f} without"
    if not abs(after - before) <= _MOST_APART:
        raise BenchError(
            f"engine={INT8} must change the validation Dice by at most {_MOST_APART}, received "
            f"{said}: use engine=openvino"
        )
    log.info("engine %s: %s", INT8, said)
    return chosen


def measure_limits(
    compute: Compute, path: Path, sections: Iterable[np.ndarray], pixel_size_nm: float | None
) -> Compute:
    """Measures what enters the convolutions of a model on some sections.

    Args:
        compute: The device and precision of all that is not in eight bits.
        path: The model's checkpoint.
        sections: Sections (y, x) of any bit depth.
        pixel_size_nm: Their pixel size; None feeds them as they are.

    Returns:
        The engine with its limits.

    Raises:
        BenchError: If OpenVINO cannot compute the model here.
    """
    network = open_watched(path, compute)
    for _ in predict_all_at_model_scale(
        network, sections, info=load_info(path), pixel_size_nm=pixel_size_nm, compute=compute
    ):
        pass
    return in_eight_bits(compute, network)


def _read_middles(
    task: EvaluationTask, advance: Callable[[int, int, str], None]
) -> Iterator[np.ndarray]:
    names = task.dataset.sections("train")
    chosen = np.unique(np.linspace(0, len(names) - 1, _SECTIONS).round().astype(int))
    for done, number in enumerate(chosen, start=1):
        raw = task.dataset.read_raw(names[number])
        starts = [max(0, (side - _MIDDLE_PX) // 2) for side in raw.shape]
        advance(done, len(chosen), names[number])
        yield raw[tuple(slice(start, start + _MIDDLE_PX) for start in starts)]


def _validation_dice(task: EvaluationTask, compute: Compute) -> float:
    """Dice of all validation pixels at the recipe's threshold."""
    dataset, structure = task.dataset, task.structure.name
    predict, _ = open_predictor(task.subject.weights, compute, structure)
    names, counts = dataset.sections("val"), PixelCounts()
    with show_progress(f"check {compute.engine.split()[0]}") as advance:
        for done, name in enumerate(names, start=1):
            foreground = predict(dataset.read_raw(name), task.fed_nm).foreground
            counts += count_pixels(
                truth=dataset.read_labels(name, structure),
                prediction=foreground >= task.recipe.level,
                ignored=read_ignored(dataset, name, [structure]),
            )
            advance(done, len(names), name)
    return dice_score(counts)
