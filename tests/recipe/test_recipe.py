import dataclasses
import hashlib
import json

import numpy as np
import pytest

from bench.core.files import write_json
from bench.core.version import without_prose
from bench.errors import BenchError
from bench.inference.prediction import SectionPrediction
from bench.postprocess.watershed import WatershedSettings
from bench.recipe.recipe import Recipe, RecipeMember, read_recipe, recipe_to_json
from bench.recipe.sections import segment_by_recipe

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
    origin="Searched on validation sections by dice.",
)
# As the first version of the format wrote it, by a search of earlier releases.
VERSION_1 = """{
  "format": "synapse-bench-recipe", "version": 1, "structure": "vesicles", "dataset": "DATASET",
  "pixel_size_nm": 4.0, "rescale": true, "members": [
    {"name": "m seed 0", "method": "finetuned", "seed": 0, "trained_run": "run", "source": "",
     "evaluation": "evaluation", "weights_sha256": "WEIGHTS"},
    {"name": "m seed 1", "method": "finetuned", "seed": 1, "trained_run": "run", "source": "",
     "evaluation": "evaluation", "weights_sha256": "WEIGHTS"}],
  "ensemble": "mean", "weights": [2, 1], "augmentations": ["identity", "flip_x"], "level": 102,
  "opening_radius_px": 1, "min_area_px": 10, "watershed": {"seed_threshold": 0.7,
    "boundary_weight": 1.0, "seed_depth_px": 2, "min_seed_area_px": 5, "origin": "chosen"},
  "metric": "dice", "validation": {"dice": 0.5}, "test": {}
}""".replace("DATASET", "d" * 64).replace("WEIGHTS", "0" * 64)


def test_a_recipe_comes_back_from_its_file(tmp_path):
    write_json(tmp_path / "recipe.json", recipe_to_json(RECIPE))
    assert read_recipe(tmp_path / "recipe.json") == RECIPE
    plain = dataclasses.replace(RECIPE, watershed=None, pixel_size_nm=None)
    write_json(tmp_path / "recipe.json", recipe_to_json(plain))
    assert read_recipe(tmp_path / "recipe.json") == plain
    package = dataclasses.replace(plain, segmentation="synapse_net")
    write_json(tmp_path / "recipe.json", recipe_to_json(package))
    assert read_recipe(tmp_path / "recipe.json") == package


def test_a_recipe_of_version_1_is_read_and_recognised(tmp_path):
    """Registered models and searches of earlier releases carry it; its hash is in the registry."""
    path = tmp_path / "recipe.json"
    path.write_text(VERSION_1)
    assert read_recipe(path) == RECIPE
    canonical = json.dumps(json.loads(VERSION_1), sort_keys=True, separators=(",", ":"))
    assert RECIPE.hashes()[1] == hashlib.sha256(canonical.encode()).hexdigest()


def test_what_is_said_for_people_is_no_part_of_the_identity():
    rule = dataclasses.replace(RECIPE.watershed, origin="other words")
    other = dataclasses.replace(RECIPE, watershed=rule, origin="other words, too")
    assert without_prose(other) == without_prose(RECIPE)
    assert other.hashes()[0] == RECIPE.hashes()[0]
    assert "words" not in json.dumps(without_prose(other))
    for change in ({"level": 103}, {"segmentation": "synapse_net"}, {"validation": {"dice": 0.6}}):
        assert dataclasses.replace(RECIPE, **change).hashes()[0] != RECIPE.hashes()[0]
    deeper = dataclasses.replace(RECIPE.watershed, seed_depth_px=3)
    assert dataclasses.replace(RECIPE, watershed=deeper).hashes()[0] != RECIPE.hashes()[0]


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
    found = segment_by_recipe(recipe, SectionPrediction(levels), 4.0, lambda: pytest.fail("read"))
    # The opening with a radius of 1 px takes the corners.
    assert np.count_nonzero(found.labels) == 12
    assert recipe.threshold == pytest.approx(0.4)


def test_it_is_said_in_one_line():
    assert RECIPE.describe() == (
        "mean of 2 x m seed 0 + 1 x m seed 1, 2 symmetries (identity, flip_x), threshold 0.400, "
        "opening radius 1 px, minimum area 10 px, watershed"
    )
    package = dataclasses.replace(RECIPE, watershed=None, segmentation="synapse_net")
    assert package.describe().endswith("minimum area 10 px, by synapse_net")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "something"}, "must have format 'synapse-bench-recipe' version 1 or 2"),
        ({"version": 3}, r"version 3: run the step that wrote it again \(evaluate or optimize\)"),
        ({"levels": 3}, "must say all about a recipe and no more, .*'levels'"),
        ({"members": [{}]}, "must say all about a recipe and no more"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, change, message):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe_to_json(RECIPE) | change))
    with pytest.raises(BenchError, match=message):
        read_recipe(path)


def test_a_recipe_that_leaves_something_out_is_refused(tmp_path):
    """A default is no answer: another may have been meant."""
    path = tmp_path / "recipe.json"
    for name in ("level", "weights", "segmentation", "origin"):
        content = recipe_to_json(RECIPE)
        del content[name]
        path.write_text(json.dumps(content))
        with pytest.raises(BenchError, match=f"received a file that does not .*'{name}'"):
            read_recipe(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(BenchError, match="is not a readable recipe"):
        read_recipe(tmp_path / "none.json")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(BenchError, match="must have format"):
        read_recipe(tmp_path / "list.json")


def test_the_engine_of_a_model_is_said_where_it_is_not_torch(tmp_path):
    by_openvino = dataclasses.replace(MEMBER, engine="openvino")
    recipe = dataclasses.replace(RECIPE, members=(by_openvino, RECIPE.members[1]))
    write_json(tmp_path / "recipe.json", recipe_to_json(recipe))
    assert read_recipe(tmp_path / "recipe.json") == recipe
    assert all(here != there for here, there in zip(recipe.hashes(), RECIPE.hashes(), strict=True))
    assert without_prose(recipe) != without_prose(RECIPE)
    assert "engine" not in json.dumps([recipe_to_json(RECIPE), without_prose(RECIPE)])
