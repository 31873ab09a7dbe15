"""Score a trained model on a split: predictions, scores, pictures."""

import dataclasses
import logging
import time
from pathlib import Path

import numpy as np

from bench.config import AUTO, EvaluateConfig
from bench.data.prepared import PreparedDataset
from bench.errors import BenchError
from bench.evaluation import SplitResult, threshold_level
from bench.hashing import file_sha256
from bench.inference.device import choose_compute
from bench.inference.prediction_file import IDENTITY, read_probability, write_predictions
from bench.inference.sections import predict_at_model_scale
from bench.methods import find_method
from bench.models.checkpoint import load_checkpoint
from bench.postprocess.instances import Instances, clean_mask
from bench.postprocess.settings import (
    PostprocessSettings,
    paper_settings,
    settings_from_annotations,
)
from bench.steps.evaluation_report import log_pictures, log_scores
from bench.steps.progress import show_progress
from bench.steps.source import fetch_checkpoint
from bench.structures import Structure, find_structure
from bench.tracking.queries import FoundRun, find_trained, get_trained, scratch_folder
from bench.tracking.runs import Identity, Run, open_run
from bench.tracking.store import Store, open_store

log = logging.getLogger(__name__)

# A prediction that loses more than this share to post-processing is reported.
REPORTED_LOSS = 0.5


@dataclasses.dataclass(frozen=True)
class Task:
    """What is evaluated, resolved from the config."""

    config: EvaluateConfig
    dataset: PreparedDataset
    trained: FoundRun
    structure: Structure
    weights: Path
    weights_sha256: str
    settings: PostprocessSettings


def evaluate(config: EvaluateConfig, store: Store | None = None, parent: str | None = None) -> str:
    """Evaluates a model and returns the id of the evaluation's run.

    Args:
        config: The settings.
        store: The tracking store; opened if not given.
        parent: Id of the run that this one is a child of.

    Raises:
        BenchError: If there is no such model, or it does not fit the dataset.
    """
    store = store or open_store()
    task = resolve_task(config, store)
    run = open_run(store, identify(task), parent=parent)
    if run.reused:
        return run.id
    with run, scratch_folder() as folder:
        run.log_params(resolved_settings(task))
        run.set_tags(
            {
                "bench.split": config.split,
                "bench.protocol": config.protocol,
                "bench.trained_run": task.trained.id,
                "bench.dataset_name": task.dataset.root.name,
            }
        )
        run.log_dataset(
            name=task.dataset.root.name,
            path=task.dataset.root,
            digest=task.dataset.content_hash,
            context=config.split,
        )
        predictions = Path(folder) / "predictions.h5"
        predict_split(task, run, predictions)
        result = score_split(task, predictions)
        report_removal(task, run, result)
        log_scores(run, result, task.config)
        log_pictures(
            run,
            task.dataset,
            task.structure.name,
            predictions,
            result,
            lambda probability: clean(task, probability),
        )
        run.log_file(predictions)
    return run.id


def resolve_task(config: EvaluateConfig, store: Store) -> Task:
    """Finds and checks everything that a config names."""
    dataset = PreparedDataset.open(config.dataset)
    if config.method != AUTO:
        find_method(config.method)
    trained = find_model(config, dataset, store)
    structure = find_structure(trained.cell.structure)
    dataset.instances(config.split, structure.name)
    weights = fetch_checkpoint(store, trained.id)
    return Task(
        config=config,
        dataset=dataset,
        trained=trained,
        structure=structure,
        weights=weights,
        weights_sha256=file_sha256(weights),
        settings=choose_settings(config, dataset, structure),
    )


def find_model(config: EvaluateConfig, dataset: PreparedDataset, store: Store) -> FoundRun:
    """The run that a config names, or the newest of its method and structure."""
    if config.run_id == AUTO:
        if config.structure == AUTO:
            raise BenchError("evaluate needs a model: give run_id, or structure (and method)")
        structure = find_structure(config.structure).name
        return find_trained(
            store,
            method=config.method,
            structure=structure,
            dataset=dataset.content_hash,
            seed=config.seed,
        )
    trained = get_trained(store, config.run_id)
    if config.structure != AUTO and find_structure(config.structure).name != trained.cell.structure:
        raise BenchError(
            f"run {config.run_id} trained {trained.cell.structure}, received structure="
            f"{config.structure}: leave structure out, or give a run of that structure"
        )
    if config.method not in (AUTO, trained.cell.method):
        raise BenchError(
            f"run {config.run_id} is of method {trained.cell.method}, received method="
            f"{config.method}: leave one of both out"
        )
    return trained


