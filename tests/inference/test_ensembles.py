import numpy as np
import pytest

from bench.errors import BenchError
from bench.inference.blends import (
    Blend,
    combine_levels,
    majority,
    mean_prediction,
    round_mean,
    sum_levels,
)
from bench.inference.prediction import SectionPrediction


def random_maps(models, augmentations, shape=(11, 7)):
    rng = np.random.default_rng(models * 10 + augmentations)
    return [
        [rng.integers(0, 256, shape).astype(np.uint8) for _ in range(augmentations)]
        for _ in range(models)
    ]


def test_a_vote_is_the_majority_of_the_masks_at_every_threshold():
    for models in (1, 2, 3, 4, 5):
        maps = [member[0] for member in random_maps(models, 1)]
        voted = majority(maps)
        for level in range(256):
            votes = sum((member >= level).astype(int) for member in maps)
            assert ((voted >= level) == (2 * votes > models)).all()


def test_a_maximum_is_the_union_of_the_masks_at_every_threshold():
    maps = random_maps(3, 1)
    highest = combine_levels(maps, "maximum", (1, 1, 1))
    for level in range(0, 256, 5):
        union = np.logical_or.reduce([member[0] >= level for member in maps])
        assert ((highest >= level) == union).all()


def test_a_mean_is_rounded_once_over_all_maps_and_weights():
    maps = random_maps(2, 3)
    found = combine_levels(maps, "mean", (3, 1))
    exact = (3 * np.sum(maps[0], axis=0) + np.sum(maps[1], axis=0)) / 12
    assert (found == np.floor(exact + 0.5)).all()


def test_the_mean_of_one_model_is_that_of_its_evaluation():
    (maps,) = random_maps(1, 7)
    evaluated = mean_prediction(SectionPrediction(levels) for levels in maps)
    assert (combine_levels([maps], "mean", (1,)) == evaluated.foreground).all()


def test_many_maps_do_not_overflow():
    maps = [[np.full((2, 2), 255, np.uint8)] * 8 for _ in range(40)]
    assert (combine_levels(maps, "mean", (8,) * 40) == 255).all()
    # The largest number of maps whose sum, and what rounding adds to it, fit 16 bits.
    for count in (255, 256, 257, 258):
        total = sum_levels([np.full(1, 255, np.uint8)] * count, [1] * count)
        assert round_mean(total, count) == 255


@pytest.mark.parametrize(
    ("ensemble", "weights", "message"),
    [("median", (1, 1), "unknown ensemble"), ("vote", (2, 1), "only a mean has weights")],
)
def test_ensembles_that_are_none(ensemble, weights, message):
    with pytest.raises(BenchError, match=message):
        combine_levels(random_maps(2, 1), ensemble, weights)


def test_a_boundary_is_the_mean_where_every_model_has_one():
    foreground, edge = np.uint8([[10, 20]]), np.uint8([[100, 50]])
    both = SectionPrediction(foreground, edge)
    blend = Blend(("a", "b"), ensemble="maximum")
    mixed = blend.apply([[both], [SectionPrediction(foreground + 4)]])
    assert mixed.foreground.tolist() == [[14, 24]]
    assert mixed.boundary is None
    mixed = blend.apply([[both], [SectionPrediction(foreground, edge + 20)]])
    assert mixed.boundary.tolist() == [[110, 60]]


def test_instances_of_a_model_alone_are_kept():
    own = SectionPrediction(np.uint8([[200]]), None, np.int32([[4]]))
    assert Blend(("a",)).apply([[own]]) is own
    assert Blend(("a", "b")).apply([[own], [own]]).instances is None


def test_how_people_say_it():
    assert str(Blend(("a",))) == "a, no augmentation"
    assert str(Blend(("a",), ("flip_y",))) == "a, flip_y"
    mean = Blend(("a", "b"), ("identity", "rot90"), "mean", (2, 1))
    assert str(mean) == "mean of 2 x a + 1 x b, 2 symmetries (identity, rot90)"
    assert mean.passes == 4
