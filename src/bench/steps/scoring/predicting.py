"""The predictions of an evaluation: section by section, or in slabs of planes of a volume."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from math import prod
from pathlib import Path

import numpy as np

from bench.core.progress import show_progress
from bench.dataset.volumes import plane_reader
from bench.errors import BenchError
from bench.inference.blends import predict_augmented
from bench.inference.device import Compute, choose_compute
from bench.inference.engines import choose_engine, recorded, with_recorded
from bench.inference.prediction import (
    Predictor,
    SectionPrediction,
    foreground_channel,
    open_predictor,
)
from bench.inference.prediction_file import (
    ENGINE,
    PredictionWriter,
    copy_predictions,
    read_engine,
    write_predictions,
)
from bench.inference.symmetries import IDENTITY
from bench.inference.synapse_net_package import open_synapse_net
from bench.inference.volumes import predict_volume_as_seen
from bench.models.checkpoint import load_checkpoint, load_weights
from bench.models.networks import find_network
from bench.recipe.orthoplanes import Orthoplanes
from bench.recipe.recipe import OWN
from bench.steps.scoring.evaluation_task import EvaluationTask
from bench.steps.scoring.int8 import settle_int8
from bench.steps.scoring.units import list_units
from bench.tracking.queries import scratch_folder
from bench.tracking.runs import Run
from bench.words import AUTO, INT8, OPENVINO, TORCH

_Advance = Callable[[int, int, str], None]


def predict_split(
    task: EvaluationTask,
    run: Run,
    path: Path,
    earlier: Path | None = None,
    followed: str | None = None,
) -> EvaluationTask:
    """Writes the predictions of all sections of a split into a new file, and logs what it took.

    Args:
        task: What is predicted.
        run: Gets the speed, where a network was applied.
        path: The new file.
        earlier: Predictions of the same model and sections for another of its classes, which say
            all; None applies the network.
        followed: The engine of another evaluation of the model, which is taken as well, as a search
            pairs evaluations of one engine. None takes what the settings say.

    Returns:
        The task, whose recipe says what computed them.
    """
    compute = choose_compute(task.config.device, AUTO)
    compute = (
        replace(compute, engine=read_engine(earlier))
        if earlier
        else _choose(task, compute, followed)
    )
    (member,) = task.recipe.members
    member = replace(member, engine=recorded(compute))
    task = replace(task, recipe=replace(task.recipe, members=(member,)))
    attributes = {
        "structure": task.structure.name,
        "split": task.config.split,
        "dataset": task.dataset.content_hash,
        "run": task.subject.run_id,
        "pixel_size_nm": task.dataset.pixel_size_nm or float("nan"),
        "augmentations": task.recipe.augmentations,
        ENGINE: compute.engine,
    }
    run.log_settings({"tile_px": task.info.tile_px, "halo_px": task.info.halo_px})
    run.log_settings({"device": str(compute.device), "precision": compute.precision})
    run.log_settings({"engine": compute.engine})
    if earlier is not None:
        channel = foreground_channel(task.info, task.structure.name)
        copy_predictions(earlier, path, channel, attributes)
        return task
    started = time.monotonic()
    what = f"predict {task.subject.cell.method} {task.structure.name}"
    with write_predictions(path, attributes) as file, show_progress(what) as advance:
        if find_network(task.info.architecture).dims == 3:
            pixels = _predict_volumes(task, compute, file, advance)
        elif task.recipe.volume and task.recipe.volume.planes:
            pixels = _predict_orthoplanes(task, compute, file, advance)
        else:
            pixels = _predict_sections(task, compute, file, advance)
    seconds = time.monotonic() - started
    run.log_facts({"predict/seconds": seconds, "predict/megapixels_per_s": pixels / seconds / 1e6})
    if not task.subject.run_id:
        weights = load_weights(task.subject.weights).values()
        run.log_facts({"model/parameters": sum(part.numel() for part in weights)})
    return task


def _choose(task: EvaluationTask, compute: Compute, followed: str | None) -> Compute:
    """What computes the model, where that can be chosen.

    Raises:
        BenchError: If it is asked for something else than torch, and cannot be had.
    """
    wanted = task.config.engine
    if task.recipe.segmentation == OWN:
        if followed:
            return with_recorded(compute, None if followed == TORCH else followed)
        if wanted == INT8:
            return settle_int8(task, compute)
        return choose_engine(wanted, compute, task.subject.weights)
    if wanted in (OPENVINO, INT8):
        raise BenchError(
            f"segmentation={task.recipe.segmentation} applies models by its own package, received "
            f"engine={wanted}: leave one out"
        )
    return compute


def _predict_sections(
    task: EvaluationTask, compute: Compute, file: PredictionWriter, advance: _Advance
) -> int:
    """Predicts a split section by section; returns its pixels."""
    predict = _open_model(task, compute)
    names, pixels = task.dataset.sections(task.config.split), 0
    for done, name in enumerate(names, start=1):
        raw = task.dataset.read_raw(name)
        for augmentation, maps in predict_augmented(
            predict, raw, task.fed_nm, task.recipe.augmentations
        ):
            file.write(name, augmentation, maps)
        pixels += raw.size
        advance(done, len(names), name)
    return pixels


def _predict_volumes(
    task: EvaluationTask, compute: Compute, file: PredictionWriter, advance: _Advance
) -> int:
    """Predicts a split volume by volume, in slabs of planes; returns its voxels."""
    network, info = load_checkpoint(task.subject.weights)
    network = network.to(compute.device).eval()
    volumes = [unit.volume for unit in list_units(task.dataset, task.config.split) if unit.volume]
    if not volumes:
        raise BenchError(
            f"{info.architecture} segments volumes, received the sections of {task.dataset.root}: "
            "prepare stacks with the distance of their planes (-P section_nm=...), or choose a "
            "method of sections"
        )
    symmetries = task.recipe.augmentations
    total, done = sum(volume.shape[0] for volume in volumes) * len(symmetries), 0
    for volume, symmetry in product(volumes, symmetries):

        def write(
            start: int,
            planes: np.ndarray,
            names: Sequence[str] = volume.sections,
            symmetry: str = symmetry,
        ) -> None:
            nonlocal done
            for name, plane in zip(names[start:], planes, strict=False):
                file.write(name, symmetry, SectionPrediction(plane))
            done += len(planes)
            advance(done, total, "")

        predict_volume_as_seen(
            symmetry,
            network,
            info,
            compute,
            read_planes=plane_reader(task.dataset, volume),
            shape=volume.shape,
            voxel_size_nm=volume.voxel_size_nm if task.recipe.rescale else None,
            write_planes=write,
        )
    return sum(prod(volume.shape) for volume in volumes)


def _predict_orthoplanes(
    task: EvaluationTask, compute: Compute, file: PredictionWriter, advance: _Advance
) -> int:
    """Predicts a split volume by volume, along z, y and x; returns its voxels."""
    assert task.recipe.volume is not None
    assert task.recipe.volume.planes is not None
    rule = task.recipe.volume.planes
    model = Orthoplanes(task.subject.weights, compute, task.structure.name, rule, keep_classes=True)
    volumes = [unit.volume for unit in task.units if unit.volume]
    total, done = sum(sum(volume.shape) for volume in volumes), 0
    for volume in volumes:

        def report(more: int, name: str = volume.name) -> None:
            nonlocal done
            done += more
            advance(done, total, name)

        # What is kept on disk may be larger than memory.
        with scratch_folder() as folder:
            for start, planes in model.predict(
                plane_reader(task.dataset, volume), volume.shape, task.fed_nm, Path(folder), report
            ):
                for name, plane in zip(volume.sections[start:], planes, strict=False):
                    file.write(name, IDENTITY, plane)
    return sum(prod(volume.shape) for volume in volumes)


def _open_model(task: EvaluationTask, compute: Compute) -> Predictor:
    path, structure = task.subject.weights, task.structure.name
    if task.recipe.segmentation == "synapse_net":
        return open_synapse_net(path, task.info, compute, structure)
    predictor, _ = open_predictor(path, compute, structure)
    return predictor
