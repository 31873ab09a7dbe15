"""A card says what is known, and that the rest is not."""

from dataclasses import replace

import pytest

from bench.recipe.recipe import Recipe, RecipeMember
from bench.report.intervals import section_interval
from bench.report.publication.model_card import (
    CardData,
    CardModel,
    ModelCard,
    SplitScores,
    write_card,
)

MEMBER = RecipeMember("scratch, seed 0", "scratch", 0, "r" * 32, "", "", "w" * 64)
RECIPE = Recipe(
    structure="mitochondria",
    dataset="d" * 64,
    pixel_size_nm=5.0,
    rescale=True,
    members=(MEMBER,),
    level=100,
    opening_radius_px=2,
    min_area_px=30,
    watershed=None,
    metric="dice",
)
SECTIONS = {"a": {"dice": 0.9}, "b": {"dice": 0.8}, "c": {"dice": 0.7}}
CARD = ModelCard(
    title="a-model",
    uri="models:/a-model@champion",
    recipe=RECIPE,
    models=[CardModel("scratch, seed 0", "unet2d", 5.0, "random", "r" * 32, "w" * 64)],
    data=CardData("tissue", "d" * 64, 5.0, {"train": (8, 90), "val": (2, 20), "test": (3, 31)}),
    scores=[SplitScores("val", {"dice": 0.91}), SplitScores("test", {"dice": 0.8}, SECTIONS)],
    warnings=["One section is dark."],
)


def test_it_says_data_scores_recipe_and_use():
    text = write_card(CARD)
    for words in (
        "`" + "d" * 64 + "`",
        "| train (learned from) | 8 | 90 |",
        "| test (looked at once, at the end) | 3 | 31 |",
        RECIPE.describe(),
        "`" + "w" * 64 + "`",
        "- One section is dark.",
        "--run_id models:/a-model@champion",
        'params={"pixel_size_nm": 5}',
    ):
        assert words in text
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert len(titles) == 7


def test_the_interval_is_that_of_the_sections():
    low, high = section_interval({k: v["dice"] for k, v in SECTIONS.items()}, limits=(0, 1))[0]
    rows = [line for line in write_card(CARD).splitlines() if line.startswith(("| val", "| test"))]
    assert f"| test | Dice | 0.800 | {low:.3f} to {high:.3f} | 3 sections |" in rows
    # Only the pooled score of val is kept.
    assert "| val | Dice | 0.910 | - | not kept |" in rows


def test_what_is_not_known_is_said():
    data = CardData("tissue", "d" * 64, None, missing="no run says where it lies")
    unknown = replace(CARD, data=data, scores=[], models=[replace(CARD.models[0], source="")])
    text = write_card(unknown)
    assert "is not known: no run says where it lies." in text
    assert "It was not scored." in text
    assert "It has no scores on test sections" in text
    assert "What it started from is not recorded" in text
    assert "pixel_size_nm" not in text.partition("## How to use it")[2].partition("Python")[2]


@pytest.mark.parametrize(
    ("published", "words"),
    [
        ({}, "Data set tissue: those of whoever owns it; nothing is stated here."),
        (
            {"licence": "CC BY 4.0", "citation": "A 2020"},
            "Data set tissue: CC BY 4.0. Cite: A 2020.",
        ),
    ],
)
def test_terms_of_the_data_are_passed_on(published, words):
    assert words in write_card(replace(CARD, data=replace(CARD.data, published=published)))


def test_weights_of_others_have_terms_of_their_own():
    others = replace(CARD, models=[replace(CARD.models[0], source="synapsenet:vesicles_2d")])
    assert "started from (synapsenet:vesicles_2d): the terms of whoever made them" in write_card(
        others
    )
    assert "terms of whoever made them" not in write_card(CARD)


def test_a_package_that_asks_for_more_is_named():
    model = replace(CARD.models[0], terms=("ultralytics (AGPL-3.0)",))
    assert "It is computed by ultralytics (AGPL-3.0)" in write_card(replace(CARD, models=[model]))
    assert "AGPL" not in write_card(CARD)


def test_without_a_registry_the_recipe_is_applied_from_its_folder():
    text = write_card(replace(CARD, uri=""))
    assert 'read_recipe_folder(Path("recipe"))' in text
    assert "segment_array(predictor, image, 5.0)" in text
    assert "synapse-bench segment" not in text
