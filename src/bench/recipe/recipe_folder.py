"""A recipe with the weights of its models, as a folder that works wherever it is copied to."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from bench.core.files import write_json
from bench.core.hashing import file_sha256
from bench.errors import BenchError
from bench.recipe.recipe import RECIPE_FILE, Recipe, read_recipe, recipe_to_json


def write_recipe_folder(folder: Path, recipe: Recipe, weights: Sequence[Path]) -> None:
    """Copies the checkpoints of a recipe's models into a new folder, the recipe beside them.

    Raises:
        BenchError: If a checkpoint is not the one that the recipe was found with.
    """
    check_weights(recipe, weights)
    folder.mkdir(parents=True)
    for number, path in enumerate(weights):
        for part in (path, path.with_suffix(".json")):
            shutil.copyfile(part, (folder / member_file(number)).with_suffix(part.suffix))
    write_json(folder / RECIPE_FILE, recipe_to_json(recipe))


def read_recipe_folder(folder: Path) -> tuple[Recipe, tuple[Path, ...]]:
    """Reads a recipe and finds the checkpoints of its models.

    Raises:
        BenchError: If something of it is missing or was changed.
    """
    recipe = read_recipe(folder / RECIPE_FILE)
    weights = tuple(folder / member_file(number) for number in range(len(recipe.members)))
    check_weights(recipe, weights)
    return recipe, weights


def member_file(number: int) -> str:
    """The checkpoint of a recipe's model, by its place in the recipe."""
    return f"member{number}.safetensors"


def check_weights(recipe: Recipe, weights: Sequence[Path]) -> None:
    """Raises BenchError where a checkpoint is not the one of the recipe's search."""
    for member, path in zip(recipe.members, weights, strict=True):
        found = file_sha256(path) if path.is_file() else "no file"
        if found != member.weights_sha256:
            raise BenchError(
                f"the weights of {member.name} must be those that were searched "
                f"({member.weights_sha256[:12]}), {path} is {found[:12]}: evaluate the model and "
                "optimize again"
            )
