"""Where a recipe and its weights come from: an evaluation, a search, or the registry."""

from dataclasses import dataclass
from pathlib import Path

from bench.core.hashing import file_sha256
from bench.errors import BenchError
from bench.inference.blends import MEAN
from bench.inference.symmetries import find_augmentations
from bench.models.checkpoint import ModelInfo, load_info
from bench.postprocess.watershed import WatershedSettings
from bench.recipe.recipe import RECIPE_FILE, Recipe, RecipeMember, check_weights, read_recipe
from bench.recipe.scores import threshold_level
from bench.steps.serving.export_subject import find_weights
from bench.steps.training.source import fetch_checkpoint, fetch_weights, open_registered
from bench.tracking.evaluations import (
    Evaluation,
    find_evaluation_of,
    get_evaluation,
    get_search,
    is_evaluation,
)
from bench.tracking.queries import Cell, fetch_artifact, get_run, get_trained
from bench.tracking.registry import RegisteredModel
from bench.tracking.runs import read_warnings
from bench.tracking.store import Store
from bench.words import NONE

# Where no evaluation says it.
_THRESHOLD = 0.5


@dataclass(frozen=True)
class _EvaluatedModel:
    """A model, and the evaluation that says how it is applied.

    Attributes:
        cell: What it is, as the benchmark names it.
        run_id: The run that made it; of a source as it is, its evaluation.
        weights: Its checkpoint.
        sha256: Hash of the checkpoint.
        info: What the checkpoint says.
        evaluation: The evaluation; None without one.
        warnings: What a reader of its results must know.
    """

    cell: Cell
    run_id: str
    weights: Path
    sha256: str
    info: ModelInfo
    evaluation: Evaluation | None
    warnings: tuple[str, ...] = ()

    def origin(self) -> str:
        """Where the recipe comes from, one sentence."""
        found = self.evaluation
        if found is None:
            return "The model was not evaluated."
        return f"As evaluation {found.id} on {found.split}. {found.settings['postprocess_origin']}"

    def recipe(self) -> Recipe:
        """The recipe that the evaluation used; without one, nothing is opened or left out.

        Raises:
            BenchError: If the evaluation is of other weights, or not of our way.
        """
        settings = dict(self.evaluation.settings) if self.evaluation else {}
        if self.evaluation:
            _check_evaluation(self.evaluation, self)
        size = settings.get("dataset_pixel_size_nm", "None")
        separated = settings.get("watershed") != "none"
        return Recipe(
            structure=self.cell.structure,
            dataset=self.cell.dataset,
            pixel_size_nm=None if size == "None" else float(size),
            rescale=settings.get("rescale", "True") == "True",
            members=(self.member(),),
            ensemble=MEAN,
            weights=(1,),
            # Runs of an earlier version do not name them.
            augmentations=find_augmentations(settings.get("augmentations", NONE)),
            level=threshold_level(float(settings.get("threshold", _THRESHOLD))),
            opening_radius_px=int(settings.get("opening_radius_px", 0)),
            min_area_px=int(settings.get("min_area_px", 0)),
            watershed=_read_watershed(self.info) if separated else None,
            metric=NONE,
        )

    def member(self) -> RecipeMember:
        """What a recipe says of the model."""
        found, trained = self.evaluation, self.run_id
        source = "" if found is None or found.trained_run else found.settings["source"]
        return RecipeMember(
            name=self.cell.method,
            method=self.cell.method,
            seed=self.cell.seed,
            trained_run="" if source else trained,
            source=source,
            evaluation=found.id if found else "",
            weights_sha256=self.sha256,
        )


def find_model(run_id: str, store: Store) -> _EvaluatedModel:
    """Finds the model of a training or an evaluation.

    Raises:
        BenchError: If the run does not exist or has no model.
    """
    if not is_evaluation(store, run_id):
        trained = get_trained(store, run_id)
        weights = fetch_checkpoint(store, trained.id)
        evaluation = find_evaluation_of(store, trained.id)
        cell, run_id, warnings = trained.cell, trained.id, trained.warnings
    else:
        evaluation = get_evaluation(store, run_id)
        weights = find_weights(evaluation, store)
        cell, warnings = Cell(evaluation.method, evaluation.structure, evaluation.dataset, 0), ()
        run_id = evaluation.trained_run or evaluation.id
        if evaluation.trained_run:
            trained = get_trained(store, evaluation.trained_run)
            cell, warnings = trained.cell, trained.warnings
    return _EvaluatedModel(
        cell, run_id, weights, file_sha256(weights), load_info(weights), evaluation, warnings
    )


def _check_evaluation(found: Evaluation, model: _EvaluatedModel) -> None:
    """Raises BenchError where an evaluation is of other weights, or not of our way."""
    if found.settings["weights_sha256"] != model.sha256:
        raise BenchError(
            f"run {found.id} must have evaluated the model that is applied, {model.weights} has "
            "changed since: evaluate it again"
        )
    if found.settings["segmentation"] != "own":
        raise BenchError(
            f"segment applies models its own way, run {found.id} evaluated with segmentation="
            f"{found.settings['segmentation']}: evaluate with segmentation=own, and segment again"
        )


def _read_watershed(info: ModelInfo) -> WatershedSettings | None:
    """How a model says that touching instances are separated; None if it does not."""
    settings = info.inference.get("watershed")
    return WatershedSettings(**settings) if settings else None


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
