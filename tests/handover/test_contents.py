from dataclasses import replace
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.handover.contents import choose_contents
from bench.models.checkpoint import ModelInfo
from bench.recipe.recipe import Recipe, RecipeMember

INFO = ModelInfo("unet2d", {}, ("foreground", "boundary"), "vesicles", 5.0, "section", 64, 16)


def recipe_of(*names, **settings):
    members = tuple(RecipeMember(name, "scratch", 0, "run", "", "", "hash") for name in names)
    given = {"weights": (1,) * len(names)} | settings
    return Recipe("vesicles", "data", 4.0, True, members, 128, 0, 0, None, **given)


def choose(recipe, *infos, member=""):
    return choose_contents(recipe, infos, [Path(name.name) for name in recipe.members], member)


def test_one_model_gives_all_its_maps():
    model = choose(recipe_of("a"), INFO)
    assert model.plain
    assert model.channels == ("vesicles", "boundary")
    assert (model.window_px, model.pixel_size_nm) == (96, 5.0)


def test_several_models_give_the_structure_and_a_boundary_that_all_have():
    both = recipe_of("a", "b")
    assert choose(both, INFO, INFO).channels == ("vesicles", "boundary")
    without = replace(INFO, outputs=("foreground",))
    assert choose(both, INFO, without).channels == ("vesicles",)
    assert not choose(both, INFO, without).plain


def test_one_of_several_can_be_taken():
    model = choose(recipe_of("a", "b", ensemble="maximum"), INFO, INFO, member="b")
    assert [each.name for each in model.recipe.members] == ["b"]
    assert model.weights == (Path("b"),)
    assert model.plain


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tile_px": 32}, r"same windows, received tile_px of a 64, b 32: give member=NAME"),
        ({"input_pixel_size_nm": 2.0}, "input_pixel_size_nm of a 5.0, b 2.0"),
        ({"architecture": "sam"}, "b is of the network sam, which finds objects itself"),
        ({"architecture": "unet3d"}, "b is of the network unet3d, which sees volumes"),
        ({"architecture": "nnunet"}, "b is of the network nnunet, which is applied by a package"),
        ({"outputs": ("reconstruction",)}, "a model must segment, b was pretrained"),
        ({"normalisation": "other"}, "unknown normalisation 'other'"),
    ],
)
def test_what_cannot_be_handed_over_is_refused(changes, message):
    with pytest.raises(BenchError, match=message):
        choose(recipe_of("a", "b"), INFO, replace(INFO, **changes))


def test_recipes_of_other_programs_are_refused():
    with pytest.raises(BenchError, match="received one that synapse_net applies"):
        choose(recipe_of("a", segmentation="synapse_net"), INFO)
    with pytest.raises(BenchError, match="one of the recipe's models, a, b, received 'c'"):
        choose(recipe_of("a", "b"), INFO, INFO, member="c")
