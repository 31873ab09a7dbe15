"""Where a recipe and its weights come from: an evaluation, a search, or the registry."""

import ast
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.core.hashing import file_sha256
from bench.errors import BenchError
from bench.inference.symmetries import find_augmentations
from bench.methods import is_oracle
from bench.models.checkpoint import ModelInfo, load_info
from bench.postprocess.watershed import WatershedSettings
from bench.recipe.recipe import OWN, RECIPE_FILE, Recipe, RecipeMember, check_weights, read_recipe
from bench.recipe.scores import threshold_level
from bench.steps.training.source import fetch_checkpoint, fetch_weights, open_registered
from bench.structures import find_structure, split_structures
from bench.tracking.evaluations import (
    Evaluation,
    find_evaluation_of,
    get_evaluation,
    get_search,
    is_evaluation,
)
from bench.tracking.queries import (
    Cell,
    FoundRun,
    fetch_artifact,
    find_artifact,
    get_run,
    get_trained,
    read_settings,
)
from bench.tracking.registry import RegisteredModel
from bench.tracking.runs import read_warnings
from bench.tracking.store import Store
from bench.words import AUTO, NONE

# Where no evaluation says it.
_THRESHOLD = 0.5


def refuse_oracle(name: str, purpose: str) -> None:
    """Raises BenchError where a method reads the truth, for what must do without.

    Args:
        name: Row of METHODS, or any other name, which passes.
        purpose: What it is wanted for, such as ``segment images``.
    """
    if is_oracle(name):
        raise BenchError(
            f"method {name} is prompted by annotated objects (oracle), received it to {purpose}, "
            "where there is no annotation to read: take a method that finds objects itself, such "
            "as microsam_zero_shot or microsam_finetuned"
        )


def read_evaluated(evaluation: Evaluation, store: Store) -> Recipe:
    """How an evaluation made instances.

    Raises:
        BenchError: If its method reads the truth, its recipe is broken, or it has none and its
            parameters do not say it.
    """
    refuse_oracle(evaluation.method, "segment, export or search")
    path = find_artifact(store, evaluation.id, RECIPE_FILE)
    return read_recipe(path) if path else _read_parameters(evaluation, store)


# Parameters of an evaluation of an earlier version, which wrote no recipe, with their types; and
# what those of a still earlier one meant that do not name all of them.
_PARAMETERS: dict[str, tuple[type, ...]] = {
    "segmentation": (str,),
    "rescale": (bool,),
    "threshold": (float, int),
    "opening_radius_px": (int,),
    "min_area_px": (int,),
    "watershed": (str,),
    "augmentations": (str,),
    "dataset_pixel_size_nm": (float, type(None)),
    "source": (str,),
    "weights_sha256": (str,),
    "postprocess_origin": (str,),
}
_UNNAMED = {"augmentations": NONE, "dataset_pixel_size_nm": "None", "postprocess_origin": ""}


def _read_parameters(evaluation: Evaluation, store: Store) -> Recipe:
    """The recipe of an evaluation of an earlier version, from its parameters."""
    said = _UNNAMED | read_settings(store, evaluation.id)
    missing = ", ".join(name for name in _PARAMETERS if name not in said)
    if missing:
        raise BenchError(
            f"run {evaluation.id} must say how it made instances, it has no {RECIPE_FILE} and no "
            f"parameters {missing}: evaluate the model again"
        )
    given = {name: _parse(evaluation, name, said[name]) for name in _PARAMETERS}
    member = RecipeMember(
        name=evaluation.method,
        method=evaluation.method,
        seed=evaluation.seed,
        trained_run=evaluation.trained_run,
        source="" if evaluation.trained_run else given["source"],
        evaluation=evaluation.id,
        weights_sha256=given["weights_sha256"],
    )
    return Recipe(
        structure=evaluation.structure,
        dataset=evaluation.dataset,
        pixel_size_nm=given["dataset_pixel_size_nm"],
        rescale=given["rescale"],
        members=(member,),
        level=threshold_level(given["threshold"]),
        opening_radius_px=given["opening_radius_px"],
        min_area_px=given["min_area_px"],
        # Its numbers were in the checkpoint only.
        watershed=None
        if given["watershed"] == NONE
        else find_watershed(load_info(_fetch_evaluated(member, store))),
        augmentations=find_augmentations(given["augmentations"]),
        segmentation=given["segmentation"],
        origin=given["postprocess_origin"],
    )


def _parse(evaluation: Evaluation, name: str, text: str) -> Any:
    """Reads a parameter as its type; what is no text was written as Python writes it."""
    kinds = _PARAMETERS[name]
    if kinds == (str,):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    # A bool is an int to Python, and none here.
    if type(value) not in kinds:
        raise BenchError(
            f"parameter {name} of run {evaluation.id} must be of type "
            f"{' or '.join(kind.__name__ for kind in kinds)}, received {text!r}: evaluate the "
            "model again"
        )
    return value


def find_watershed(info: ModelInfo) -> WatershedSettings | None:
    """How a model says that touching instances are separated; None if it does not."""
    settings = info.inference.get("watershed")
    return WatershedSettings(**settings) if settings else None


def _fetch_evaluated(member: RecipeMember, store: Store) -> Path:
    weights = fetch_weights(store, member.trained_run, member.source)
    if member.weights_sha256 != file_sha256(weights):
        raise BenchError(
            f"run {member.evaluation} must have evaluated the model that is applied, {weights} has "
            "changed since: evaluate it again"
        )
    return weights


