import dataclasses

import pytest

from bench.core.hashing import file_sha256
from bench.errors import BenchError
from bench.recipe.recipe import Recipe, RecipeMember, read_recipe_folder, write_recipe_folder


@pytest.fixture
def given(tmp_path):
    """A recipe of two models, whose checkpoints have the same name in different folders."""
    weights = []
    for number in range(2):
        path = tmp_path / f"run{number}" / "best.safetensors"
        path.parent.mkdir()
        path.write_bytes(b"weights %d" % number)
        path.with_suffix(".json").write_text(f'{{"model": {number}}}')
        weights.append(path)
    members = tuple(
        RecipeMember(f"m{n}", "finetuned", n, "run", "", "evaluation", file_sha256(path))
        for n, path in enumerate(weights)
    )
    recipe = Recipe(
        structure="vesicles",
        dataset="d" * 64,
        pixel_size_nm=None,
        rescale=True,
        members=members,
        ensemble="vote",
        weights=(1, 1),
        augmentations=("identity",),
        level=100,
        opening_radius_px=0,
        min_area_px=0,
        watershed=None,
        metric="dice",
        validation={"dice": 0.5},
    )
    return recipe, weights


def test_a_folder_can_be_carried_anywhere(given, tmp_path):
    recipe, weights = given
    write_recipe_folder(tmp_path / "a" / "recipe", recipe, weights)
    moved = (tmp_path / "a").rename(tmp_path / "b") / "recipe"
    found, paths = read_recipe_folder(moved)
    assert found == recipe
    for before, after in zip(weights, paths, strict=True):
        assert after.parent == moved
        assert after.read_bytes() == before.read_bytes()
        description = before.with_suffix(".json").read_text()
        assert after.with_suffix(".json").read_text() == description


def test_other_weights_are_refused_before_anything_is_written(given, tmp_path):
    recipe, weights = given
    other = dataclasses.replace(recipe.members[1], weights_sha256="0" * 64)
    changed = dataclasses.replace(recipe, members=(recipe.members[0], other))
    with pytest.raises(BenchError, match=r"weights of m1 must be .*evaluate the model and optim"):
        write_recipe_folder(tmp_path / "recipe", changed, weights)
    assert not (tmp_path / "recipe").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("member1.safetensors", r"weights of m1 must be .* is no file"),
        ("recipe.json", "is not a readable recipe"),
    ],
)
def test_what_is_missing_is_named(given, tmp_path, name, message):
    write_recipe_folder(tmp_path / "recipe", *given)
    (tmp_path / "recipe" / name).unlink()
    with pytest.raises(BenchError, match=message):
        read_recipe_folder(tmp_path / "recipe")
