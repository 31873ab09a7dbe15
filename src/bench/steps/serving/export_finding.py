"""Finds the labels that an export is of, by what the user named."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.config.data import LabelsConfig
from bench.dataset.prepared import PreparedDataset
from bench.dataset.volumes import plane_reader
from bench.errors import BenchError
from bench.export.sphere_table import SPHERES_FILE, read_spheres
from bench.models.scales import find_scale_warnings
from bench.report.variants import combination_name
from bench.steps.scoring.recipes import (
    FoundRecipe,
    fetch_registered,
    fetch_searched,
    read_evaluated,
)
from bench.steps.scoring.units import Unit, list_units, segment_unit
from bench.steps.segmented_names import OUTPUT_TAG
from bench.steps.serving.export_segmented import export_segmented
from bench.steps.serving.export_subject import (
    DEFAULT_SPLIT,
    ExportSubject,
    export_annotation,
    subject_of_split,
)
from bench.steps.serving.whole_volumes import read_units
from bench.structures import find_structure, split_names
from bench.tracking.evaluations import SEARCH_STEP, Evaluation, get_evaluation
from bench.tracking.queries import (
    fetch_artifact,
    find_artifact,
    get_finished,
    scratch_folder,
    step_of,
)
from bench.tracking.registry import SCHEME
from bench.tracking.store import Store
from bench.words import AUTO, NONE

# It needs torch, which takes seconds to import: only where a model is applied.
if TYPE_CHECKING:
    from bench.recipe.volume_predictor import VolumePredictor

log = logging.getLogger(__name__)

_SEGMENT_STEP = "segment"


def find_export_subject(config: LabelsConfig, store: Store) -> ExportSubject:
    """Finds what a config names.

    Raises:
        BenchError: If there is none, or the config contradicts itself.
    """
    folders = _find_folders(config, store)
    if folders:
        return export_segmented(config, folders)
    dataset = PreparedDataset.open(config.dataset)
    if config.run_id in (AUTO, NONE):
        return export_annotation(config, dataset)
    if config.run_id.startswith(SCHEME):
        model, found = fetch_registered(store, config.run_id)
        return _find_applied(config, dataset, found, model.uri)
    if step_of(store, config.run_id) == SEARCH_STEP:
        found = fetch_searched(store, config.run_id)
        return _find_applied(config, dataset, found, found.run_id)
    return _find_evaluated(config, dataset, get_evaluation(store, config.run_id), store)


def _find_folders(config: LabelsConfig, store: Store) -> dict[Path, str]:
    """The outputs of segment that a config names, with the run of each; empty if it names none."""
    runs = [] if config.run_id in (AUTO, NONE) else list(split_names(config.run_id))
    if config.input != NONE:
        if runs:
            raise BenchError(
                f"labels come from one place, received input={config.input} and run_id="
                f"{config.run_id}: leave one of both out"
            )
        return dict.fromkeys(map(Path, split_names(config.input)), "")
    if config.run_id.startswith(SCHEME):
        return {}
    if len(runs) == 1 and step_of(store, runs[0]) != _SEGMENT_STEP:
        return {}
    found = {}
    for run_id in runs:
        run = get_finished(store, run_id, (_SEGMENT_STEP,), "have segmented images")
        folder = Path(run.data.tags.get(OUTPUT_TAG, "") or run.data.params["cfg.output"])
        if not folder.is_dir():
            raise BenchError(
                f"the output of run {run_id} must be where it was written, received nothing at "
                f"{folder.absolute()}: give its folder as -P input=FOLDER in place of run_id"
            )
        found[folder] = run_id
    return found


def _find_applied(
    config: LabelsConfig, dataset: PreparedDataset, found: FoundRecipe, model: str
) -> ExportSubject:
    """What the recipe of a search, or a registered one, makes of a dataset's split."""
    from bench.inference.device import choose_compute
    from bench.recipe.predictor import RecipePredictor
    from bench.recipe.volume_predictor import VolumePredictor

    recipe = found.recipe
    _check_structure(config, f"{model} segments", recipe.structure)
    compute = choose_compute(config.device, AUTO)
    predictor = RecipePredictor.open(recipe, found.weights, compute)
    size_nm = dataset.pixel_size_nm
    warnings = [
        *found.warnings,
        *find_scale_warnings(predictor.infos, [size_nm] if size_nm else [], rescale=recipe.rescale),
    ]

    split = DEFAULT_SPLIT if config.split == AUTO else config.split
    units = list_units(dataset, split, by_section=recipe.volume is None)
    if recipe.volume and units[0].volume is None:
        raise BenchError(
            f"{model} segments volumes, received {dataset.root}, a dataset of sections: prepare "
            "stacks with the distance of their planes, or give another model"
        )
    volumes = VolumePredictor(predictor, found.weights, compute)

    def segment(unit: Unit) -> np.ndarray:
        log.info("%s: %s is segmented", unit.name, recipe.structure)
        return _apply_recipe(volumes, unit)

    return subject_of_split(
        dataset,
        split,
        (recipe.structure,),
        **read_units(units, segment),
        inputs={"model": model},
        settings={"device": compute.device.type, "precision": compute.precision},
        run_id=model,
        method=combination_name(recipe.metric),
        warnings=tuple(warnings),
    )


