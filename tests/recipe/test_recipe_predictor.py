import dataclasses
import re

import numpy as np
import pytest
import torch

from bench.core.hashing import file_sha256
from bench.inference import tiles
from bench.inference.blends import predict_augmented
from bench.inference.device import Compute
from bench.inference.prediction import open_predictor
from bench.models.checkpoint import load_info
from bench.models.scales import find_scale_warnings
from bench.recipe.predictor import RecipePredictor
from bench.recipe.recipe import Recipe, RecipeMember

CPU = Compute(torch.device("cpu"), "fp32")


class KilledError(Exception):
    """Stands for the end of the process."""


def recipe_of(weights, **settings):
    members = tuple(
        RecipeMember(f"m{n}", "scratch", n, "run", "", "evaluation", file_sha256(path))
        for n, path in enumerate(weights)
    )
    given = {
        "structure": "vesicles",
        "dataset": "d" * 64,
        "pixel_size_nm": 5.0,
        "rescale": True,
        "members": members,
        "ensemble": "mean",
        "weights": (2, 1)[: len(members)],
        "augmentations": ("identity", "rot90", "antitranspose"),
        "level": 128,
        "opening_radius_px": 1,
        "min_area_px": 5,
        "watershed": None,
        "metric": "dice",
    }
    return Recipe(**(given | settings))


def blend_in_memory(recipe, weights, raw, fed_nm):
    """What evaluate stores of each model, and optimize makes of it."""
    found = [
        [
            maps
            for _, maps in predict_augmented(
                open_predictor(path, CPU, "vesicles")[0], raw, fed_nm, recipe.augmentations
            )
        ]
        for path in weights
    ]
    return recipe.blend.apply(found)


def section(shape=(70, 91)):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("pixel_size_nm", [None, 5.0, 7.0])
@pytest.mark.parametrize("number", [1, 2])
def test_the_maps_are_those_of_the_search(two_models, tmp_path, number, pixel_size_nm, rescale):
    recipe, raw, steps = recipe_of(two_models[:number], rescale=rescale), section(), []
    predictor = RecipePredictor.open(recipe, two_models[:number], CPU)
    found = predictor.predict(raw, pixel_size_nm, tmp_path, steps.append)
    fed_nm = pixel_size_nm if rescale else None
    expected = blend_in_memory(recipe, two_models[:number], raw, fed_nm)
    np.testing.assert_array_equal(found.foreground, expected.foreground)
    np.testing.assert_array_equal(found.boundary, expected.boundary)
    assert np.ptp(found.foreground) > 0
    assert sum(steps) == predictor.count_steps(raw.shape, pixel_size_nm)


@pytest.mark.parametrize("name", ["identity", "rot90", "flip_y"])
def test_a_single_pass_is_itself(two_models, tmp_path, name):
    recipe = recipe_of(two_models[:1], augmentations=(name,))
    predictor = RecipePredictor.open(recipe, two_models[:1], CPU)
    found = predictor.predict(section(), 5.0, tmp_path, lambda more: None)
    expected = blend_in_memory(recipe, two_models[:1], section(), 5.0)
    np.testing.assert_array_equal(found.foreground, expected.foreground)
    np.testing.assert_array_equal(found.boundary, expected.boundary)


@pytest.mark.parametrize("batches", [0, 1, 9, 17])
def test_a_killed_prediction_goes_on(two_models, tmp_path, monkeypatch, batches):
    """Every batch of tiles is predicted once; the maps and the steps are the same."""
    recipe, raw = recipe_of(two_models), section()
    expected = blend_in_memory(recipe, two_models, raw, 5.0)
    predictor, calls, steps = RecipePredictor.open(recipe, two_models, CPU), [], []
    start_tiles = tiles.start_tiles

    def predict(network, tiles, *others, **named):
        if len(calls) == batches and not steps:
            raise KilledError
        calls.append(len(tiles))
        return start_tiles(network, tiles, *others, **named)

    monkeypatch.setattr(tiles, "start_tiles", predict)
    with pytest.raises(KilledError):
        predictor.predict(raw, 5.0, tmp_path, lambda more: None)
    steps.append(0)
    found = predictor.predict(raw, 5.0, tmp_path, steps.append)
    np.testing.assert_array_equal(found.foreground, expected.foreground)
    np.testing.assert_array_equal(found.boundary, expected.boundary)
    assert sum(steps) == sum(calls) == predictor.count_steps(raw.shape, 5.0)


def test_steps_are_counted_by_hand(two_models):
    """70 x 91 px at 5 nm: 3 x 3 tiles of 32 px; at 4 nm 88 x 114 px: 4 x 5 tiles of 24 px."""
    predictor = RecipePredictor.open(recipe_of(two_models), two_models, CPU)
    assert predictor.count_steps((70, 91), 5.0) == 3 * (9 + 20)


@pytest.mark.parametrize(
    ("sizes", "rescale", "expected"),
    [
        ([5.0, 10.0, 2.5], True, []),
        ([10.1], True, ["10.1 nm and the model was trained at 5 nm, a factor over 2: check"]),
        ([2.4, 2.4], False, ["2.4 nm and .* 5 nm, a factor over 2: use rescale=true"]),
        ([], True, []),
    ],
)
def test_pixel_sizes_far_from_a_model(two_models, sizes, rescale, expected):
    info = load_info(two_models[0])
    infos = [info, info, dataclasses.replace(info, input_pixel_size_nm=None)]
    found = find_scale_warnings(infos, sizes, rescale=rescale)
    assert len(found) == len(expected)
    for warning, words in zip(found, expected, strict=True):
        assert re.search(words, warning)
