"""Where a recipe and the weights of its models come from: a search, or the model registry."""

from dataclasses import dataclass
from pathlib import Path

from bench.recipe.recipe import RECIPE_FILE, Recipe, read_recipe
from bench.recipe.recipe_folder import check_weights
from bench.steps.training.source import fetch_weights, open_registered
from bench.tracking.queries import fetch_artifact, get_run
from bench.tracking.registry import RegisteredModel
from bench.tracking.runs import read_warnings
from bench.tracking.searches import get_search
from bench.tracking.store import Store


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