def _apply_recipe(volumes: "VolumePredictor", unit: Unit) -> np.ndarray:
    """The ids that a recipe makes of a section, or of a volume where it is one of these."""
    predictor, size_nm = volumes.sections, unit.dataset.pixel_size_nm
    with scratch_folder() as scratch:
        folder = Path(scratch) / "tiles"
        if unit.volume is None:
            maps = predictor.predict(unit.read_raw(), size_nm, folder, lambda more: None)
        else:
            shape, voxel_size_nm = unit.volume.shape, unit.volume.voxel_size_nm
            volumes.check(shape, voxel_size_nm)
            reader = plane_reader(unit.dataset, unit.volume)
            maps = volumes.predict(reader, shape, voxel_size_nm, folder, lambda more: None)
        # Maps of a volume are read from the folder.
        return segment_unit(predictor.recipe, unit, maps).labels


def _check_structure(config: LabelsConfig, what: str, structure: str) -> None:
    if config.structure != AUTO and find_structure(config.structure).name != structure:
        raise BenchError(
            f"{what} {structure}, received structure={config.structure}: leave structure out, or "
            "give a run of that structure"
        )


def _find_evaluated(
    config: LabelsConfig, dataset: PreparedDataset, found: Evaluation, store: Store
) -> ExportSubject:
    if found.dataset != dataset.content_hash:
        raise BenchError(
            f"run {found.id} evaluated a dataset of content {found.dataset[:12]}, received "
            f"{dataset.root} of content {dataset.content_hash[:12]}: give the dataset of the run"
        )
    if config.split not in (AUTO, found.split):
        raise BenchError(
            f"run {found.id} predicted {found.split}, received split={config.split}: leave split "
            "out, or evaluate that split"
        )
    _check_structure(config, f"run {found.id} segmented", found.structure)
    recipe = read_evaluated(found, store)
    predictions = fetch_artifact(store, found.id, "predictions.h5")

    whole = recipe.volume is not None
    units = list_units(dataset, found.split, by_section=not whole)

    def segment(unit: Unit) -> np.ndarray:
        prediction = unit.read_mean(predictions, recipe.augmentations)
        return segment_unit(recipe, unit, prediction).labels

    table = find_artifact(store, found.id, SPHERES_FILE) if whole else None
    return subject_of_split(
        dataset,
        found.split,
        (found.structure,),
        **read_units(units, segment),
        inputs={"evaluation": found.id},
        run_id=found.id,
        method=found.method,
        spheres={found.structure: read_spheres(table)} if table else {},
    )
