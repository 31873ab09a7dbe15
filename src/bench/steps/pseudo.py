"""Make pseudo-masks: a dataset to train on, of images that nobody annotated."""

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.config.detection import PseudoConfig
from bench.core.files import write_json
from bench.core.folders import publish, unfinished_folder
from bench.core.hashing import file_sha256
from bench.core.progress import show_progress
from bench.dataset.prepared import MANIFEST, PreparedDataset
from bench.dataset.pseudo import (
    OBJECTS_FILE,
    make_pseudo_manifest,
    write_pseudo_section,
)
from bench.errors import BenchError
from bench.inference.detection.prompted import PromptedModel, PromptedSettings
from bench.inference.device import Compute, choose_compute
from bench.models.checkpoint import ModelInfo, load_checkpoint, load_info
from bench.models.detection.detector_sam import DetectorSam
from bench.report.figures.overlays import draw_overlay
from bench.steps.detection.pseudo_images import PseudoImages, list_pseudo_images
from bench.steps.detection.sure_objects import find_sure_objects
from bench.steps.training.reports.sections import SHOWN_SECTIONS, window_of_interest
from bench.steps.training.source import fetch_checkpoint
from bench.tracking.opening import open_run
from bench.tracking.runs import Identity, Run
from bench.tracking.store import Store, open_store
from bench.tracking.unlisted import PSEUDO_CONTENT_TAG, PSEUDO_FOLDER_TAG, written_pseudo
from bench.words import AUTO, OurNetworks

log = logging.getLogger(__name__)

_SECTIONS = "sections"


@dataclasses.dataclass(frozen=True)
class _Task:
    config: PseudoConfig
    images: PseudoImages
    weights: Path
    digest: str
    info: ModelInfo
    compute: Compute

    @property
    def names(self) -> tuple[str, ...]:
        """What the images are called."""
        return tuple(self.images.entries)

    @property
    def output(self) -> Path:
        """Where the dataset will be."""
        return Path(self.config.output).absolute()

    @property
    def settings(self) -> PromptedSettings:
        """How the model chooses."""
        return PromptedSettings(**self.info.inference)


def pseudo(config: PseudoConfig, store: Store | None = None, parent: str | None = None) -> str:
    """Writes pseudo-masks as a prepared dataset and returns the id of the run that made them.

    A run that was killed goes on with the next image.

    Args:
        config: The settings.
        store: The tracking store; opened if not given.
        parent: Id of the run that this one is a child of.

    Raises:
        BenchError: If there is no such model, no image without labels, or the output is taken.
    """
    store = store or open_store()
    task = _resolve(config, store)
    identity = _identify(task)
    run = open_run(store, identity, parent=parent)
    there = _is_there(store, run.id, task)
    if run.reused and there:
        return run.id
    if run.reused:
        run = open_run(store, identity, parent=parent, reuse=False)
    with run:
        if there:
            # It was killed after its dataset was in place.
            return run.id
        if task.output.exists():
            raise BenchError(
                f"output must be free, received {task.output}, which exists and is left alone: "
                "choose another output, or remove it yourself"
            )
        run.log_settings(_resolved_settings(task), config)
        _write_masks(task, run, identity.fingerprint())
    return run.id


def _resolve(config: PseudoConfig, store: Store) -> _Task:
    if config.run_id == AUTO:
        raise BenchError(
            "pseudo-masks are made by a model, received none: give run_id, of microsam with "
            "mode=detector"
        )
    weights = fetch_checkpoint(store, config.run_id)
    info = load_info(weights)
    if info.architecture != OurNetworks.DETECTOR_SAM:
        raise BenchError(
            f"pseudo-masks are made by a detector that prompts a SAM, run {config.run_id} made a "
            f"{info.architecture}: give a run of microsam with mode=detector"
        )
    images = list_pseudo_images(config)
    compute = choose_compute(config.device, "fp32")
    return _Task(config, images, weights, file_sha256(weights), info, compute)


def _identify(task: _Task) -> Identity:
    return Identity(
        step="pseudo",
        settings=task.config.identity(),
        inputs={"weights": task.digest, "images": task.images.sha256},
        method=str(task.info.training["method"]),
        structure=task.info.structure,
        dataset=str(task.info.training["dataset"]),
        parts=(f"network {task.info.architecture}",),
    )


def _resolved_settings(task: _Task) -> dict[str, object]:
    return dataclasses.asdict(task.config) | {
        **dataclasses.asdict(task.settings),
        "structure": task.info.structure,
        "images": len(task.names),
        "weights_sha256": task.digest,
        "device": str(task.compute.device),
    }


def _is_there(store: Store, run_id: str, task: _Task) -> bool:
    """Whether the output is what a run wrote."""
    folder, content = written_pseudo(store, run_id)
    if folder != task.output or not (folder / MANIFEST).is_file():
        return False
    return PreparedDataset.open(folder).content_hash == content