@dataclass(frozen=True)
class _EvaluatedModel:
    """A model, and how its evaluation says that it is applied.

    ``run_id`` is the run that made it; of a source as it is, its evaluation. Without an evaluation
    the recipe opens and leaves out nothing.
    """

    cell: Cell
    run_id: str
    weights: Path
    info: ModelInfo
    recipe: Recipe
    origin: str
    evaluated: bool
    warnings: tuple[str, ...] = ()


def find_model(run_id: str, store: Store, structure: str = AUTO) -> _EvaluatedModel:
    """Finds the model of a training or an evaluation.

    Args:
        run_id: The run.
        store: The tracking store.
        structure: Which one of a model of classes is segmented; auto is the only one of others.

    Raises:
        BenchError: If the run does not exist or has no model, or its evaluation is of other
            weights, or not of our way; or if it is of classes, and none of them is named.
    """
    if is_evaluation(store, run_id):
        return _find_evaluated(get_evaluation(store, run_id), store)
    trained = get_trained(store, run_id)
    refuse_oracle(trained.cell.method, "segment")
    cell = replace(trained.cell, structure=choose_class(trained, structure))
    evaluation = find_evaluation_of(store, trained.id, cell.structure)
    if evaluation is not None:
        return _find_evaluated(evaluation, store)
    weights = fetch_checkpoint(store, trained.id)
    info = load_info(weights)
    recipe = _plain_recipe(cell, trained.id, weights, info)
    origin = "The model was not evaluated."
    return _EvaluatedModel(
        cell, trained.id, weights, info, recipe, origin, evaluated=False, warnings=trained.warnings
    )


def choose_class(trained: FoundRun, structure: str) -> str:
    """The structure that a model segments, of those that it learned.

    Args:
        trained: The run that made it.
        structure: A name or alias; auto is the only one, and what is not learned is told later.

    Raises:
        BenchError: If it has learned several as classes, and the name is none of them.
    """
    learned = split_structures(trained.cell.structure)
    if len(learned) == 1:
        return learned[0]
    if structure == AUTO or find_structure(structure).name not in learned:
        raise BenchError(
            f"run {trained.id} learned the classes {', '.join(learned)}, received structure="
            f"{structure}: give one of them"
        )
    return find_structure(structure).name


def _find_evaluated(evaluation: Evaluation, store: Store) -> _EvaluatedModel:
    recipe = read_evaluated(evaluation, store)
    (member,) = recipe.members
    weights = _fetch_evaluated(member, store)
    if recipe.segmentation != OWN:
        raise BenchError(
            f"segment applies models its own way, run {evaluation.id} evaluated with segmentation="
            f"{recipe.segmentation}: evaluate with segmentation=own, and segment again"
        )
    if member.trained_run:
        trained = get_trained(store, member.trained_run)
        cell = replace(trained.cell, structure=evaluation.structure)
        run_id, warnings = trained.id, trained.warnings
    else:
        cell = Cell(evaluation.method, evaluation.structure, evaluation.dataset, 0)
        run_id, warnings = evaluation.id, ()
    origin = f"As evaluation {evaluation.id} on {evaluation.split}. {recipe.origin}"
    return _EvaluatedModel(
        cell, run_id, weights, load_info(weights), recipe, origin, evaluated=True, warnings=warnings
    )


def _plain_recipe(cell: Cell, trained_run: str, weights: Path, info: ModelInfo) -> Recipe:
    member = RecipeMember(
        name=cell.method,
        method=cell.method,
        seed=cell.seed,
        trained_run=trained_run,
        source="",
        evaluation="",
        weights_sha256=file_sha256(weights),
    )
    return Recipe(
        structure=cell.structure,
        dataset=cell.dataset,
        pixel_size_nm=None,
        rescale=True,
        members=(member,),
        level=threshold_level(_THRESHOLD),
        opening_radius_px=0,
        min_area_px=0,
        watershed=find_watershed(info),
    )


@dataclass(frozen=True)
class FoundRecipe:
    """A recipe with its weights.

    Attributes:
        recipe: The recipe.
        weights: The checkpoint of each of its models.
        run_id: The search that found it.
        warnings: What a reader of its results must know.
    """

    recipe: Recipe
    weights: tuple[Path, ...]
    run_id: str
    warnings: tuple[str, ...]


def fetch_searched(store: Store, run_id: str) -> FoundRecipe:
    """The recipe of a search, with the checkpoints of the runs that it names.

    Raises:
        BenchError: If the run has none, or a checkpoint is gone or was changed.
    """
    search = get_search(store, run_id)
    recipe = read_recipe(fetch_artifact(store, search, RECIPE_FILE))
    weights = tuple(
        fetch_weights(store, member.trained_run, member.source) for member in recipe.members
    )
    check_weights(recipe, weights)
    runs = [search, *(member.trained_run for member in recipe.members if member.trained_run)]
    warnings = [warning for run in runs for warning in read_warnings(get_run(store, run))]
    return FoundRecipe(recipe, weights, search, tuple(dict.fromkeys(warnings)))


def fetch_registered(store: Store, uri: str) -> tuple[RegisteredModel, FoundRecipe]:
    """The recipe of a registered model, with the weights that it carries.

    Raises:
        BenchError: If there is no such model, its files are gone, or it is none of this suite.
    """
    model, recipe, weights = open_registered(store, uri)
    warnings = tuple(model.tags.get("bench.warning", "").splitlines())
    return model, FoundRecipe(recipe, weights, model.tags.get("bench.search", ""), warnings)
