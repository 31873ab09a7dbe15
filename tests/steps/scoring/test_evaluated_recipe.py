from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bench.config.running import SegmentConfig
from bench.inference.device import choose_compute
from bench.inference.prediction_file import read_mean
from bench.inference.symmetries import SYMMETRIES
from bench.recipe.predictor import RecipePredictor
from bench.steps.scoring.recipes import find_model
from bench.steps.segment import segment
from bench.steps.serving.subject import find_segment_subject
from bench.steps.serving.work import Work
from bench.tracking.queries import fetch_artifact


@pytest.fixture
def use_searched(searched, use_store):
    use_store(searched.store)
    return searched


def test_the_recipe_is_what_the_evaluation_did(use_searched):
    run = use_searched.on_test[0]
    settings = use_searched.store.client.get_run(run).data.params
    recipe = find_model(run, use_searched.store).recipe()
    assert recipe.augmentations == tuple(SYMMETRIES)
    assert recipe.pixel_size_nm == 5.0
    assert recipe.level == 128
    assert str(recipe.opening_radius_px) == settings["cfg.opening_radius_px"]
    assert str(recipe.min_area_px) == settings["cfg.min_area_px"]
    (member,) = recipe.members
    assert (member.trained_run, member.evaluation) == (use_searched.trained[0], run)
    assert recipe.blend.passes == 8


def work_of(subject):
    cpu = choose_compute("cpu", "fp32")
    predictor = RecipePredictor.open(subject.recipe, subject.weights, cpu)
    return Work(predictor, cpu, subject.sizes, subject.origin, "tiff", Path())


def test_lengths_follow_the_image_and_what_the_user_sets_does_not(use_searched):
    """At 2.5 nm a radius is twice as many px, an area four times as many."""
    given = SegmentConfig(run_id=use_searched.on_test[0], device="cpu")
    subject = find_segment_subject(given, use_searched.store)
    recipe = subject.recipe
    found = work_of(subject).postprocess(2.5)
    assert found.opening_radius_px == 2 * recipe.opening_radius_px > 0
    assert found.min_area_px == 4 * recipe.min_area_px > 0
    subject = find_segment_subject(replace(given, min_area_px=7), use_searched.store)
    found = work_of(subject).postprocess(2.5)
    assert (found.opening_radius_px, found.min_area_px) == (2 * recipe.opening_radius_px, 7)
    assert subject.origin.endswith("Set by the user: min_area_px.")


@pytest.mark.parametrize("choice", ["auto", "paper", "none"])
def test_segment_averages_over_the_augmentations(use_searched, tmp_path, tiny_tree, choice):
    """Those of the evaluation, unless the user wants others; bit for bit the stored mean."""
    run, out = use_searched.on_test[1], tmp_path / "out"
    image = str(tiny_tree / "test/raw/s6.png")
    given = {"augmentations": choice, "pixel_size_nm": 5.0, "device": "cpu"}
    segment(SegmentConfig(run_id=run, input=image, output=str(out), **given))
    names = {
        "auto": tuple(SYMMETRIES),
        "paper": tuple(name for name in SYMMETRIES if name != "antitranspose"),
        "none": ("identity",),
    }
    stored = fetch_artifact(use_searched.store, run, "predictions.h5")
    expected = read_mean(stored, "test-s6", names[choice]).foreground
    np.testing.assert_array_equal(tifffile.imread(out / "probability/s6.tif"), expected)