def _write_masks(task: _Task, run: Run, fingerprint: str) -> None:
    """Segments image after image into a hidden folder, which takes its name when all are there."""
    network, _ = load_checkpoint(task.weights)
    assert isinstance(network, DetectorSam)
    model = PromptedModel.of(network.to(task.compute.device), task.info, task.compute)
    with (
        unfinished_folder(task.output, fingerprint) as folder,
        show_progress(f"pseudo {task.info.structure}") as advance,
    ):
        content, parts = folder / "content", folder / "parts"
        (content / _SECTIONS).mkdir(parents=True, exist_ok=True)
        parts.mkdir(exist_ok=True)
        for done, name in enumerate(task.names, start=1):
            if not (parts / f"{name}.json").is_file():
                _segment_image(task, model, name, content, parts)
            advance(done, len(task.names), name)
        saved = [json.loads((parts / f"{name}.json").read_text()) for name in task.names]
        objects = [row for part in saved for row in part["objects"]]
        manifest = _finish(task, content, [part["entry"] for part in saved], objects)
        _report(task, run, content, manifest, objects)
        # Before the dataset is in place: a run that is killed right then knows it again.
        run.set_tags(
            {
                PSEUDO_FOLDER_TAG: str(task.output),
                PSEUDO_CONTENT_TAG: manifest["content_hash"],
            }
        )
        if not publish(folder, content, task.output):
            raise BenchError(
                f"output must be free, received {task.output}, which somebody else wrote: choose "
                "another output"
            )


def _segment_image(
    task: _Task, model: PromptedModel, name: str, content: Path, parts: Path
) -> None:
    """Writes the file of an image, then the note by which a later run knows that it is there."""
    raw, size_nm = task.images.read(name), task.images.pixel_size_nm
    labels, ignore, rows = find_sure_objects(model, raw, size_nm)
    arrays = {"raw": raw, "labels": labels, "ignore": ignore}
    entry = write_pseudo_section(
        content,
        task.images.entries[name],
        arrays,
        task.info.structure,
        size_nm,
    )
    note = {"entry": entry, "objects": [{"section": name, **row} for row in rows]}
    write_json(parts / f"{name}.json", note)


def _finish(
    task: _Task, content: Path, entries: list[dict[str, Any]], objects: list[dict[str, Any]]
) -> dict[str, Any]:
    """Writes the manifest and the table of objects.

    Raises:
        BenchError: If no object was sure.
    """
    kept = sum(row["kept"] for row in objects)
    settings = task.settings
    if not kept:
        raise BenchError(
            f"pseudo-masks need objects that the model is sure of, none of the {len(objects)} "
            f"found has a score of {settings.sure_score_thresh:g} and an expected IoU of "
            f"{settings.sure_iou_thresh:g}: train the detector longer, or make the model with a "
            "lower sure_precision"
        )
    origin = {
        "structure": task.info.structure,
        "model_run": task.config.run_id,
        "weights_sha256": task.digest,
        "detector_sha256": task.info.training["detector_sha256"],
        "sam_sha256": task.info.training["sam_sha256"],
        "dataset": task.info.training["dataset"],
        "score_thresh": settings.sure_score_thresh,
        "iou_thresh": settings.sure_iou_thresh,
        "precision": settings.sure_precision,
        "found": len(objects),
        "kept": kept,
    }
    manifest = make_pseudo_manifest(content, entries, task.images.pixel_size_nm, origin)
    pd.DataFrame(objects).to_csv(content / OBJECTS_FILE, index=False)
    write_json(content / MANIFEST, manifest)
    return manifest


def _report(
    task: _Task,
    run: Run,
    content: Path,
    manifest: dict[str, Any],
    objects: list[dict[str, Any]],
) -> None:
    """Says how many were kept of how many, and shows them."""
    origin, written = manifest["pseudo"], PreparedDataset(content, manifest)
    run.log_metrics({"pseudo/found": origin["found"], "pseudo/kept": origin["kept"]})
    run.log_file(content / OBJECTS_FILE)
    run.log_file(content / MANIFEST)
    structure = task.info.structure
    for name in task.names[:SHOWN_SECTIONS]:
        labels = written.read_labels(name, structure)
        unsure = written.read(name, f"ignore/{structure}")
        view = window_of_interest(labels)
        shown = draw_overlay(
            written.read_raw(name)[view],
            truth=labels[view],
            prediction=np.maximum(labels[view] > 0, unsure[view]),
        )
        run.log_image(shown, key=f"pseudo/{name}", step=0)
    log.info(
        "%d of %d objects in %d images are sure (score %.2f, expected IoU %.2f; %.0f %% of such "
        "were right on validation): %s",
        origin["kept"],
        origin["found"],
        len(task.names),
        origin["score_thresh"],
        origin["iou_thresh"],
        100 * origin["precision"],
        task.output,
    )