def choose_settings(
    config: EvaluateConfig, dataset: PreparedDataset, structure: Structure
) -> PostprocessSettings:
    """Post-processing by protocol, with what the user set himself."""
    if config.protocol == "paper":
        settings = paper_settings(structure)
    else:
        settings = settings_from_annotations(
            (dataset.read_labels(name, structure.name) for name in dataset.sections("train")),
            pixel_size_nm=dataset.pixel_size_nm,
        )
    given = {
        name: value
        for name in ("opening_radius_px", "min_area_px")
        if (value := getattr(config, name)) is not None
    }
    if not given:
        return settings
    origin = f"{settings.origin} Set by the user: {', '.join(given)}."
    return dataclasses.replace(settings, **given, origin=origin)


def identify(task: Task) -> Identity:
    """The identity of an evaluation: the model's weights, and how they are applied."""
    return Identity(
        step="evaluate",
        settings={
            "split": task.config.split,
            "protocol": task.config.protocol,
            "threshold": task.config.threshold,
            "device": task.config.device,
            "postprocess": dataclasses.asdict(task.settings),
        },
        inputs={"run": task.trained.id, "weights": task.weights_sha256},
        method=task.trained.cell.method,
        structure=task.structure.name,
        dataset=task.dataset.content_hash,
        seed=task.trained.cell.seed,
    )


def resolved_settings(task: Task) -> dict[str, object]:
    """All settings as they are used, for the run's parameters."""
    return dataclasses.asdict(task.config) | {
        "run_id": task.trained.id,
        "method": task.trained.cell.method,
        "structure": task.structure.name,
        "seed": task.trained.cell.seed,
        "opening_radius_px": task.settings.opening_radius_px,
        "min_area_px": task.settings.min_area_px,
        "postprocess_origin": task.settings.origin,
        "weights_sha256": task.weights_sha256,
    }


def predict_split(task: Task, run: Run, path: Path) -> None:
    """Applies the model to every section of the split, into a prediction file."""
    network, info = load_checkpoint(task.weights)
    compute = choose_compute(task.config.device, AUTO)
    network.to(compute.device)
    names = task.dataset.sections(task.config.split)
    attributes = {
        "structure": task.structure.name,
        "split": task.config.split,
        "dataset": task.dataset.content_hash,
        "run": task.trained.id,
        "pixel_size_nm": task.dataset.pixel_size_nm or float("nan"),
    }
    started, pixels = time.monotonic(), 0
    what = f"predict {task.trained.cell.method} {task.structure.name}"
    with write_predictions(path, attributes) as file, show_progress(what) as advance:
        for done, name in enumerate(names, start=1):
            raw = task.dataset.read_raw(name)
            probability = predict_at_model_scale(
                network,
                raw,
                info=info,
                pixel_size_nm=task.dataset.pixel_size_nm,
                compute=compute,
            )
            file.write(name, IDENTITY, probability[0])
            pixels += raw.size
            advance(done, len(names), name)
    seconds = time.monotonic() - started
    run.log_metrics(
        {"predict/seconds": seconds, "predict/megapixels_per_s": pixels / seconds / 1e6}
    )
    run.log_params({"tile_px": info.tile_px, "halo_px": info.halo_px})
    run.log_params({"device": str(compute.device), "precision": compute.precision})


def clean(task: Task, probability: np.ndarray) -> Instances:
    """From a stored probability map to instances."""
    return clean_mask(
        probability >= threshold_level(task.config.threshold),
        opening_radius_px=task.settings.opening_radius_px,
        min_area_px=task.settings.min_area_px,
    )


def score_split(task: Task, predictions: Path) -> SplitResult:
    """Scores every section of the split, from the stored predictions."""
    result = SplitResult()
    for name in task.dataset.sections(task.config.split):
        probability = read_probability(predictions, name)
        truth = task.dataset.read_labels(name, task.structure.name)
        result.add(name, truth=truth, probability=probability, instances=clean(task, probability))
    return result


def report_removal(task: Task, run: Run, result: SplitResult) -> None:
    """Says what post-processing removed, and warns where it is more than half."""
    removed = result.removed_fraction()
    run.log_metrics({f"{task.config.split}/postprocess_removed_fraction": removed})
    log.info("post-processing: %s", task.settings.origin)
    if removed > REPORTED_LOSS:
        warning = (
            f"post-processing (opening {task.settings.opening_radius_px} px, smallest area "
            f"{task.settings.min_area_px} px) removed {100 * removed:.0f} % of the predicted "
            f"{task.structure.name}: use protocol=data or a smaller min_area_px"
        )
        log.warning("warning: %s", warning)
        run.set_tags({"bench.warning": warning})
