"""What a segmentation's model finds on held-out sections, beside their annotation."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.config.data import LabelsConfig
from bench.config.measuring import MeasureConfig
from bench.core.names import first_names
from bench.core.progress import show_progress
from bench.dataset.partial import read_ignore_levels
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.measurement.matching import match_objects
from bench.measurement.objects import describe_objects, extent
from bench.metrics.instances import count_instances_only
from bench.recipe.recipe import Recipe
from bench.report.measured.estimates import Measured
from bench.report.measured.held_out import FEWEST_MATCHED, HeldOut
from bench.steps.measuring.subject import MeasuredInput, find_changed
from bench.steps.measuring.units import MeasuredUnit, list_measured_units
from bench.steps.scoring.recipes import fetch_registered, fetch_searched, read_evaluated
from bench.steps.serving.export_finding import find_export_subject
from bench.steps.serving.export_subject import ExportSubject
from bench.tracking.datasets import find_used_dataset
from bench.tracking.evaluations import (
    SEARCH_STEP,
    find_evaluation_of,
    get_evaluation,
    is_evaluation,
)
from bench.tracking.queries import step_of
from bench.tracking.registry import SCHEME
from bench.tracking.store import Store
from bench.words import AUTO, NONE

log = logging.getLogger(__name__)

# Held-out splits, the better first: on validation sections thresholds were chosen.
_SPLITS = ("test", "val")


@dataclass(frozen=True)
class _Source:
    """Where predictions of a model for held-out sections come from.

    Attributes:
        named: The evaluation, search or registered model.
        split: The split.
        dataset: The folder of the data set.
        recipe: How instances are made.
    """

    named: str
    split: str
    dataset: Path
    recipe: Recipe


def find_error(
    config: MeasureConfig, measured: MeasuredInput, found: Measured, store: Store
) -> tuple[HeldOut | None, dict[str, str]]:
    """Measures the held-out sections of a segmentation's model, annotated and as found.

    Args:
        config: The settings.
        measured: What is measured.
        found: Its objects.
        store: The tracking store.

    Returns:
        The objects, None where they are not known; and why quantities have no corrected value, by
        name, ``""`` for all of them.

    Raises:
        BenchError: If an evaluation was named, and it does not fit.
    """
    if config.held_out == NONE:
        return None, {"": "held_out=none asked for raw values alone"}
    if changed := find_changed(measured, found):
        return None, {
            "": f"the labels of {first_names(changed)} were changed since segment wrote them: what "
            "the model misses is no longer what they miss"
        }
    try:
        source = _find_source(config, measured.said, measured.structure, store)
        subject = _predict(config, source, store)
    except BenchError as error:
        if config.held_out != AUTO:
            raise
        return None, {"": str(error)}
    reasons: dict[str, str] = {}
    other = None
    if measured.other:
        try:
            other = _find_other(config, measured, source, store)
        except BenchError as error:
            reasons["other"] = str(error)
    held_out = _measure_held_out(config, measured, source, (subject, other))
    if held_out.matched < FEWEST_MATCHED:
        reasons[""] = (
            f"a correction needs {FEWEST_MATCHED} objects that the model found right, the held-out "
            f"sections have {held_out.matched}: evaluate it on more sections (what is corrected is "
            "the share of the tissue alone, by the annotated over the found one)"
        )
    return held_out, reasons


def _find_source(
    config: MeasureConfig, said: Mapping[str, Any], structure: str, store: Store
) -> _Source:
    """Where predictions for held-out sections come from.

    Raises:
        BenchError: If there are none, or of other settings.
    """
    model = str(said.get("run_id", ""))
    if not model:
        raise BenchError(
            "the segmentation must say which run's model made it, received none: segment again"
        )
    if config.held_out == AUTO and (
        model.startswith(SCHEME) or step_of(store, model) == SEARCH_STEP
    ):
        source = _of_combination(config, model, store)
        _check_recipe(source.named, source.recipe, said)
        return source
    evaluation = _choose_evaluation(config, model, structure, store)
    found = get_evaluation(store, evaluation)
    if found.structure != structure or found.trained_run not in (model, ""):
        raise BenchError(
            f"held_out must be an evaluation of the model {model} for {structure}, received "
            f"{evaluation} of {found.trained_run or found.method} for {found.structure}: give "
            "another, or leave held_out out"
        )
    recipe = read_evaluated(found, store)
    _check_recipe(evaluation, recipe, said)
    return _Source(evaluation, found.split, _dataset_of(config, evaluation, store), recipe)


def _choose_evaluation(config: MeasureConfig, model: str, structure: str, store: Store) -> str:
    """The evaluation that was named, else the newest of the model on test, else on validation."""
    if config.held_out != AUTO:
        return config.held_out
    if is_evaluation(store, model):
        return model
    for split in _SPLITS:
        if found := find_evaluation_of(store, model, structure, split=split):
            return found.id
    raise BenchError(
        f"what the model {model} misses is known where it was evaluated, it never was: run "
        f"evaluate with run_id={model} and split=test"
    )


def _of_combination(config: MeasureConfig, model: str, store: Store) -> _Source:
    """A search or registered model, which is applied to the test sections of its data set."""
    if model.startswith(SCHEME):
        registered, found = fetch_registered(store, model)
        run_id = registered.run_id
    else:
        found = fetch_searched(store, model)
        run_id = found.run_id
    folder = _dataset_of(config, run_id, store)
    splits = {entry["split"] for entry in PreparedDataset.open(folder).manifest["sections"]}
    split = next((split for split in _SPLITS if split in splits), _SPLITS[-1])
    return _Source(model, split, folder, found.recipe)


def _dataset_of(config: MeasureConfig, run_id: str, store: Store) -> Path:
    """The folder of the data set of a run.

    Raises:
        BenchError: If it is not where the run had it.
    """
    if config.dataset != AUTO:
        return Path(config.dataset)
    used = find_used_dataset(store, run_id)
    if used is None or not used.folder.is_dir():
        where = used.folder if used else "none that the run names"
        raise BenchError(
            f"the held-out sections of run {run_id} must be there, received no data set in "
            f"{where}: give its folder as dataset"
        )
    return used.folder


def _check_recipe(scored: str, recipe: Recipe, said: Mapping[str, Any]) -> None:
    """Raises BenchError where a segmentation made instances in another way than was scored."""
    of_recipe = {
        "threshold": recipe.threshold,
        "opening_radius_px": recipe.opening_radius_px,
        "min_area_px": recipe.min_area_px,
        "rescale": recipe.rescale,
        "augmentations": list(recipe.augmentations),
        "watershed": recipe.watershed.origin if recipe.watershed else NONE,
    }
    for name, value in of_recipe.items():
        if name in said and said[name] != value:
            raise BenchError(
                f"the errors of a model are those of its settings, the segmentation has {name} "
                f"{said[name]} and {scored} {value}: evaluate it with these settings on test, or "
                "segment again"
            )


def _predict(config: MeasureConfig, source: _Source, store: Store) -> ExportSubject:
    """What the model finds in held-out sections: as it was evaluated, else applied now."""
    labels = LabelsConfig(
        dataset=str(source.dataset),
        run_id=source.named,
        split=source.split,
        device=config.device,
    )
    return find_export_subject(labels, store)


def _find_other(
    config: MeasureConfig, measured: MeasuredInput, first: _Source, store: Store
) -> ExportSubject:
    """The same of the other structure.

    Raises:
        BenchError: If its model was not evaluated on the same sections.
    """
    assert measured.other
    chosen = MeasureConfig(held_out=AUTO, dataset=config.dataset, device=config.device)
    source = _find_source(chosen, measured.other_said, measured.other, store)
    same = PreparedDataset.open(source.dataset).content_hash
    if (same, source.split) != (PreparedDataset.open(first.dataset).content_hash, first.split):
        raise BenchError(
            f"distances are corrected where both models were evaluated on the same sections, "
            f"received {source.split} of {source.dataset} and {first.split} of {first.dataset}: "
            "evaluate both on test of one data set"
        )
    return _predict(config, source, store)


def _measure_held_out(
    config: MeasureConfig,
    measured: MeasuredInput,
    source: _Source,
    subjects: tuple[ExportSubject, ExportSubject | None],
) -> HeldOut:
    dataset = PreparedDataset.open(source.dataset)
    units = list_measured_units(subjects[0], whole=measured.whole, steps_nm={})
    truths, founds, extents = [], [], []
    with show_progress("measure held-out sections") as advance:
        for done, unit in enumerate(units, start=1):
            pair = _measure_pair(config, measured, dataset, unit, subjects)
            truths.append(pair[0])
            founds.append(pair[1])
            extents.append(pair[2])
            advance(done, len(units), unit.name)
    names = tuple(unit.name for unit in units)
    origin = f"{source.split} of data set {dataset.root.name}, as predicted by {source.named}"
    return HeldOut(names, tuple(truths), tuple(founds), tuple(extents), origin)


def _measure_pair(
    config: MeasureConfig,
    measured: MeasuredInput,
    dataset: PreparedDataset,
    unit: MeasuredUnit,
    subjects: tuple[ExportSubject, ExportSubject | None],
) -> tuple[pd.DataFrame, pd.DataFrame, float]:
    """The objects of a held-out section, annotated and found, with its area or volume."""
    structure, (subject, other) = measured.structure, subjects
    truth = unit.stack(lambda name: dataset.read_labels(name, structure))
    found = unit.read_labels(subject, structure)
    levels = [read_ignore_levels(dataset, name, structure) for name in unit.planes]
    if any(level is not None for level in levels):
        whole = [np.zeros(truth.shape[-2:], np.uint8) if e is None else e for e in levels]
        truth, found = count_instances_only(
            truth, found, whole[0] if unit.axes == 2 else np.stack(whole)
        )
    raw = unit.stack(dataset.read_raw)
    others: list[np.ndarray | None] = [None, None]
    if other and measured.other:
        name_of_other = measured.other
        others = [
            unit.stack(lambda name: dataset.read_labels(name, name_of_other)),
            unit.read_labels(other, name_of_other),
        ]
    tables = [
        describe_objects(labels, raw, unit.edges_nm, beside, config.contact_nm)
        for labels, beside in zip((truth, found), others, strict=True)
    ]
    match_objects(*tables, true_labels=truth, found_labels=found)
    return tables[0], tables[1], extent(truth.shape, unit.edges_nm)
