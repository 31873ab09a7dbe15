import dataclasses
import json

import numpy as np
import pytest

from bench.core.files import write_json
from bench.errors import BenchError
from bench.inference.prediction import SectionPrediction
from bench.postprocess.watershed import WatershedSettings
from bench.recipe.recipe import Recipe, RecipeMember, read_recipe, recipe_to_json

MEMBER = RecipeMember("m seed 0", "finetuned", 0, "run", "", "evaluation", "0" * 64)
RECIPE = Recipe(
    structure="vesicles",
    dataset="d" * 64,
    pixel_size_nm=4.0,
    rescale=True,
    members=(MEMBER, dataclasses.replace(MEMBER, name="m seed 1", seed=1)),
    ensemble="mean",
    weights=(2, 1),
    augmentations=("identity", "flip_x"),
    level=102,
    opening_radius_px=1,
    min_area_px=10,
    watershed=WatershedSettings(0.7, 1.0, 2, 5, "chosen"),
    metric="dice",
    validation={"dice": 0.5},
)


def test_a_recipe_comes_back_from_its_file(tmp_path):
    write_json(tmp_path / "recipe.json", recipe_to_json(RECIPE))
    assert read_recipe(tmp_path / "recipe.json") == RECIPE
    plain = dataclasses.replace(RECIPE, watershed=None, pixel_size_nm=None)
    write_json(tmp_path / "recipe.json", recipe_to_json(plain))
    assert read_recipe(tmp_path / "recipe.json") == plain


def test_lengths_stay_what_they_are_in_nm():
    assert (RECIPE.postprocess(4.0).opening_radius_px, RECIPE.postprocess(4.0).min_area_px) == (
        1,
        10,
    )
    finer = RECIPE.postprocess(2.0)
    assert (finer.opening_radius_px, finer.min_area_px) == (2, 40)
    unknown = RECIPE.postprocess(None)
    assert (unknown.opening_radius_px, unknown.min_area_px) == (1, 10)


def test_a_level_is_the_threshold_from_which_a_pixel_counts():
    levels = np.full((8, 8), 101, np.uint8)
    levels[2:6, 2:6] = 102
    recipe = dataclasses.replace(RECIPE, watershed=None)
    found = recipe.segment(SectionPrediction(levels), 4.0)
    # The opening with a radius of 1 px takes the corners.
    assert np.count_nonzero(found.labels) == 12
    assert recipe.threshold == pytest.approx(0.4)


def test_it_is_said_in_one_line():
    assert RECIPE.describe() == (
        "mean of 2 x m seed 0 + 1 x m seed 1, 2 symmetries (identity, flip_x), threshold 0.400, "
        "opening radius 1 px, minimum area 10 px, watershed"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "something"}, "must have format 'synapse-bench-recipe' version 1"),
        ({"version": 2}, "version 2: run optimize again"),
        ({"levels": 3}, "must say all about a combination and no more"),
        ({"members": [{}]}, "must say all about a combination and no more"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, change, message):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe_to_json(RECIPE) | change))
    with pytest.raises(BenchError, match=message):
        read_recipe(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(BenchError, match="is not a readable recipe"):
        read_recipe(tmp_path / "none.json")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(BenchError, match="must have format"):
        read_recipe(tmp_path / "list.json")
